"""Meta's own webhook examples, which we did not write: not one of their events may disappear.

They are looked for in the folder that ONETHREAD_DATA names (see its SOURCES.txt) and are no part of this repository.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.records import STREAMS
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from taps.webhooks.whatsapp import split
from taps.whatsapp import TapWhatsApp
from tests.taps.webhook_source import WebhookSource

_FILE = Path(os.environ.get("ONETHREAD_DATA", "")) / "whatsapp" / "official_webhook_examples.json"
pytestmark = pytest.mark.skipif(
    not _FILE.is_file(), reason="ONETHREAD_DATA does not name a folder with whatsapp/official_webhook_examples.json"
)
EXAMPLES: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.is_file() else {}

WHAT_BECOMES_OF_THEM = {
    "Text Message": ["messages"],
    "Text Message with Context (Product Inquiry)": ["messages"],
    "Text Message from Click to WhatsApp Ad": ["messages"],
    "Reaction Message": ["message_changes"],
    "Image Message": ["messages"],
    "Location Message": ["messages"],
    "Contact Sharing Message": ["evidence", "messages"],
    "Unsupported Message": ["messages"],
    "Button Message": ["consents", "messages"],
    "Interactive List Reply Message": ["messages"],
    "Interactive Button Reply Message": ["messages"],
    "Order Message": ["messages"],
    "System Message": ["evidence", "messages"],
    "Group Create Message": ["ignored:group_lifecycle_update"],
    "Group Settings Update": ["ignored:group_settings_update"],
    "Group Remove Participants": ["ignored:group_participants_update"],
}


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapWhatsApp, {})
    yield made
    made.close()


def test_every_example_is_expected_to_become_something() -> None:
    assert set(EXAMPLES) == set(WHAT_BECOMES_OF_THEM)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_official_example_becomes_what_is_expected(
    source: WebhookSource, run_tap: Callable[[Any], list[dict[str, Any]]], stores: Stores, name: str
) -> None:
    body = json.dumps(EXAMPLES[name]).encode()
    source.deliver(body)
    messages = run_tap(TapWhatsApp(config=source.config()))
    records = [one for one in messages if one["type"] == "RECORD"]
    for one in records:
        STREAMS[one["stream"]].model_validate(one["record"])
    ignored = [kind for kind in Items(stores).counts("whatsapp") if kind.startswith("ignored:")]
    assert sorted({one["stream"] for one in records}) + ignored == WHAT_BECOMES_OF_THEM[name]
    assert Parked(stores).count() == 0
    told_of = {one["record"]["raw_ref"] for one in records}
    assert len(told_of) + len(ignored) == len(split(body))
