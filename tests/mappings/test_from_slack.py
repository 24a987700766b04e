"""Slack's events as records: golden files for every kind of event, tables, and what the golden files cannot say."""

from __future__ import annotations

import copy
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.from_slack import (
    Move,
    SlackContext,
    channel_at,
    codes,
    evidence_from_slack_user,
    moment_of_ts,
    records_from_slack,
    ts_parts,
)
from mappings.from_slack.text import plain_text
from mappings.records import Consent, Evidence, Message, MessageChange, Record
from taps.webhooks.items import Item
from taps.webhooks.slack import split
from tests.contract.mapping import check_golden, check_no_golden_is_left_over, fixture_names, load_items, told

RECEIVED_AT = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
ITEMS = load_items("slack", split)
CHANNEL, ADA, AGENT = "C0SHARED01", "U0ADA00001", "U0AGENT001"
TEAMS = {ADA: "T0PARTNER1", AGENT: "T0OURS0001"}


def context(**more: Any) -> SlackContext:
    known = {"speakers": {CHANNEL: ADA}, "teams": TEAMS, **more}
    return SlackContext(received_at=RECEIVED_AT, raw_ref="delivery:1#0", **known)


def map_item(item: Item, **more: Any) -> list[Record]:
    return records_from_slack(item, context(**more))


def item(fixture: str = "message", *, shared: Any = True, **event: Any) -> Item:
    """The item of a fixture, its event changed as told; ``None`` takes a field away."""
    (found,) = ITEMS[fixture]
    payload = copy.deepcopy(found.payload)
    payload["envelope"]["is_ext_shared_channel"] = shared
    payload["event"] = {name: value for name, value in {**payload["event"], **event}.items() if value is not None}
    return Item(0, found.kind, payload, found.key)


def only(records: list[Record], kind: type[Any]) -> Any:
    (record,) = [one for one in records if isinstance(one, kind)]
    return record


@pytest.mark.parametrize("name", fixture_names("slack"))
def test_a_delivery_becomes_the_records_in_its_golden_file(name: str) -> None:
    check_golden("slack", name, told(ITEMS[name], map_item))


def test_every_golden_file_belongs_to_a_fixture() -> None:
    check_no_golden_is_left_over("slack")


# -- Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", sorted(codes.NOTICES))
def test_a_notice_about_the_channel_gives_no_record(subtype: str) -> None:
    assert map_item(item(subtype=subtype)) == []


@pytest.mark.parametrize("subtype", sorted(codes.CONTENT | codes.CALLS))
def test_every_subtype_under_which_somebody_speaks_gives_a_message(subtype: str) -> None:
    assert only(map_item(item(subtype=subtype)), Message).kind == ("call" if subtype in codes.CALLS else "text")


@pytest.mark.parametrize("name", sorted(codes.IGNORED))
def test_an_event_in_which_no_customer_speaks_gives_no_record(name: str) -> None:
    assert map_item(Item(0, name, {"envelope": {}, "event": {"type": name}}, "x")) == []


@pytest.mark.parametrize("name", sorted(codes.EMOJI))
def test_a_common_emoji_is_written_as_itself(name: str) -> None:
    change = only(map_item(item("reaction_added", reaction=name)), MessageChange)
    assert change.emoji == codes.EMOJI[name]
    assert not change.emoji.isascii()


def test_every_alarm_is_an_ignored_event() -> None:
    assert set(codes.ALARMS) <= codes.IGNORED


def test_every_event_in_slacks_own_document_is_known() -> None:
    folder = os.environ.get("ONETHREAD_SPECS")
    if not folder:
        pytest.skip("set ONETHREAD_SPECS to the folder of API documents")
    document = json.loads((Path(folder) / "slack" / "slack_events_api_async_v1.json").read_text())
    names = {name.replace(".", "_") for name in document["topics"] if not name.startswith("message.")}
    assert len(names) > 50
    read = {"app_mention", "message", "reaction_added", "reaction_removed", "user_change"}
    assert names - codes.IGNORED == read


# -- Which side, which conversation ----------------------------------------------------------------------------------


def test_somebody_of_another_workspace_is_a_customer_and_somebody_of_ours_is_not() -> None:
    theirs, ours = only(map_item(item()), Message), only(map_item(item("agent_message")), Message)
    assert (theirs.direction, theirs.author_kind, ours.direction, ours.author_kind) == (
        "inbound", "customer", "outbound", "agent",
    )  # fmt: skip


def test_the_writers_own_workspace_counts_more_than_the_channels() -> None:
    message = only(map_item(item(team="T0OURS0001")), Message)
    assert message.direction == "inbound"


def test_several_workspaces_can_be_ours() -> None:
    assert map_item(item(), team_ids=frozenset({"T0OURS0001", "T0PARTNER1"}))[0].model_dump()["direction"] == "outbound"


def test_with_named_agents_a_guest_of_our_own_workspace_is_a_customer() -> None:
    guest = item("agent_message", user="U0GUEST001", shared=False, channel="C0INTERNAL")
    named = {"agents": frozenset({AGENT}), "channels": frozenset({"C0INTERNAL"})}
    assert only(map_item(guest, **named), Message).direction == "inbound"
    ours = item("agent_message", shared=False, channel="C0INTERNAL")
    assert only(map_item(ours, **named), Message).direction == "outbound"


def test_the_account_is_the_workspace_that_the_app_is_installed_in() -> None:
    """In a shared channel ``team_id`` of the envelope can be that of the other organisation."""
    one = item()
    one.payload["envelope"]["team_id"] = "T0PARTNER1"
    assert only(map_item(one), Message).account == "T0OURS0001"


def test_a_writer_without_a_workspace_is_known_from_before_or_parked() -> None:
    unknown = item("message_of_a_stranger_without_team")
    assert only(map_item(unknown), Message).direction == "inbound"
    with pytest.raises(MissingFieldError, match="customer or one of us"):
        map_item(unknown, teams={})


def test_in_a_channel_that_is_not_shared_everybody_is_one_of_us() -> None:
    unknown = item("message_of_a_stranger_without_team", shared=False)
    assert map_item(unknown, teams={}, speakers={}) == []


def test_only_named_channels_are_read_when_some_are_named_and_direct_messages_always() -> None:
    named = {"channels": frozenset({"C0OTHER001"})}
    assert map_item(item(), **named) == []
    assert len(map_item(item("message_direct"), **named)) == 1
    assert len(map_item(item(channel="C0OTHER001"), **named)) == 1


def test_a_channel_that_was_named_by_its_former_id_is_still_read() -> None:
    moved = {CHANNEL: Move("G0PRIVATE1", "1772366300.000000")}
    assert len(map_item(item(), channels=frozenset({"G0PRIVATE1"}), moved=moved)) == 1


def test_one_of_us_who_writes_to_our_own_bot_talks_to_no_customer() -> None:
    assert map_item(item("agent_message", channel="D0AGENT001", channel_type="im")) == []


def test_one_of_us_who_writes_to_a_customer_directly_talks_to_them() -> None:
    direct = item("agent_message", channel="D0DIRECT01", channel_type="im")
    message = only(map_item(direct, speakers={"D0DIRECT01": ADA}), Message)
    assert [handle.value for handle in message.handles] == [ADA]


def test_an_answer_is_for_the_last_speaker_of_the_thread_else_of_the_channel() -> None:
    speakers = {CHANNEL: ADA, f"{CHANNEL}/1772366400.000100": "U0BO000001"}
    inside = only(map_item(item("agent_reply_in_a_thread"), speakers=speakers), Message)
    outside = only(map_item(item("agent_message"), speakers=speakers), Message)
    assert (inside.handles[0].value, outside.handles[0].value) == ("U0BO000001", ADA)
    assert inside.conversation_key != outside.conversation_key


def test_an_answer_to_nobody_known_has_no_customer() -> None:
    message = only(map_item(item("agent_message"), speakers={}), Message)
    assert (message.handles, message.conversation_key) == ([], f"slack:T0OURS0001:{CHANNEL}")


def test_our_reply_carries_its_token_and_counts_as_an_agents() -> None:
    reply = only(map_item(item("own_reply")), Message)
    assert (reply.reply_token, reply.author_kind) == ("0123456789abcdef0123456789abcdef", "agent")
    other = only(map_item(item("own_bot_without_token")), Message)
    assert (other.reply_token, other.author_kind) == (None, "bot")


# -- ts --------------------------------------------------------------------------------------------------------------


def test_a_ts_is_kept_to_the_last_digit_and_never_made_a_float() -> None:
    message = only(map_item(item(ts="1772366400.000109")), Message)
    assert message.message_key.endswith(":1772366400.000109")
    assert message.sent_at.microsecond == 109
    assert ts_parts("1772366400.000109") == (1772366400, 109)
    assert moment_of_ts("1772366400.999999", "ts", "x").microsecond == 999999


@pytest.mark.parametrize(
    "wrong", [1772366400.0001, 1772366400, "1772366400", "", "1e9.0", "-1.0", "١.٢", None, [], "0.0"]
)
def test_a_ts_that_is_none_parks_the_message(wrong: Any) -> None:
    with pytest.raises(MissingFieldError):
        map_item(item(ts=wrong))


def test_the_same_ts_in_two_channels_is_two_messages() -> None:
    first, second = (only(map_item(item(channel=one)), Message).message_key for one in (CHANNEL, "C0OTHER001"))
    assert first != second


def test_a_message_keeps_its_key_when_its_channel_gets_another_id() -> None:
    moved = {CHANNEL: Move("G0PRIVATE1", "1772366401.000000")}
    before = only(map_item(item(channel="G0PRIVATE1")), Message).message_key
    read_again = only(map_item(item(), moved=moved), Message).message_key
    later = only(map_item(item(ts="1772366402.000000"), moved=moved), Message).message_key
    assert before == read_again
    assert f":{CHANNEL}:" in later


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=30), st.text(max_size=30))
def test_a_chain_of_moves_always_ends(old: str, new: str, at: str, ts: str) -> None:
    moved = {new: Move(old, at), old: Move(new, at)}
    assert channel_at(new, ts, moved) in {old, new}


# -- Changes ---------------------------------------------------------------------------------------------------------


def test_a_links_preview_is_no_edit_and_a_later_edit_is_one() -> None:
    assert map_item(item("edit_by_a_link_preview")) == []
    assert only(map_item(item("edit")), MessageChange).text == "Hello"


def test_a_preview_after_an_edit_is_no_second_edit() -> None:
    one = item("edit")
    one.payload["event"]["previous_message"] = one.payload["event"]["message"]
    assert map_item(one) == []


def test_a_change_without_the_text_before_is_an_edit_when_the_message_says_so() -> None:
    assert only(map_item(item("edit", previous_message=None)), MessageChange).text == "Hello"
    plain = {name: value for name, value in item("edit").payload["event"]["message"].items() if name != "edited"}
    assert map_item(item("edit", previous_message=None, message=plain)) == []


def test_deletions_told_in_three_ways_are_the_same_change() -> None:
    plain = only(map_item(item("deleted", deleted_ts="1772366400.000430")), MessageChange)
    replied = item("deleted_with_replies")
    replied.payload["event"]["message"]["ts"] = "1772366400.000430"
    found = [plain, only(map_item(replied), MessageChange), only(map_item(item("tombstone")), MessageChange)]
    assert {one.change for one in found} == {"unsend"}
    assert len({one.change_key for one in found}) == 1


def test_the_same_reaction_again_later_is_another_change() -> None:
    first, again, later = (
        only(map_item(item("reaction_added", event_ts=when)), MessageChange).change_key
        for when in ("1772366480.000900", "1772366480.000900", "1772366490.000000")
    )
    assert first == again != later


def test_nobody_is_made_of_a_reaction_by_somebody_unknown() -> None:
    change = only(map_item(item("reaction_of_their_own")), MessageChange)
    assert (change.handles, change.emoji) == ([], ":party-parrot:")


def test_what_one_of_us_changes_names_no_customer() -> None:
    change = only(map_item(item("edit_by_one_of_us")), MessageChange)
    assert (change.author_kind, change.handles, change.text) == ("agent", [], "Monday")


# -- Text and people -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a &amp;lt; b", "a &lt; b"),
        ("<https://a.example/x?y=1&amp;z=2>", "https://a.example/x?y=1&z=2"),
        ("<https://a.example|a.example>", "https://a.example"),
        ("<https://a.example|here>", "here (https://a.example)"),
        ("<mailto:x@a.example|x@a.example>", "x@a.example"),
        ("<tel:+447700900123|+44 7700 900123>", "+44 7700 900123 (+447700900123)"),
        ("<@U1> <@U1|sam> <#C1|help> <#C1|>", "@U1 @sam #help #C1"),
        ("<!here> <!subteam^S1|@team> <!subteam^S1> <!date^1^{date}|today>", "@here @team @subteam today"),
        ("*bold* _it_ ~no~ `code` :wave:", "*bold* _it_ ~no~ `code` :wave:"),
        ("1 < 2 > 0", "1 < 2 > 0"),
        ("  ", None),
        ("", None),
        (None, None),
    ],
)
def test_text_is_read_as_people_see_it(text: str | None, plain: str | None) -> None:
    assert plain_text(text) == plain


def test_rich_text_reads_as_lines() -> None:
    words = [{"type": "text", "text": "Dear "}, {"type": "text", "text": "all", "style": {"bold": True}},
             {"type": "link", "url": "https://a.example"}]  # fmt: skip
    block = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": words},
                                               {"type": "rich_text_section", "elements": words[:1]}]}  # fmt: skip
    assert only(map_item(item(text=None, blocks=[block])), Message).text == "Dear allhttps://a.example\nDear "


@pytest.mark.parametrize(("text", "status"), [("STOP", "opted_out"), ("Start!", "opted_in")])
def test_a_word_alone_decides_about_advertising(text: str, status: str) -> None:
    records = map_item(item(text=text))
    assert only(records, Consent).status == status
    assert only(records, Consent).source_message_key == only(records, Message).message_key


@pytest.mark.parametrize("fixture", ["file_with_text", "agent_message", "bot_of_the_customer"])
def test_neither_one_of_us_nor_a_bot_nor_a_caption_decides_about_advertising(fixture: str) -> None:
    assert [type(record) for record in map_item(item(fixture, text="stop"))] == [Message]


USER = ITEMS["user_change"][0].payload["event"]["user"]


def strengths(
    user: dict[str, Any] = USER, own: set[str] | None = None, trusted: set[str] | None = None
) -> dict[str, str]:
    found = evidence_from_slack_user(
        user, "T0OURS0001", own_teams=own or {"T0OURS0001"}, trusted_teams=trusted or set(), observed_at=RECEIVED_AT,
        raw_ref="poll:1",
    )  # fmt: skip
    return {one.method: one.strength for one in found}


def test_an_address_is_as_strong_as_the_administrator_behind_it() -> None:
    claimed = {"profile": "verified", "workspace_email": "claimed", "profile_phone": "claimed"}
    assert strengths() == claimed
    assert strengths(trusted={"T0ANOTHER1"}) == claimed
    for believed in (strengths(trusted={"T0PARTNER1"}), strengths(trusted={"*"}), strengths(own={"T0PARTNER1"})):
        assert believed == {**claimed, "workspace_email": "verified"}
    assert (
        strengths({**USER, "team_id": None, "profile": {**USER["profile"], "team": None}})["workspace_email"]
        == "claimed"
    )


@pytest.mark.parametrize("what", [{"is_bot": True}, {"deleted": True}])
def test_nothing_is_kept_of_bots_and_of_people_who_left(what: dict[str, Any]) -> None:
    assert strengths({**USER, **what}) == {}


def test_the_profile_alone_names_nobody_else() -> None:
    evidence = [one for one in map_item(item("user_change")) if isinstance(one, Evidence)]
    assert [[handle.kind for handle in one.handles] for one in evidence] == [
        ["slack_user"], ["slack_user", "email"], ["slack_user", "phone"],
    ]  # fmt: skip
    assert evidence[0].profile is not None
    assert (evidence[0].profile.name, evidence[0].profile.locale) == ("Ada Example", "en-GB")


# -- Hostile ---------------------------------------------------------------------------------------------------------


def test_an_unknown_event_says_its_type_and_nothing_else() -> None:
    with pytest.raises(UnknownShapeError, match="telepathy_received"):
        map_item(item("unknown_event"))
    with pytest.raises(UnknownShapeError) as caught:
        map_item(Item(0, "other", {"envelope": {}, "event": {"type": "secret +447700900999"}}, "x"))
    assert "+447700900999" not in str(caught.value)


def test_an_error_never_tells_what_the_payload_held() -> None:
    with pytest.raises(MissingFieldError) as caught:
        map_item(item(text=["secret"], user="U0SECRET01"))
    assert "secret" not in str(caught.value)
    assert "U0SECRET01" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ITEMS)), st.data())
def test_a_wrong_value_anywhere_is_a_record_or_an_error_of_ours(name: str, data: st.DataObject) -> None:
    (found,) = ITEMS[name]
    payload = copy.deepcopy(found.payload)
    node: Any = payload
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(_JSON)
        break
    try:
        records = map_item(Item(0, found.kind, payload, found.key))
    except PayloadError:
        return
    for record in records:
        record.model_dump_json()
