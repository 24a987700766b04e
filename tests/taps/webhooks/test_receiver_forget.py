"""A tap that has stopped for good holds deliveries back until the operator lets go of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from click.testing import CliRunner

from console.cli import main
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.positions import Positions
from taps.webhooks.metrics import Metrics
from taps.webhooks.retention import INTERVAL_SECONDS, Retention

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def removed(stores: Stores) -> int:
    """How many deliveries one round of the retention removes."""
    deliveries = Deliveries(stores, writable=True)
    before = deliveries.count()
    retention = Retention(stores, deliveries, timedelta(days=30), Metrics(), lambda: NOW)
    while retention.step() != INTERVAL_SECONDS:
        pass
    after = deliveries.count()
    deliveries.close()
    return before - after


def test_a_reader_that_is_forgotten_holds_nothing_back_any_more(stores: Stores) -> None:
    deliveries = Deliveries(stores, writable=True)
    rows = [deliveries.encode("acme", "default", NOW - timedelta(days=60), {}, "", b"%d" % one) for one in range(3)]
    deliveries.add(rows)
    deliveries.close()
    positions = Positions(stores)
    positions.note("acme", "default", "tap-acme", 3, NOW)
    positions.note("acme", "default", "tap-gone", 0, NOW - timedelta(days=90))
    assert removed(stores) == 0
    done = CliRunner().invoke(main, ["receiver", "forget", "acme", "default", "tap-gone"])
    assert (done.exit_code, done.output) == (0, "acme/default waits no longer for tap-gone\n")
    assert removed(stores) == 3


def test_a_reader_that_is_not_known_is_an_error_that_names_those_that_are(stores: Stores) -> None:
    Positions(stores).note("acme", "default", "tap-acme", 1, NOW)
    done = CliRunner().invoke(main, ["receiver", "forget", "acme", "shop2", "tap-acme"])
    assert done.exit_code == 1
    assert "acme shop2 tap-acme is not known; there are: acme default tap-acme" in done.output
