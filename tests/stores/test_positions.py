from __future__ import annotations

from datetime import UTC, datetime, timedelta

from stores.database import Stores
from stores.positions import Positions

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


def confirmed(positions: Positions, now: datetime = NOW) -> dict[tuple[str, str, str], int]:
    return {one[:3]: one.delivery_id for one in positions.confirmed(now - MONTH)}


def test_the_lowest_position_of_the_period_counts(stores: Stores) -> None:
    positions = Positions(stores)
    for days_ago, delivery_id in ((50, 1), (20, 10), (10, 20), (0, 30)):
        positions.note("acme", "default", "tap-acme", delivery_id, NOW - timedelta(days=days_ago))
    assert confirmed(positions) == {("acme", "default", "tap-acme"): 10}
    assert confirmed(positions, NOW + timedelta(days=15)) == {("acme", "default", "tap-acme"): 20}


def test_two_pipelines_with_the_same_tap_are_as_far_as_the_slower_one(stores: Stores) -> None:
    positions = Positions(stores)
    for day in range(3):
        for delivery_id in (500 + day, 7):
            positions.note("acme", "default", "tap-acme", delivery_id, NOW + timedelta(days=day))
    assert confirmed(positions, NOW + timedelta(days=2)) == {("acme", "default", "tap-acme"): 7}


def test_a_reader_that_stopped_stays_where_it_was_until_it_is_forgotten(stores: Stores) -> None:
    positions = Positions(stores)
    positions.note("acme", "default", "tap-old", 3, NOW - timedelta(days=390))
    positions.note("acme", "default", "tap-old", 5, NOW - timedelta(days=300))
    positions.note("acme", "default", "tap-new", 90, NOW)
    assert confirmed(positions) == {("acme", "default", "tap-old"): 5, ("acme", "default", "tap-new"): 90}
    assert positions.forget("acme", "default", "tap-old") == 2
    assert confirmed(positions) == {("acme", "default", "tap-new"): 90}


def test_routes_and_platforms_are_kept_apart(stores: Stores) -> None:
    positions = Positions(stores)
    for number, (platform, route) in enumerate([("acme", "default"), ("acme", "shop2"), ("other", "default")]):
        positions.note(platform, route, "tap", number, NOW)
    assert sorted(confirmed(positions).values()) == [0, 1, 2]


def test_a_reader_of_positions_sees_what_was_noted(stores: Stores) -> None:
    Positions(stores).note("acme", "default", "tap-acme", 4, NOW)
    reading = Positions(stores, read_only=True)
    assert confirmed(reading) == {("acme", "default", "tap-acme"): 4}
    reading.close()
