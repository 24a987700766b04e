"""tap-whatsapp over the deliveries of its fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mappings.keywords import KEYWORDS, Keyword, keywords_as_csv
from stores.database import Stores
from stores.items import Items
from taps.whatsapp import TapWhatsApp
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {1: ["text", "image", "reaction", "status_sent"], 2: ["text_stop", "user_id_update", "status_failed", "echo"]}


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapWhatsApp, PARTS, bad="unknown_field")
    yield made
    made.close()


class TestTapWhatsApp(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapWhatsApp, PARTS, bad="unknown_field")
        yield made
        made.close()


def records(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def test_every_item_of_a_batch_is_read(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("batch")
    messages = run_tap(TapWhatsApp(config=source.config()))
    assert [one["text"] for one in records(messages)] == ["one", "three", "four, to the other number"]
    assert [one["status"] for one in records(messages, "receipts")] == ["delivered"]


def test_records_name_the_delivery_and_the_place_in_it(source: WebhookSource, run_tap: RunTap) -> None:
    delivery_id = source.deliver_fixture("batch")
    first, *_, last = records(run_tap(TapWhatsApp(config=source.config())))
    assert [first["raw_ref"], last["raw_ref"]] == [f"delivery:{delivery_id}#0", f"delivery:{delivery_id}#4"]


def test_the_portfolio_scopes_user_ids(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("text_user_id_only")
    (message,) = records(run_tap(TapWhatsApp(config=source.config(portfolio_id="300400500600700"))))
    assert message["handles"][0]["scope"] == "300400500600700"


def test_the_file_of_an_old_message_is_no_repeat_of_its_placeholder(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("history")
    source.deliver_fixture("history_media")
    seen = [one["kind"] for one in records(run_tap(TapWhatsApp(config=source.config())))
            if one["message_key"].endswith("47")]  # fmt: skip
    assert seen == ["unsupported", "image"]


@pytest.mark.parametrize(
    ("fixture", "name"),
    [("account_template", "message_template_status_update"), ("account_errors", "error"),
     ("account_contacts", "contact_sync"), ("group_event", "group_lifecycle_update"), ("history_declined", "error")],
)  # fmt: skip
def test_what_is_about_the_account_is_counted_by_name(
    source: WebhookSource, run_tap: RunTap, stores: Stores, fixture: str, name: str
) -> None:
    source.deliver_fixture(fixture)
    tap = TapWhatsApp(config=source.config())
    messages = run_tap(tap)
    assert [one for one in messages if one["type"] == "RECORD"] == []
    assert tap.ignored == {name: 1}
    assert Items(stores).counts("whatsapp") == {f"ignored:{name}": 1}


def test_words_of_ones_own_replace_the_packaged_list(source: WebhookSource, run_tap: RunTap, tmp_path: Any) -> None:
    file = tmp_path / "keywords.csv"
    file.write_text(keywords_as_csv([Keyword("opted_out", "en", "no thanks")]), encoding="utf-8")
    source.deliver_fixture("text_stop")
    source.deliver(_text("No thanks!"))
    messages = run_tap(TapWhatsApp(config=source.config(keywords_file=str(file))))
    assert [one["source_message_key"][-7:] for one in records(messages, "consents")] == ["wamid.1"]


def test_the_packaged_words_survive_the_way_through_a_file() -> None:
    lines = keywords_as_csv().splitlines()
    assert len(lines) == len(KEYWORDS) + 1


def _text(text: str) -> dict[str, Any]:
    message = {"from": "447700900123", "id": "wamid.1", "timestamp": "1772366400", "type": "text",
               "text": {"body": text}}  # fmt: skip
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"}, "messages": [message]}
    changes = [{"field": "messages", "value": value}]
    return {"object": "whatsapp_business_account", "entry": [{"id": "2", "changes": changes}]}
