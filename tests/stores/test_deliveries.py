from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from stores import deliveries as deliveries_module
from stores.database import Stores
from stores.deliveries import Deliveries, DeliveryRow

NOW = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)


@pytest.fixture
def writer(stores: Stores) -> Iterator[Deliveries]:
    opened = Deliveries(stores, writable=True)
    yield opened
    opened.close()


@pytest.fixture
def reader(stores: Stores) -> Iterator[Deliveries]:
    opened = Deliveries(stores)
    yield opened
    opened.close()


def row(writer: Deliveries, body: bytes, route: str = "default", query: str = "", platform: str = "x") -> DeliveryRow:
    return writer.encode(platform, route, NOW, {"content-type": "application/json"}, query, body)


def test_what_is_added_is_read_back_as_it_was(writer: Deliveries, reader: Deliveries) -> None:
    body = bytes(range(256))
    assert writer.add([row(writer, body)]) == {("x", "default"): 1}
    (delivery,) = reader.read("x", "default", 0, 10)
    assert delivery.body == body
    assert delivery.headers == {"content-type": "application/json"}
    assert delivery.received_at == NOW
    assert reader.get(delivery.delivery_id) == delivery


def test_another_time_zone_is_the_same_moment(writer: Deliveries, reader: Deliveries) -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    writer.add([writer.encode("x", "default", local, {}, "", b"1")])
    assert reader.read("x", "default", 0, 1)[0].received_at == NOW


def test_a_repeat_is_one_row_within_a_batch_and_across_batches(writer: Deliveries) -> None:
    assert writer.add([row(writer, b"1"), row(writer, b"1"), row(writer, b"2")]) == {("x", "default"): 2}
    assert not writer.add([row(writer, b"1")])
    assert writer.count() == 2


def test_another_route_platform_or_query_is_another_delivery(writer: Deliveries) -> None:
    rows = [
        row(writer, b"1"),
        row(writer, b"1", "shop2"),
        row(writer, b"1", platform="y"),
        row(writer, b"1", query="a=1"),
    ]
    assert writer.add(rows) == {("x", "default"): 2, ("x", "shop2"): 1, ("y", "default"): 1}


def test_reading_goes_on_after_the_bookmark_and_stays_on_its_route(writer: Deliveries, reader: Deliveries) -> None:
    for number in range(6):
        writer.add([row(writer, b"%d" % number, "default" if number % 2 else "shop2")])
    first = reader.read("x", "default", 0, 2)
    rest = reader.read("x", "default", first[-1].delivery_id, 10)
    assert [delivery.body for delivery in first + rest] == [b"1", b"3", b"5"]
    assert reader.last_id("x", "default") == rest[-1].delivery_id
    assert reader.read("x", "default", reader.last_id("x", "default"), 10) == []


def test_an_empty_store_has_no_last_id(reader: Deliveries) -> None:
    assert (reader.last_id("x", "default"), reader.count(), reader.get(1)) == (0, 0, None)


def test_large_bodies_come_in_portions_and_none_is_left_out(
    writer: Deliveries, reader: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries_module, "_MAX_READ_BYTES", 1000)
    writer.add([row(writer, b"%d" % number * 600) for number in range(3)])
    writer.add([row(writer, b"x" * 5000)])
    portions, after_id = [], 0
    while portion := reader.read("x", "default", after_id, 10):
        portions.append(len(portion))
        after_id = portion[-1].delivery_id
    assert portions == [1, 1, 1, 1]


@pytest.mark.sqlite
def test_an_id_is_not_used_again_after_a_purge(writer: Deliveries, stores: Stores) -> None:
    writer.add([row(writer, b"1"), row(writer, b"2")])
    last_id = writer.last_id("x", "default")
    with sqlite3.connect(stores.folder / "deliveries.db") as connection:
        connection.execute("DELETE FROM delivery")
    connection.close()
    writer.add([row(writer, b"3")])
    assert writer.last_id("x", "default") == last_id + 1


def test_nothing_that_was_said_or_sent_along_stands_on_disk_in_clear(writer: Deliveries, stores: Stores) -> None:
    canary = b"canary-8842"
    writer.add([writer.encode("x", "default", NOW, {"user-agent": canary.decode()}, canary.decode(), canary)])
    assert all(canary not in path.read_bytes() for path in stores.folder.iterdir())


@pytest.mark.sqlite
def test_a_reader_cannot_write(writer: Deliveries, reader: Deliveries) -> None:
    with pytest.raises(sqlite3.OperationalError):
        reader.add([row(writer, b"1")])


@pytest.mark.sqlite
def test_a_reader_with_a_long_look_does_not_stop_the_writer(writer: Deliveries, reader: Deliveries) -> None:
    writer.add([row(writer, b"1")])
    with reader._database._connection as connection:
        connection.execute("BEGIN")
        assert reader.count() == 1
        writer.add([row(writer, b"2")])
        assert reader.count() == 1
    connection.execute("COMMIT") if connection.in_transaction else None
    assert reader.count() == 2
