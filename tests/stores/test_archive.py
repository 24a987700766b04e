"""The archive: any order, any repetition, one state; who is who follows the graph; readers miss nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mappings import ids
from mappings.fold import MessageFacts, Role, derive_conversation
from mappings.records import ArchivedMessage, Conversation, Person, Profile, Record
from stores.archive import EXPORTED, Archive, conversations
from stores.archive.conversations import vanishing_requests
from stores.archive.erasing import Known
from stores.archive.writing import encode, unseal
from stores.database import Stores
from stores.graph.erasing import Subject
from tests.stores.archive_world import (
    MAILBOX,
    PAGE,
    PlainGraph,
    answer,
    at,
    change,
    consent,
    contact,
    email,
    empty,
    fold,
    mail,
    message,
    phone,
    psid,
    receipt,
    tables,
    told,
    watermark,
)


@pytest.fixture
def graph() -> PlainGraph:
    return PlainGraph()


@pytest.fixture
def archive(stores: Stores, graph: PlainGraph) -> Archive:
    return Archive(stores, graph)  # type: ignore[arg-type]  # the same face


def stored(archive: Archive, name: str) -> ArchivedMessage:
    found = archive.message(ids.message_key("messenger", PAGE, name))
    assert found is not None
    return found


def conversation_of(archive: Archive, who: str = "ada") -> Conversation:
    found = archive.conversation(ids.conversation_key("messenger", PAGE, who))
    assert found is not None
    return found


def person(archive: Archive, person_id: str) -> Person:
    found = archive.person(person_id)
    assert found is not None
    return found


# Two mails under one Message-ID


def test_another_mail_under_a_known_message_id_is_a_message_of_its_own(archive: Archive) -> None:
    first = mail("a", 0, text="Where is my order?")
    others = [
        mail("a", 0, who="bo", text="Where is my order?"),
        mail("a", 1, text="Where is my order?"),
        mail("a", 0, text="Cancel my order"),
        mail("a", 0, text="Where is my order?", subject="Another"),
        mail("a", 0, text="Where is my order?", direction="outbound", author_kind="agent"),
    ]
    fold(archive, first, *others)
    fold(archive, *others)
    fold(archive, first)
    messages = [record for _, record in archive.changes("messages")]
    assert sorted((one["handles"][0]["value"], one["text"], one["subject"], one["direction"]) for one in messages) == (
        sorted((one.handles[0].value, one.text, one.subject, one.direction) for one in [first, *others])
    )
    assert len({one["message_key"] for one in messages}) == 6
    assert archive.message(first.message_key) is not None


def test_copies_of_one_mail_are_one_message(archive: Archive) -> None:
    fold(archive, mail("a", 0, raw_ref="imap:INBOX/1/1"), mail("a", 0, raw_ref="imap:Sent/1/9"))
    fold(archive, mail("a", 0, text=None, flags=["oversized"]), mail("a", 0))
    assert len(archive.changes("messages")) == 1


def test_our_reply_keeps_the_text_that_we_sent(archive: Archive) -> None:
    token = ids.reply_token("hubspot:4711:55:1")
    ours = {"direction": "outbound", "author_kind": "agent", "reply_token": token}
    fold(archive, mail("a", 0, **ours, seen_by="send", text="as sent"))
    fold(archive, mail("a", 1, **ours, seen_by="poll", text="as somebody else would have it"))
    ((_, message),) = archive.changes("messages")
    assert message["text"] == "as sent"


# Any order, any repetition

REPLY = "hubspot:4711:55:1"
WORLD: tuple[Record, ...] = (
    message("m1", 0, received_at=at(1), raw_ref="delivery:1#0", person_id="p-ada"),
    message("m1", 0, received_at=at(9), raw_ref="delivery:9#0"),
    message("m1", 0, seen_by="poll", text="as polled", handles=[psid("ada"), phone(100)]),
    answer("m2", 5, seen_by="send", reply_key=REPLY, author_kind="bot", author_name="Bo"),
    answer("m2", 4, raw_ref="delivery:3#0"),
    message("m3", 6, who="bo", profile=Profile(name="Bo Diddley")),
    answer("m4", 18),
    message("m5", 30, flags=["request_folder"]),
    answer("m6", 40, reply_token=ids.reply_token("hubspot:4711:55:2")),
    change("m1", "edit", 3, text="second"),
    change("m1", "edit", 4, text="third", sequence=1),
    change("m1", "react", 5, emoji="heart"),
    change("m1", "unreact", 6),
    change("m3", "edit", 7, text="secret", handles=[psid("bo")]),
    change("m3", "unsend", 8, handles=[psid("bo")]),
    change("nobody knows it", "edit", 9, text="kept"),
    receipt("m2", "sent", 5),
    receipt("m2", "sent", 4.5, reply_key=REPLY),
    receipt("m2", "delivered", 6),
    receipt("-", "queued", 1, subject_key="hubspot:4711:55:2", subject_kind="reply"),
    watermark("read", 4.5, 10),
    watermark("read", 20, 25),
    watermark("delivered", 2, 3),
    mail("a", 0),
    mail("b", 5, "a"),
    mail("c", 6, "b"),
    mail("d", 7, "c", "x", handles=[email("ada"), email("cc")]),
    mail("e", 9, "q", who="bo"),
    mail("f", 10, "q", "a"),
    mail("g", 11, "lost"),
    consent("opted_in", 0),
    consent("opted_out", 1),
    consent("opted_in", 1),
    contact("1", 0, email("ada"), name="Ada L"),
    contact("1", 5, email("ada"), name="Ada Lovelace", merged_record_ids=["2"]),
    contact("2", 9, email("bo")),
    contact("3", 1, person_id="p-stamped"),
)


@pytest.fixture
def known_people(graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"), email("ada"), name="Ada Lovelace")
    graph.assign("p-bo", psid("bo"))


@pytest.mark.usefixtures("known_people")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_any_repetition_tell_the_same(stores: Stores, archive: Archive, data: Any) -> None:
    empty(stores)
    fold(archive, *WORLD)
    reference = told(archive)
    empty(stores)
    again = data.draw(st.lists(st.sampled_from(WORLD), max_size=12))
    order = data.draw(st.permutations([*WORLD, *again]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=12)))
    for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        fold(archive, *order[start:end])
    assert told(archive) == reference


THREADED = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefxy"), max_size=3), st.sampled_from(["ada", "bo"])
    ),
    max_size=7,
    unique_by=lambda one: one[0],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(threads=THREADED, data=st.data())
def test_mail_threads_join_the_same_in_any_order(stores: Stores, archive: Archive, threads: Any, data: Any) -> None:
    mails = [mail(name, minute, *refers_to, who=who) for minute, (name, refers_to, who) in enumerate(threads)]
    empty(stores)
    fold(archive, *mails)
    reference = told(archive)
    empty(stores)
    for one in data.draw(st.permutations(mails)):
        fold(archive, one)
    assert told(archive) == reference


SENT = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([(1,), (2, 1), (1, 2)])), min_size=1, max_size=3)
CUTS = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 4)), min_size=1, max_size=3, unique=True)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=SENT, cuts=CUTS, data=st.data())
def test_whenever_it_is_learnt_that_a_phone_changed_hands(stores: Stores, sent: Any, cuts: Any, data: Any) -> None:
    messages = [
        message(f"m{number}", minutes, handles=[phone(one) for one in phones])
        for number, (minutes, phones) in enumerate(sent)
    ]
    changes_of_hands = [(phone(one), at(minutes + 0.5)) for one, minutes in cuts]
    graph = PlainGraph()
    graph.cut = changes_of_hands
    empty(stores)
    archive = Archive(stores, graph)  # type: ignore[arg-type]  # the same face
    fold(archive, *messages)
    reference = told(archive), heads(stores)
    empty(stores)
    graph.cut = []
    for one in data.draw(st.permutations([*messages, *changes_of_hands])):
        if isinstance(one, tuple):
            graph.cut = [*graph.cut, one]
            fold(archive)
        else:
            fold(archive, one)
    left = [one for one in told(archive) if '"message_count": 0' not in one]  # told as empty, so that readers let go
    assert (left, heads(stores)) == reference


def heads(stores: Stores) -> list[tuple[str, str]]:
    """Whose each message is, by marks."""
    rows = stores.database("archive").query("SELECT message_mark, head_mark FROM message ORDER BY message_mark")
    return [tuple(row) for row in rows]


def test_the_same_input_again_writes_nothing(archive: Archive) -> None:
    fold(archive, *WORLD)
    before = archive.high_water()
    assert fold(archive, *reversed(WORLD)) == {}
    assert archive.high_water() == before


def test_a_fold_that_fails_leaves_nothing_behind(archive: Archive) -> None:
    with pytest.raises(Exception, match="empty"):
        fold(archive, message("m1", 0), mail("a", 0, account=""))
    assert told(archive) == []
    assert archive.high_water() == 0


# Content that was taken back


def everything_kept(stores: Stores) -> str:
    """All that the archive's file says to who has the key."""
    database, texts = stores.database("archive"), []
    for table in tables(stores):
        for row in database.query(f"SELECT * FROM {table}"):
            texts += [stores.codec.decrypt(one).decode() if isinstance(one, bytes) else str(one) for one in tuple(row)]
    return "\n".join(texts)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_what_was_unsent_is_kept_nowhere(stores: Stores, archive: Archive, order: tuple[int, ...]) -> None:
    records = (
        message("m1", 0, text="canary one", content={"caption": "canary two"}),
        message("m1", 0, seen_by="poll", text="canary three"),
        change("m1", "edit", 1, text="canary four"),
        change("m1", "unsend", 2),
    )
    for index in order:
        fold(archive, records[index])
    assert "canary" not in everything_kept(stores)
    one = stored(archive, "m1")
    assert (one.text, one.unsent_at) == (None, at(2))
    assert [one.text for one in archive.changes_of(one.message_key)] == [None, None]


def test_nothing_personal_stands_in_clear_in_the_file(stores: Stores, archive: Archive) -> None:
    fold(archive, *WORLD)
    database, clear = stores.database("archive"), []
    for table in tables(stores):
        for row in database.query(f"SELECT * FROM {table}"):
            clear += [str(one) for one in tuple(row) if not isinstance(one, bytes)]
    text = "\n".join(clear)
    for personal in ("ada@", "+1415", "mail.example", "text of", "m1", "Lovelace", "lovelace", PAGE, MAILBOX):
        assert personal not in text


def test_all_versions_of_an_edited_message_are_kept(archive: Archive) -> None:
    fold(archive, message("m1", 0), change("m1", "edit", 2, text="last"), change("m1", "edit", 1, text="first"))
    assert [one.text for one in archive.changes_of(stored(archive, "m1").message_key)] == ["first", "last"]
    assert stored(archive, "m1").text == "last"


# Receipts


def test_a_receipt_may_come_before_its_message(archive: Archive) -> None:
    fold(archive, receipt("m1", "read", 5), receipt("m1", "delivered", 7))
    fold(archive, answer("m1", 1))
    assert stored(archive, "m1").status == "read"
    key = ids.message_key("messenger", PAGE, "m1")
    assert [one.status for one in archive.receipts_for(key)] == ["read", "delivered"]


def test_a_watermark_covers_a_message_that_comes_later_but_was_sent_before(archive: Archive) -> None:
    fold(archive, watermark("read", 10, 12))
    fold(archive, answer("early", 9), answer("late", 11))
    assert (stored(archive, "early").status, stored(archive, "late").status) == ("read", None)


def test_a_new_watermark_changes_only_what_it_newly_covers(archive: Archive) -> None:
    fold(archive, answer("m1", 1), answer("m2", 5), watermark("read", 2, 3))
    assert fold(archive, watermark("read", 6, 7)) == {"receipts": 1, "messages": 1}
    assert stored(archive, "m1").status_at == at(3)


def test_a_reply_is_found_by_its_token(archive: Archive) -> None:
    token = ids.reply_token(REPLY)
    assert archive.by_reply_token(token) == (None, [])
    fold(archive, receipt("-", "accepted", 1, subject_key=REPLY, subject_kind="reply"))
    assert [one.status for one in archive.by_reply_token(token)[1]] == ["accepted"]
    fold(archive, answer("m1", 2, reply_token=token), receipt("m1", "read", 3))
    key, receipts = archive.by_reply_token(token)
    assert key == ids.message_key("messenger", PAGE, "m1")
    assert [one.status for one in receipts] == ["accepted", "read"]
    assert stored(archive, "m1").reply_key == REPLY


def test_a_token_that_only_a_status_carries_finds_the_reply(archive: Archive) -> None:
    fold(archive, receipt("m1", "sent", 1, reply_token=ids.reply_token(REPLY)))
    assert [one.status for one in archive.by_reply_token(ids.reply_token(REPLY))[1]] == ["sent"]


# Conversations


def test_a_conversation_is_derived_from_its_messages(archive: Archive) -> None:
    fold(archive, message("m1", 1), answer("m2", 2), message("m3", 5, flags=["auto_reply"]), message("m4", 9))
    one = conversation_of(archive)
    assert (one.message_count, one.last_inbound_at, one.last_outbound_at) == (4, at(9), at(2))
    assert (one.unanswered_since, one.window_closes_at) == (at(9), at(9) + timedelta(hours=24))


Line = tuple[int, Role, bool, bool, str]
SELDOM = st.sampled_from([False, False, False, True])
LINES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["in", "in", "in", "out", "none"]), SELDOM, SELDOM,
              st.sampled_from(["ada", "ada", "bo"])),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES)
@example(lines=[(1, "out", False, False, "ada"), (2, "in", True, False, "ada"), (3, "in", False, False, "ada")])
def test_a_conversation_is_what_all_its_messages_come_to(stores: Stores, lines: list[Line]) -> None:
    empty(stores)
    key = ids.conversation_key("messenger", PAGE, "ada")
    records: list[Record] = []
    for number, (minutes, role, unsent, requested, who) in enumerate(lines):
        flags = [*(["auto_reply"] if role == "none" else []), *(["request_folder"] if requested else [])]
        made = answer if role == "out" else message
        records.append(made(f"m{number}", minutes, flags=flags, conversation_key=key, handles=[psid(who)]))
        if unsent:
            records.append(change(f"m{number}", "unsend", minutes))
    archive = Archive(stores)
    fold(archive, *records)
    expected = derive_conversation(
        key, "messenger", PAGE,
        [MessageFacts(at(minutes), role, unsent, requested) for minutes, role, unsent, requested, _ in lines],
        [[psid(who)] for *_, who in lines],
    )  # fmt: skip
    assert conversation_of(archive) == expected


@pytest.mark.sqlite
def test_of_a_long_conversation_nothing_but_the_index_is_read(stores: Stores) -> None:
    sql = conversations.ALIKE.replace("[keys]", "('a', 'b')")
    steps = [row["detail"] for row in stores.database("archive").query(f"EXPLAIN QUERY PLAN {sql}")]
    assert "SEARCH message USING COVERING INDEX message_conversation" in steps[0]


def test_a_message_to_hundreds_is_archived(archive: Archive) -> None:
    everybody = [psid(f"somebody {number}") for number in range(400)]
    fold(archive, message("m1", 1, handles=everybody))
    assert len(conversation_of(archive).handles) == 400


def test_the_subject_of_a_conversation_is_that_of_its_first_mail(archive: Archive) -> None:
    fold(archive, mail("c", 3, "a"), mail("b", 3, "a"), mail("d", 1, "a", subject=None), mail("a", 5))
    assert [record["subject"] for _, record in archive.changes("conversations")] == ["subject of b"]


def test_requests_about_to_vanish_are_told_the_first_first(stores: Stores, archive: Archive) -> None:
    day = 24 * 60
    fold(archive, message("m1", 2 * day, who="ada"), message("m2", 1 * day, who="bo", flags=["request_folder"]))
    fold(archive, message("m3", 0, who="cy"), answer("m4", 1, who="cy"), message("m5", 3 * day, who="dee"))

    def told(days: float, within: float = 7) -> list[tuple[str, bool]]:
        found = vanishing_requests(stores, at(days * day), timedelta(days=within))
        return [(one.handles[0].value, one.request_folder) for one in found]

    assert told(25) == [("bo", True), ("ada", False)]
    assert told(24, within=6.9) == []
    assert told(31) == [("ada", False), ("dee", False)]
    assert told(33) == []
    fold(archive, answer("m6", 4 * day, who="dee"))
    assert told(31) == [("ada", False)]


def test_a_failed_reply_leaves_the_customer_unanswered(archive: Archive) -> None:
    fold(archive, message("m1", 1), answer("m2", 2))
    assert conversation_of(archive).unanswered_since is None
    fold(archive, receipt("m2", "failed", 3, code="551"))
    assert conversation_of(archive).unanswered_since == at(1)


def test_a_late_message_stands_at_its_own_time(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"))
    fold(archive, message("m2", 60 * 24 * 7), answer("m3", 60 * 24 * 7 + 1))
    fold(archive, message("m1", 0))
    assert [one.text for one in archive.thread("p-ada")] == ["text of m1", "text of m2", "text of m3"]
    assert conversation_of(archive).unanswered_since is None


def test_messages_of_one_second_stand_in_the_order_of_arrival(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"))
    fold(archive, message("a", 1, received_at=at(3)), message("b", 1, received_at=at(2)))
    assert [one.text for one in archive.thread("p-ada")] == ["text of b", "text of a"]
    assert [one.text for one in archive.messages_of(conversation_of(archive).conversation_key)] == [
        "text of b",
        "text of a",
    ]


def test_mails_that_refer_to_each_other_are_one_conversation_per_customer(archive: Archive) -> None:
    fold(archive, mail("c", 3, "b", "a"), mail("other", 4, "a", who="bo"))
    fold(archive, mail("a", 1), mail("b", 2, "a"))
    rows = archive.changes("conversations")
    assert sorted((one["message_count"], one["subject"]) for _, one in rows) == [
        (1, "subject of other"),
        (3, "subject of a"),
    ]
    keys = {one["conversation_key"] for _, one in archive.changes("messages")}
    assert keys == {one["conversation_key"] for _, one in rows}


def test_a_new_mail_does_not_rename_its_thread(archive: Archive) -> None:
    fold(archive, mail("m", 1), mail("z", 2, "m"))
    (before,) = [one["conversation_key"] for _, one in archive.changes("conversations")]
    fold(archive, mail("a", 3, "z", "m"), mail("b", 4, "a"))
    assert {one["conversation_key"] for _, one in archive.changes("conversations")} == {before}


def test_an_absorbed_conversation_is_told_empty_to_who_may_have_seen_it(archive: Archive) -> None:
    fold(archive, mail("a", 1), mail("x", 2))
    seen = archive.high_water()
    fold(archive, mail("y", 3, "a", "x"))
    after = [record for _, record in archive.changes("conversations", seen)]
    assert sorted(one["message_count"] for one in after) == [0, 3]
    absorbed = next(one for one in after if not one["message_count"])
    assert (absorbed["unanswered_since"], absorbed["handles"]) == (None, [])
    assert archive.conversation(absorbed["conversation_key"]) is None
    assert [one["message_count"] for _, one in archive.changes("conversations")] == [3]
    moved = {one["conversation_key"] for _, one in archive.changes("messages", seen)}
    assert absorbed["conversation_key"] not in moved


def test_a_receipt_of_a_mail_names_the_final_conversation(archive: Archive) -> None:
    fold(archive, mail("b", 2, "a"), mail("a", 1))
    key = mail("b", 2).message_key
    fold(archive, receipt("-", "failed", 3, subject_key=key, conversation_key="email:provisional:one", channel="email"))
    (bounce,) = archive.receipts_for(key)
    one = archive.message(key)
    assert one is not None
    assert bounce.conversation_key == one.conversation_key != "email:provisional:one"


# Persons


def test_a_person_is_whose_handles_the_graph_says(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"), email("ada"), name="Ada Lovelace")
    fold(archive, message("m1", 1, person_id="an old stamp"), mail("a", 2))
    one = person(archive, "p-ada")
    assert (one.name, one.channels, one.message_count, one.unanswered_since) == (
        "Ada Lovelace", ["email", "messenger"], 2, at(1),
    )  # fmt: skip
    assert stored(archive, "m1").person_id == "p-ada"
    assert [one.channel for one in archive.conversations_of("p-ada")] == ["email", "messenger"]


def test_a_person_without_a_message_exists(archive: Archive, graph: PlainGraph) -> None:
    record = contact("1", 1, email("ada"))
    graph.assign("p-ada", *record.handles, name="Ada")
    fold(archive, record)
    assert person(archive, "p-ada").message_count == 0
    assert archive.changes("contacts")[0][1]["person_id"] == "p-ada"


def test_the_stamp_counts_where_the_graph_knows_nothing(archive: Archive, graph: PlainGraph) -> None:
    fold(archive, message("m1", 1, person_id="p-1"))
    assert person(archive, "p-1").handles == [psid("ada")]
    graph.merged["p-1"] = "p-2"
    graph.touch("p-1", "p-2")
    archive.follow_graph()
    assert stored(archive, "m1").person_id == "p-2"


def test_a_merge_moves_conversations_and_is_told(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-1", psid("ada"))
    graph.assign("p-2", email("ada"))
    fold(archive, message("m1", 1), mail("a", 2))
    seen = archive.high_water()
    graph.merge("p-2", "p-1")
    assert archive.follow_graph()
    assert not archive.follow_graph()
    ((_, told_change),) = archive.changes("person_changes", seen)
    (mail_thread,) = [one for one in archive.conversations_of("p-1") if one.channel == "email"]
    assert (told_change["change"], told_change["from_person_ids"], told_change["into_person_id"]) == (
        "merge",
        ["p-2"],
        "p-1",
    )
    assert told_change["conversation_keys"] == [mail_thread.conversation_key]
    assert person(archive, "p-1").message_count == 2
    assert [one["person_id"] for _, one in archive.changes("persons")] == ["p-1"]
    assert [one["person_id"] for _, one in archive.changes("conversations", seen)] == ["p-1"]
    assert archive.changes("messages", seen) == []
    assert [one.channel for one in archive.thread("p-2")] == ["messenger", "email"]


def test_a_split_gives_each_person_exactly_their_own_again(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-1", psid("ada"))
    graph.assign("p-2", email("ada"))
    fold(archive, message("m1", 1), mail("a", 2))
    before = told(archive, "persons", "conversations", "messages")
    graph.merge("p-2", "p-1")
    archive.follow_graph()
    assert told(archive, "persons", "conversations", "messages") != before
    graph.split("p-1", "p-2", email("ada"))
    archive.follow_graph()
    assert told(archive, "persons", "conversations", "messages") == before
    assert [one["change"] for _, one in archive.changes("person_changes")] == ["merge", "split"]


def test_a_handle_that_the_graph_gave_up_belongs_to_nobody(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-1", psid("ada"))
    fold(archive, message("m1", 1, person_id="p-1"))
    graph.forget(psid("ada"))
    archive.follow_graph()
    assert stored(archive, "m1").person_id is None
    assert conversation_of(archive).person_id is None
    assert archive.person("p-1") is None


def test_a_graph_that_was_made_anew_is_followed_from_its_start(
    stores: Stores, archive: Archive, graph: PlainGraph
) -> None:
    for _ in range(5):
        graph.assign("p-1", psid("ada"), email("ada"))
    fold(archive, message("m1", 1), mail("a", 1))
    fresh = PlainGraph()
    fresh.assign("p-9", psid("ada"))
    again = Archive(stores, fresh)  # type: ignore[arg-type]
    assert again.follow_graph()
    assert [one["person_id"] for _, one in again.changes("persons")] == ["p-9"]
    assert stored(again, "m1").person_id == "p-9"


def test_the_person_of_a_contact_that_we_made_follows_a_merge(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-1", psid("ada"))
    graph.assign("p-2", email("ada"))
    made = contact("1", 1, email("ada"), projection=True, identity_key="p-2", person_id="p-2")
    fold(archive, made)
    graph.merge("p-2", "p-1")
    archive.follow_graph()
    assert archive.changes("contacts")[0][1]["person_id"] == "p-1"


# Search


@pytest.fixture
def crowd(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"), email("ada"), phone(100))
    graph.assign("p-bo", psid("bo"))
    fold(
        archive,
        message("m1", 10, profile=Profile(name="Áda   Lovelace")),
        message("m2", 5, who="bo", profile=Profile(name="Bo Lovelace")),
        contact("1", 1, email("ada"), name="Countess"),
    )


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada@mail.example", ["p-ada"]),
        (" ADA@Mail.Example ", ["p-ada"]),
        ("+1 415 555-0100", ["p-ada"]),
        ("14155550100", ["p-ada"]),
        ("bo", ["p-bo"]),
        ("ada lovelace", ["p-ada"]),
        ("LOVELACE", ["p-ada", "p-bo"]),
        ("love", []),
        ("ada diddley", []),
        ("", []),
        ("+1 415 555-0199", []),
    ],
)
def test_a_person_is_found_by_address_phone_id_or_name(archive: Archive, text: str, found: list[str]) -> None:
    assert archive.find_person(text) == found


@pytest.mark.usefixtures("crowd")
def test_who_waits_longest_comes_first(archive: Archive) -> None:
    assert [one.person_id for one in archive.people()] == ["p-bo", "p-ada"]
    fold(archive, answer("m3", 20, who="bo"))
    assert [one.person_id for one in archive.people()] == ["p-ada", "p-bo"]
    assert [one.person_id for one in archive.people(unanswered_first=False)] == ["p-bo", "p-ada"]
    assert [one.person_id for one in archive.people(limit=1, offset=1)] == ["p-bo"]
    assert [one.person_id for one in archive.people("lovelace")] == ["p-ada", "p-bo"]


# Consents and contacts


def test_every_decision_is_kept_and_the_last_counts(archive: Archive) -> None:
    fold(archive, consent("opted_out", 5, source_message_key="m"), consent("opted_in", 1))
    where = (psid("ada").key, "messenger", PAGE, "promotional")
    last = archive.consent(*where)
    assert last is not None
    assert (last.status, last.source_message_key) == ("opted_out", "m")
    theirs = archive.find_theirs(Subject("p", ("p",), (), former=(psid("ada"),)), Known())
    assert sorted(one["status"] for one in theirs.records["consent_decisions"]) == ["opted_in", "opted_out"]
    assert archive.consent(psid("bo").key, "messenger", PAGE, "promotional") is None


def wishes(archive: Archive, after: int = 0) -> dict[str, tuple[list[str], list[str]]]:
    """Of the persons that were told since: on which channels they want advertising, and on which not."""
    return {one["person_id"]: (one["opted_in"], one["opted_out"]) for _, one in archive.changes("persons", after)}


def test_a_person_says_where_advertising_is_wanted_and_is_told_again_when_that_changes(
    archive: Archive, graph: PlainGraph
) -> None:
    graph.assign("p-1", psid("ada"), psid("bo"))
    fold(archive, message("m1", 1), consent("opted_in", 1))
    assert wishes(archive) == {"p-1": (["messenger"], [])}
    for decision, wished in (
        (consent("opted_out", 2), {"p-1": ([], ["messenger"])}),
        (consent("opted_out", 3, who="bo"), {}),  # two handles said no now: that is the same of the person
        (consent("opted_in", 4), {}),
        (consent("opted_in", 5, who="bo"), {"p-1": (["messenger"], [])}),
        (consent("opted_in", 5, who="bo"), {}),
        (consent("opted_out", 6, purpose="service"), {}),
    ):
        seen = archive.high_water()
        fold(archive, decision)
        assert wishes(archive, seen) == wished


def test_a_wish_goes_with_the_handle_that_said_it(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-1", psid("ada"))
    graph.assign("p-2", psid("bo"))
    fold(archive, message("m1", 1), message("m2", 2, who="bo"), consent("opted_out", 3, who="bo"))
    assert wishes(archive) == {"p-1": ([], []), "p-2": ([], ["messenger"])}
    graph.assign("p-1", psid("bo"))
    seen = archive.high_water()
    archive.follow_graph()
    assert wishes(archive, seen) == {"p-1": ([], ["messenger"])}
    graph.assign("p-2", psid("bo"))
    seen = archive.high_water()
    archive.follow_graph()
    assert wishes(archive, seen) == {"p-1": ([], []), "p-2": ([], ["messenger"])}


def test_persons_of_an_archive_that_did_not_say_so_are_told_again(stores: Stores, archive: Archive) -> None:
    """As before an update: their consents are there, and the persons do not say them."""
    fold(archive, message("m1", 1, person_id="p-ada"), message("m2", 2, who="bo", person_id="p-bo"))
    fold(archive, consent("opted_out", 3))
    database = stores.database("archive")
    for row in database.query("SELECT person_id, body FROM person"):
        record = unseal(stores.codec, row["body"])
        del record["opted_in"], record["opted_out"]
        body = stores.codec.encrypt(encode(record))
        database.execute(
            "UPDATE person SET body = ?, content_mark = 'old' WHERE person_id = ?", (body, row["person_id"])
        )
    database.execute("DELETE FROM counter WHERE name = 'derivation'")
    seen = archive.high_water()
    assert archive.follow_graph()
    assert wishes(archive, seen) == {"p-ada": ([], ["messenger"])}
    assert not archive.follow_graph()


def test_a_contact_that_was_merged_into_another_is_told_as_deleted(archive: Archive) -> None:
    fold(archive, contact("2", 9, email("ada")))
    seen = archive.high_water()
    fold(archive, contact("1", 1, merged_record_ids=["2"]))
    assert {(one["record_id"], one["deleted"]) for _, one in archive.changes("contacts", seen)} == {
        ("1", False),
        ("2", True),
    }


# The change sequence


def test_a_reader_sees_each_change_once_and_misses_none(archive: Archive) -> None:
    fold(archive, message("m1", 1), message("m2", 2))
    first = archive.changes("messages")
    fold(archive, receipt("m1", "read", 3), message("m3", 3))
    later = archive.changes("messages", first[-1][0])
    assert [one["message_key"][-2:] for _, one in first] == ["m1", "m2"] or len(first) == 2
    assert {one["message_key"][-2:] for _, one in later} == {"m3", "m1"}
    assert archive.changes("messages", archive.high_water()) == []


def test_a_page_never_gives_a_message_before_its_person(archive: Archive, graph: PlainGraph) -> None:
    streams = [model.stream for model in EXPORTED]
    for number in range(6):
        graph.assign(f"p-{number}", psid(f"w{number}"))
        fold(archive, message(f"m{number}", number, who=f"w{number}"))
    after: dict[str, int] = {}
    persons, messages, round_number = set(), set(), 0
    while True:
        page = archive.changes_page(after, streams, limit=2)
        for stream, record in page.records:
            if stream == "persons":
                persons.add(record["person_id"])
            if stream == "messages":
                messages.add(record["message_key"])
                assert record["person_id"] in persons
        if page.complete:
            break
        after, round_number = page.after, round_number + 1
        # Meanwhile another process writes: known persons move to the end of the sequence, new ones appear.
        if round_number < 4:
            graph.assign(f"q-{round_number}", psid(f"w{round_number}"))
            fold(archive, message(f"n{round_number}", 50 + round_number, who=f"w{round_number}"))
    assert len(messages) == 9


def test_a_page_is_of_one_moment(
    stores: Stores, archive: Archive, graph: PlainGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.assign("p-ada", psid("ada"))
    fold(archive, message("m1", 1))
    other = Stores(stores.url)
    elsewhere = Archive(other, graph)  # type: ignore[arg-type]
    changes = archive.changes

    def changes_while_another_writes(stream: str, *args: Any, **kwargs: Any) -> Any:
        found = changes(stream, *args, **kwargs)
        if stream == "persons":
            graph.assign("p-bo", psid("bo"))
            fold(elsewhere, message("m2", 2, who="bo"))
        return found

    monkeypatch.setattr(archive, "changes", changes_while_another_writes)
    page = archive.changes_page({}, ["persons", "messages"])
    assert [record["person_id"] for _, record in page.records] == ["p-ada", "p-ada"]
    monkeypatch.undo()
    later = archive.changes_page(page.after, ["persons", "messages"])
    assert [record["person_id"] for _, record in later.records] == ["p-bo", "p-bo"]
    other.close()


def records_of(archive: Archive) -> Iterator[Record]:
    for model in EXPORTED:
        for _, record in archive.changes(model.stream):
            yield model.model_validate(record)


def test_every_told_record_is_what_its_stream_promises(archive: Archive, graph: PlainGraph) -> None:
    graph.assign("p-ada", psid("ada"), email("ada"))
    graph.assign("p-bo", psid("bo"))
    fold(archive, *WORLD)
    graph.merge("p-bo", "p-ada")
    archive.follow_graph()
    assert {type(one) for one in records_of(archive)} == set(EXPORTED)


def test_half_a_surrogate_pair_spoils_nothing(archive: Archive) -> None:
    broken = json.loads('{"caption": "\\ud83d"}')
    fold(archive, message("m1", 1, content=broken))
    assert stored(archive, "m1").content == {"caption": "?"}
