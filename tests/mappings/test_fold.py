"""The pure rules by which many sightings become one record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings import fold, ids
from mappings.records import Attachment, Handle, Message, Profile, Receipt
from tests.stores.archive_world import (
    answer,
    at,
    change,
    consent,
    contact,
    email,
    message,
    phone,
    psid,
    receipt,
    watermark,
)


def archived(*sightings: Message, **others: Any) -> Any:
    return fold.fold_message(fold.join_sightings(sightings), **others)


# Sightings


def test_a_single_sighting_is_told_as_it_is() -> None:
    one = message("m1", 0, flags=["forwarded"], handles=[psid("ada"), phone(100)])
    assert fold.merge_sightings(fold.join_sightings([one])) == one


def test_the_webhook_is_believed_before_the_poll() -> None:
    merged = fold.merge_sightings(
        fold.join_sightings([message("m1", 0, seen_by="poll", text="as polled"), message("m1", 0, text="as pushed")])
    )
    assert (merged.text, merged.seen_by) == ("as pushed", "webhook")


def test_what_one_source_does_not_say_another_may() -> None:
    pushed = message("m1", 0, text=None, kind="unsupported")
    polled = message(
        "m1", 0, seen_by="poll", kind="image", attachments=[Attachment(kind="image", url="https://a.test/1")]
    )
    merged = fold.merge_sightings(fold.join_sightings([polled, pushed]))
    assert (merged.kind, merged.text, len(merged.attachments)) == ("image", "text of m1", 1)


def test_our_own_sending_knows_the_reply_and_its_author() -> None:
    echo = answer("m1", 0, platform_app_id="77", author_name=None)
    ours = answer("m1", 1, seen_by="send", reply_key="hubspot:1:2:3", author_kind="bot", author_name="Bo")
    merged = fold.merge_sightings(fold.join_sightings([echo, ours]))
    assert (merged.reply_key, merged.author_kind, merged.author_name) == ("hubspot:1:2:3", "bot", "Bo")
    assert (merged.platform_app_id, merged.seen_by) == ("77", "webhook")


@pytest.mark.parametrize("source", ["webhook", "poll", "import"])
def test_the_time_is_the_platforms_not_that_of_our_sending(source: Any) -> None:
    merged = fold.merge_sightings(
        fold.join_sightings([answer("m1", 0, seen_by="send"), answer("m1", 2, seen_by=source)])
    )
    assert merged.sent_at == at(2)


def test_a_time_of_receipt_gives_way_to_the_platforms_time() -> None:
    pushed = message("m1", 5, flags=["forwarded", "time_of_receipt"])
    polled = message("m1", 2, seen_by="poll")
    for order in permutations([pushed, polled]):
        merged = fold.merge_sightings(fold.join_sightings(order))
        assert (merged.sent_at, merged.flags) == (at(2), ["forwarded"])
    (alone,) = fold.join_sightings([pushed])
    assert (alone.sent_at, alone.flags) == (at(5), ["forwarded", "time_of_receipt"])


def test_the_first_delivery_of_two_is_where_the_raw_bytes_are() -> None:
    late = message("m1", 0, raw_ref="delivery:9#0", received_at=at(5))
    early = message("m1", 0, raw_ref="delivery:10#0", received_at=at(1))
    for order in permutations([late, early]):
        (joined,) = fold.join_sightings(order)
        assert (joined.raw_ref, joined.received_at) == ("delivery:10#0", at(1))


def test_a_message_that_was_understood_later_is_no_more_unsupported() -> None:
    for order in permutations([message("m1", 0, kind="unsupported", text=None), message("m1", 0, kind="audio")]):
        (joined,) = fold.join_sightings(order)
        assert joined.kind == "audio"


def test_the_platforms_own_id_stays_the_first_handle() -> None:
    for order in permutations(
        [message("m1", 0, handles=[phone(100)]), message("m1", 0, handles=[psid("ada"), phone(100)])]
    ):
        (joined,) = fold.join_sightings(order)
        assert joined.handles == [psid("ada"), phone(100)]


SIGHTINGS = st.builds(
    lambda **fields: message("m1", 0, **fields),
    text=st.sampled_from([None, "", "a", "b", "aa"]),
    sent_at=st.sampled_from([at(0), at(1)]),
    received_at=st.sampled_from([None, at(2), at(3)]),
    raw_ref=st.sampled_from([None, "delivery:1#0", "delivery:2#0"]),
    seen_by=st.sampled_from(fold.SOURCES),
    kind=st.sampled_from(["text", "image", "unsupported"]),
    handles=st.lists(st.sampled_from([psid("ada"), psid("bo"), phone(100), email("ada")]), max_size=3, unique=True),
    conversation_key=st.sampled_from(["messenger:1:a", "messenger:1:b"]),
    flags=st.lists(st.sampled_from(["forwarded", "standby"]), max_size=2),
    author_kind=st.sampled_from(["agent", "bot"]),
    author_name=st.sampled_from([None, "Bo"]),
    reply_key=st.sampled_from([None, "hubspot:1:2:3"]),
    profile=st.sampled_from([None, Profile(name="Ada"), Profile(name="Ada", locale="en")]),
    content=st.sampled_from([None, {"latitude": 1.5}, {"latitude": 2, "name": "x"}]),
    person_id=st.sampled_from([None, "p1", "p2"]),
    origin=st.sampled_from(["direct", "ad", "comment"]),
    thread_ids=st.lists(st.sampled_from(["a", "b"]), max_size=2),
)
CHANGES = st.builds(
    lambda **fields: change("m1", "edit", 0, **fields),
    text=st.sampled_from([None, "a", "b"]),
    sequence=st.sampled_from([None, 1, 2]),
    changed_at=st.sampled_from([at(0), at(1)]),
    handles=st.sampled_from([[], [psid("ada")], [psid("bo"), psid("ada")]]),
)
RECEIPTS = st.builds(
    lambda **fields: receipt("m1", "failed", 0, **fields),
    occurred_at=st.sampled_from([at(0), at(1)]),
    up_to_at=st.sampled_from([None, at(1), at(2)]),
    code=st.sampled_from([None, "131047", "131026"]),
    reason=st.sampled_from([None, "window closed", "no such number"]),
    actor=st.sampled_from(["nobody", "agent"]),
    reply_key=st.sampled_from([None, "hubspot:1:2:3", "hubspot:1:2:4"]),
    raw_ref=st.sampled_from([None, "delivery:1#0"]),
)
CONSENTS = st.builds(consent, st.sampled_from(["opted_in", "opted_out"]), st.sampled_from([0, 1]))
CONTACTS = st.builds(
    lambda minutes, **fields: contact("1", minutes, **fields),
    st.sampled_from([0, 1]),
    name=st.sampled_from([None, "Ada", "Bo"]),
    deleted=st.booleans(),
)
JOINS: list[tuple[Any, Callable[[Any, Any], Any]]] = [
    (CHANGES, fold.join_changes),
    (RECEIPTS, fold.join_receipts),
    (CONSENTS, fold.join_consents),
    (CONTACTS, fold.join_contacts),
]


@given(st.lists(SIGHTINGS, min_size=1, max_size=5), st.data())
def test_sightings_end_the_same_in_any_order_repeated_and_in_pieces(sightings: list[Message], data: Any) -> None:
    whole = fold.join_sightings(sightings)
    shuffled = data.draw(st.permutations([*sightings, data.draw(st.sampled_from(sightings))]))
    cut = data.draw(st.integers(0, len(shuffled)))
    pieces = fold.join_sightings([*fold.join_sightings(shuffled[:cut]), *fold.join_sightings(shuffled[cut:])])
    assert [one.model_dump_json() for one in pieces] == [one.model_dump_json() for one in whole]
    assert fold.join_sightings(whole) == whole


@pytest.mark.parametrize(("records", "join"), JOINS, ids=["changes", "receipts", "consents", "contacts"])
def test_a_join_does_not_care_for_order_grouping_or_repetition(records: Any, join: Callable[[Any, Any], Any]) -> None:
    @given(records, records, records)
    def holds(a: Any, b: Any, c: Any) -> None:
        assert join(a, a) == a
        assert join(a, b) == join(b, a)
        assert join(join(a, b), c) == join(a, join(b, c))

    holds()


# Changes


def test_the_edit_with_the_highest_sequence_wins_over_a_later_time() -> None:
    edits = [
        change("m1", "edit", 9, text="third by time", sequence=2),
        change("m1", "edit", 3, text="last", sequence=3),
    ]
    for order in permutations(edits):
        one = archived(message("m1", 0, text_stripped="x", text_stripped_by="y"), changes=order)
        assert (one.text, one.edited_at, one.text_stripped) == ("last", at(3), None)


def test_an_unsent_message_has_no_content_whatever_came_after() -> None:
    one = archived(
        message("m1", 0, attachments=[Attachment(kind="image")], content={"a": 1}, subject="s"),
        changes=[change("m1", "edit", 9, text="again"), change("m1", "unsend", 5), change("m1", "react", 6, emoji="+")],
    )
    assert (one.text, one.attachments, one.content, one.subject, one.reactions) == (None, [], None, None, [])
    assert one.unsent_at == at(5)


def test_each_author_has_the_last_reaction_only() -> None:
    changes = [
        change("m1", "react", 1, emoji="heart"),
        change("m1", "react", 2, emoji="thumb"),
        change("m1", "react", 3, emoji="heart", author_kind="agent"),
        change("m1", "react", 1, emoji="sad", handles=[psid("bo")]),
        change("m1", "unreact", 2, handles=[psid("bo")]),
    ]
    for order in permutations(changes):
        assert archived(message("m1", 0), changes=order).reactions == ["heart", "thumb"]


# Receipts

LADDER = ["queued", "unknown", "accepted", "sent", "delivered", "read"]


@pytest.mark.parametrize(("low", "high"), list(pairwise(LADDER)))
def test_a_status_never_moves_down(low: str, high: str) -> None:
    for order in permutations([receipt("m1", high, 1), receipt("m1", low, 2)]):
        assert archived(answer("m1", 0), receipts=order).status == high


@pytest.mark.parametrize("final", ["failed", "refused"])
def test_failed_and_refused_are_final(final: str) -> None:
    receipts = [receipt("m1", status, 1) for status in LADDER] + [receipt("m1", final, 0, reason="window closed")]
    one = archived(answer("m1", 0), receipts=receipts)
    assert (one.status, one.status_at, one.status_reason) == (final, at(0), "window closed")


def test_the_earliest_time_of_a_status_counts() -> None:
    joined = fold.join_receipts(receipt("m1", "read", 5), receipt("m1", "read", 3))
    assert joined.occurred_at == at(3)


def test_a_watermark_speaks_of_own_messages_up_to_its_time_only() -> None:
    marks = [fold.Watermark("read", at(5), at(8))]
    assert archived(answer("m1", 5), watermarks=marks).status == "read"
    assert archived(answer("m2", 6), watermarks=marks).status is None
    assert archived(message("m3", 1), watermarks=marks).status is None


def test_the_first_watermark_that_reached_a_message_gives_the_time() -> None:
    marks = [fold.Watermark("read", at(9), at(9)), fold.Watermark("read", at(5), at(6))]
    assert archived(answer("m1", 5), watermarks=marks).status_at == at(6)


def test_what_the_platform_says_of_the_message_outranks_what_we_noted_of_the_reply() -> None:
    ours = receipt("m1", "refused", 0, subject_key="hubspot:1:2:3", subject_kind="reply")
    sent = answer("m1", 1, reply_key="hubspot:1:2:3")
    assert archived(sent, reply_receipts=[ours]).status == "refused"
    assert archived(sent, reply_receipts=[ours], receipts=[receipt("m1", "delivered", 2)]).status == "delivered"


def test_an_echo_learns_its_reply_from_a_receipt_that_names_it() -> None:
    noted = receipt("m1", "accepted", 0, subject_key="hubspot:1:2:3", subject_kind="reply")
    assert archived(answer("m1", 1), reply_receipts=[noted]).reply_key == "hubspot:1:2:3"
    assert archived(answer("m1", 1), receipts=[receipt("m1", "sent", 0, reply_key="k:1:2:3")]).reply_key == "k:1:2:3"


def test_a_watermark_receipt_tells_the_furthest_reach() -> None:
    joined = fold.join_receipts(watermark("read", 5, 9), watermark("read", 7, 10))
    assert (joined.up_to_at, joined.occurred_at) == (at(7), at(10))


# Consents and contacts


def test_of_two_decisions_at_one_time_the_no_counts() -> None:
    yes, no = consent("opted_in", 1), consent("opted_out", 1)
    assert fold.join_consents(yes, no) == fold.join_consents(no, yes) == no
    later = consent("opted_in", 2)
    assert fold.join_consents(later, no) == later


def test_the_newer_version_of_a_contact_counts() -> None:
    new, old = contact("1", 2, name="Ada"), contact("1", 1, deleted=True)
    assert fold.join_contacts(old, new) == fold.join_contacts(new, old) == new


# Conversations and persons


@pytest.mark.parametrize(
    ("one", "role"),
    [
        (message("m", 0), "in"),
        (message("m", 0, flags=["auto_reply"]), "none"),
        (message("m", 0, flags=["bounce"]), "none"),
        (message("m", 0, author_kind="system"), "none"),
        (answer("m", 0), "out"),
        (answer("m", 0, author_kind="bot"), "out"),
        (answer("m", 0, flags=["auto_reply"]), "none"),
        (answer("m", 0, author_kind="system"), "none"),
    ],
)
def test_who_asks_and_who_answers(one: Message, role: str) -> None:
    assert fold.role_of(archived(one)) == role


def test_a_reply_that_failed_is_no_answer() -> None:
    assert fold.role_of(archived(answer("m", 0), receipts=[receipt("m", "failed", 1)])) == "none"


def conversation(*facts: fold.MessageFacts, channel: str = "messenger") -> Any:
    return fold.derive_conversation("messenger:1:ada", channel, "1", facts, [[psid("ada")]])


def test_a_comment_opens_no_window() -> None:
    public = fold.derive_conversation(
        ids.conversation_key("messenger", "1", "comment:9"), "messenger", "1", [fold.MessageFacts(at(1), "in")]
    )
    assert (public.window_closes_at, public.unanswered_since) == (None, at(1))


def test_unanswered_since_is_the_oldest_question_after_the_last_answer() -> None:
    roles: list[tuple[int, fold.Role]] = [(9, "in"), (1, "in"), (2, "out"), (5, "in"), (7, "none")]
    one = conversation(*(fold.MessageFacts(at(minutes), role) for minutes, role in roles))
    assert (one.unanswered_since, one.last_inbound_at, one.last_outbound_at) == (at(5), at(9), at(2))
    assert (one.message_count, one.first_message_at) == (5, at(1))


def test_an_answer_leaves_nothing_unanswered() -> None:
    assert conversation(fold.MessageFacts(at(1), "in"), fold.MessageFacts(at(2), "out")).unanswered_since is None


def test_what_the_customer_took_back_asks_no_answer_but_opened_the_window() -> None:
    one = conversation(fold.MessageFacts(at(1), "in", unsent=True))
    assert one.unanswered_since is None
    assert one.window_closes_at == at(1) + timedelta(hours=24)


def test_mail_has_no_window() -> None:
    assert conversation(fold.MessageFacts(at(1), "in"), channel="email").window_closes_at is None


def test_a_platform_time_at_the_end_of_all_times_has_no_window() -> None:
    end_of_time = at(0).replace(year=9999, month=12, day=31, hour=23)
    assert conversation(fold.MessageFacts(end_of_time, "in")).window_closes_at is None


def test_a_conversation_leaves_the_request_folder_when_somebody_answers() -> None:
    request = fold.MessageFacts(at(1), "in", request_folder=True)
    assert conversation(request).request_folder
    assert not conversation(request, fold.MessageFacts(at(2), "out")).request_folder


def test_a_request_vanishes_thirty_days_after_the_last_word() -> None:
    request = fold.MessageFacts(at(1), "in", request_folder=True)
    assert conversation(request).request_vanishes_at == at(1) + timedelta(days=30)
    again = fold.MessageFacts(at(9), "in", request_folder=True)
    assert conversation(again, request).request_vanishes_at == at(9) + timedelta(days=30)
    assert conversation(request, fold.MessageFacts(at(2), "out")).request_vanishes_at is None


def test_what_nobody_ever_answered_may_be_a_request() -> None:
    question, answer = fold.MessageFacts(at(3), "in"), fold.MessageFacts(at(1), "out")
    assert conversation(question).request_vanishes_at == at(3) + timedelta(days=30)
    assert not conversation(question).request_folder
    assert conversation(question, answer).request_vanishes_at is None
    assert conversation(fold.MessageFacts(at(3), "in", unsent=True)).request_vanishes_at is None
    assert conversation(question, channel="whatsapp").request_vanishes_at is None
    key = ids.conversation_key("messenger", "1", "comment:9")
    assert fold.derive_conversation(key, "messenger", "1", [question]).request_vanishes_at is None
    end_of_time = fold.MessageFacts(at(0).replace(year=9999, month=12), "in")
    assert conversation(end_of_time).request_vanishes_at is None


def test_a_reply_on_one_channel_does_not_answer_a_question_on_another() -> None:
    asked = conversation(fold.MessageFacts(at(1), "in"), channel="email")
    answered = conversation(fold.MessageFacts(at(5), "in"), fold.MessageFacts(at(6), "out"))
    person = fold.derive_person("p1", [psid("ada"), email("ada")], [asked, answered], name="Ada")
    assert (person.unanswered_since, person.last_outbound_at) == (at(1), at(6))
    assert (person.channels, person.message_count) == (["email", "messenger"], 3)
    assert person.window_closes_at == at(5) + timedelta(hours=24)


def test_where_somebody_wrote_last_is_where_the_last_message_came_from() -> None:
    mailed = conversation(fold.MessageFacts(at(2), "in"), channel="email")
    answered = conversation(fold.MessageFacts(at(1), "in"), fold.MessageFacts(at(6), "out"))
    for threads in ([mailed, answered], [answered, mailed]):
        assert fold.derive_person("p1", [psid("ada")], threads).last_inbound_channel == "email"
    assert fold.derive_person("p1", [psid("ada")], []).last_inbound_channel is None


def test_a_no_of_one_handle_outweighs_every_yes_on_that_channel() -> None:
    decisions = [
        consent("opted_in", 9), consent("opted_out", 1, who="bo"), consent("opted_in", 2, channel="email"),
        consent("opted_out", 3, channel="email", purpose="service"), consent("opted_out", 4, channel="line"),
    ]  # fmt: skip
    for order in permutations(decisions):
        person = fold.derive_person("p1", [psid("ada")], [], consents=order)
        assert (person.opted_in, person.opted_out) == (["email"], ["line", "messenger"])
    assert fold.derive_person("p1", [psid("ada")], []).opted_out == [], "nobody said no, which is something to say"


def test_handles_join_with_the_platforms_id_first() -> None:
    handles: list[list[Handle]] = [[phone(100), email("ada")], [], [psid("ada"), phone(100)]]
    for order in permutations(handles):
        assert fold.join_handles(order) == [psid("ada"), email("ada"), phone(100)]


def test_every_status_has_its_rank() -> None:
    statuses = Receipt.model_fields["status"].annotation
    assert set(fold.STATUS_RANK) == set(statuses.__args__)  # type: ignore[union-attr]
