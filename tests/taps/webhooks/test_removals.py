"""Deliveries of erased persons: asked of the receiver, removed by it, or in its place while none runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from stores.database import Stores
from stores.deliveries import Deliveries
from stores.items import Items, Sighting
from stores.positions import Positions
from stores.removals import Removals, ask_removal
from taps.webhooks.metrics import Metrics
from taps.webhooks.retention import INTERVAL_SECONDS, Retention, remove_asked

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def writer(stores: Stores) -> Iterator[Deliveries]:
    """Four deliveries that came just now."""
    opened = Deliveries(stores, writable=True)
    opened.add([opened.encode("acme", "default", NOW, {}, "", b"%d" % number) for number in range(4)])
    yield opened
    opened.close()


def there(writer: Deliveries) -> list[int]:
    return [one.delivery_id for one in writer.read("acme", "default", 0, 100)]


def step_to_the_end(stores: Stores, writer: Deliveries, keep: timedelta = timedelta(days=30)) -> None:
    retention = Retention(stores, writer, keep, Metrics(), lambda: NOW)
    while retention.step() != INTERVAL_SECONDS:
        pass


@pytest.mark.parametrize("keep", [timedelta(days=30), timedelta(0)], ids=["thirty days", "for ever"])
def test_the_receiver_removes_what_is_asked_whatever_its_age(
    stores: Stores, writer: Deliveries, keep: timedelta
) -> None:
    Removals(stores).ask({2: True, 3: True})
    step_to_the_end(stores, writer, keep)
    assert there(writer) == [1, 4]


def test_what_holds_others_too_waits_until_every_tap_has_read_it(stores: Stores, writer: Deliveries) -> None:
    Removals(stores).ask({2: False, 3: False})
    step_to_the_end(stores, writer)
    assert there(writer) == [1, 2, 3, 4]
    Positions(stores).note("acme", "default", "tap-fast", 4, NOW)
    Positions(stores).note("acme", "default", "tap-slow", 2, NOW)
    step_to_the_end(stores, writer)
    assert there(writer) == [1, 3, 4]


def test_more_than_a_portion_goes_too(stores: Stores, writer: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taps.webhooks.retention.PORTION_ROWS", 1)
    Removals(stores).ask(dict.fromkeys(range(1, 4), True))
    step_to_the_end(stores, writer)
    assert there(writer) == [4]


def test_while_a_receiver_runs_nobody_else_writes(stores: Stores, writer: Deliveries) -> None:
    Removals(stores).ask({2: True})
    with Stores(str(stores.folder)).lock("receiver"):
        assert not remove_asked(stores, NOW)
        assert there(writer) == [1, 2, 3, 4]
    assert remove_asked(stores, NOW)
    assert there(writer) == [1, 3, 4]


def test_a_delivery_is_somebodys_alone_when_all_its_events_are(stores: Stores) -> None:
    refs = ["delivery:1#0", "delivery:1#1", "delivery:2#0", "delivery:2#1"]
    Items(stores).claim("acme", [Sighting(ref, "message", ref, int(ref[9])) for ref in refs])
    alone = Removals(stores).alone([1, 2, 3], refs[:3])
    assert alone == {1: True, 2: False, 3: False}


def test_asking_again_never_makes_it_wait_longer(stores: Stores) -> None:
    removals = Removals(stores)
    removals.ask({1: True, 2: False})
    ask_removal(stores, ["delivery:1#0", "delivery:2", "poll:3", "imap:INBOX/1/2"])
    removals.ask({2: True})
    assert removals.asked() == {1: True, 2: True}
