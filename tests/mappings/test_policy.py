"""May this reply be sent now, and on which channel?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.policy import LIMITS, Policy, Refusal, Way, choose_way, window_closes_at
from mappings.records import Handle, Reply

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def reply(**changes: Any) -> Reply:
    values: dict[str, Any] = {
        "reply_key": "hubspot:1:2:3", "crm": "hubspot", "account": "1", "record_id": "2", "text": "Hello",
        "handles": [Handle(kind="hubspot_contact", scope="1", value="2")], "written_at": NOW,
    }  # fmt: skip
    return Reply(**{**values, **changes})


def way(channel: str, hours_ago: float | None, **changes: Any) -> Way:
    kinds = {"whatsapp": "phone", "sms": "phone", "messenger": "messenger_psid", "email": "email"}
    at = None if hours_ago is None else NOW - timedelta(hours=hours_ago)
    to = Handle(kind=kinds.get(channel, f"{channel}_user"), value=f"{channel}-value")
    return Way(channel=channel, account="a", to=to, last_inbound_at=at, **changes)


def test_auto_takes_the_open_channel_on_which_the_customer_wrote_last() -> None:
    chosen = choose_way(reply(), [way("whatsapp", 5), way("messenger", 1), way("email", 3)], NOW)
    assert isinstance(chosen, Way)
    assert chosen.channel == "messenger"


def test_auto_skips_a_channel_whose_window_closed() -> None:
    chosen = choose_way(reply(), [way("messenger", 25), way("email", 200)], NOW)
    assert isinstance(chosen, Way)
    assert chosen.channel == "email"


def test_auto_takes_an_address_that_can_always_be_written_to_last() -> None:
    chosen = choose_way(reply(), [way("email", None), way("whatsapp", 1)], NOW)
    assert isinstance(chosen, Way)
    assert chosen.channel == "whatsapp"


def test_a_named_channel_is_never_replaced_by_another() -> None:
    refused = choose_way(reply(channel="whatsapp"), [way("email", 1)], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "no_channel"
    assert "E-mail" in refused.reason


@pytest.mark.parametrize(("hours", "open_"), [(23.99, True), (24, True), (24.01, False)])
def test_the_service_window_is_24_hours(hours: float, open_: bool) -> None:
    assert isinstance(choose_way(reply(), [way("whatsapp", hours)], NOW), Way) is open_


def test_a_closed_window_says_what_the_agent_can_do() -> None:
    refused = choose_way(reply(), [way("whatsapp", 30)], NOW)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.actor) == ("window_closed", "agent")
    assert "template" in refused.reason


def test_a_template_may_be_sent_outside_the_window_where_there_are_templates() -> None:
    assert isinstance(choose_way(reply(template="order_update"), [way("whatsapp", 99)], NOW), Way)
    refused = choose_way(reply(template="order_update"), [way("messenger", 1)], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "template"


def test_the_human_agent_tag_is_for_people_with_the_permission_only() -> None:
    permitted = Policy(human_agent=frozenset({"messenger"}))
    tagged = choose_way(reply(), [way("messenger", 30)], NOW, permitted)
    assert isinstance(tagged, Way)
    assert tagged.tag == "HUMAN_AGENT"
    assert isinstance(choose_way(reply(author_kind="bot"), [way("messenger", 30)], NOW, permitted), Refusal)
    assert isinstance(choose_way(reply(), [way("messenger", 30)], NOW), Refusal)
    assert isinstance(choose_way(reply(), [way("messenger", 24 * 7 + 1)], NOW, permitted), Refusal)
    inside = choose_way(reply(), [way("messenger", 1)], NOW, permitted)
    assert isinstance(inside, Way)
    assert inside.tag is None


@pytest.mark.parametrize("channel", [name for name, limits in LIMITS.items() if limits.text_limit])
def test_a_text_above_the_platforms_length_is_refused_with_both_numbers(channel: str) -> None:
    limit = LIMITS[channel].text_limit
    assert limit
    assert isinstance(choose_way(reply(text="x" * limit), [way(channel, 1)], NOW), Way)
    refused = choose_way(reply(text="x" * (limit + 1)), [way(channel, 1)], NOW)
    assert isinstance(refused, Refusal)
    assert str(limit) in refused.reason
    assert str(limit + 1) in refused.reason


@pytest.mark.parametrize(
    ("channel", "text"), [("instagram", "ä" * 501), ("wechat", "你" * 683), ("line", "😀" * 2501)], ids=str
)
def test_a_length_is_counted_in_the_platforms_own_unit(channel: str, text: str) -> None:
    assert isinstance(choose_way(reply(text=text[:-1]), [way(channel, 1)], NOW), Way)
    refused = choose_way(reply(text=text), [way(channel, 1)], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "too_long"


def test_a_declined_purpose_is_not_written_to_and_another_purpose_is() -> None:
    declined = way("whatsapp", 1, opted_out=frozenset({"promotional"}))
    refused = choose_way(reply(purpose="promotional"), [declined], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "opted_out"
    assert isinstance(choose_way(reply(), [declined], NOW), Way)


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_an_empty_reply_is_refused(text: str | None) -> None:
    refused = choose_way(reply(text=text), [way("email", 1)], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "empty"


def test_a_reply_that_waited_too_long_is_refused() -> None:
    refused = choose_way(reply(written_at=NOW - timedelta(days=4)), [way("email", 1)], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "too_old"


def test_nobody_to_write_to_is_said_plainly() -> None:
    refused = choose_way(reply(), [], NOW)
    assert isinstance(refused, Refusal)
    assert refused.code == "no_channel"


def test_when_a_window_closes() -> None:
    assert window_closes_at("whatsapp", NOW) == NOW + timedelta(hours=24)
    assert window_closes_at("whatsapp", None) is None
    assert window_closes_at("email", NOW) is None


def test_every_limit_has_a_source() -> None:
    assert all(limits.source.startswith(("documented", "observed", "assumed")) for limits in LIMITS.values())
