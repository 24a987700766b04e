"""What is parked stays with its reason until somebody decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mappings.errors import RejectedError, UnavailableError, UnknownShapeError
from stores.database import Stores
from stores.parked import Parked


def park(parked: Parked, key: str = "k", payload: object = "raw") -> None:
    parked.park("tap-x", "messages", key, UnknownShapeError("X: type 'hologram' is not known"), payload, "delivery:1#0")


def test_the_same_thing_parked_again_is_one_row_with_more_tries(stores: Stores) -> None:
    parked = Parked(stores)
    park(parked)
    park(parked)
    (item,) = parked.list()
    assert (item.tries, item.error, item.payload, item.raw_ref) == (2, "UnknownShapeError", "raw", "delivery:1#0")


def test_a_replay_is_handed_out_in_the_order_it_was_asked_for_and_once(stores: Stores) -> None:
    parked = Parked(stores)
    for key in "abc":
        park(parked, key, key)
    ids = {item.payload: item.parked_id for item in parked.list()}
    assert parked.ask_replay([ids["c"]]) == 1
    assert parked.ask_replay([ids["a"]]) == 1
    handed = list(parked.to_replay("tap-x"))
    assert [item.payload for item in handed] == ["c", "a"]
    assert list(parked.to_replay("tap-x", after_sequence=handed[0].replay_sequence or 0)) == handed[1:]
    parked.mark_replayed([item.parked_id for item in handed])
    assert list(parked.to_replay("tap-x")) == []
    assert parked.count() == 1


def test_a_replay_that_fails_again_stays_parked(stores: Stores) -> None:
    parked = Parked(stores)
    park(parked)
    (item,) = parked.list()
    parked.ask_replay([item.parked_id])
    park(parked)
    parked.mark_replayed([item.parked_id])
    assert parked.count() == 1


def test_what_a_passing_trouble_parked_is_asked_for_again_ever_later_and_six_times(stores: Stores) -> None:
    parked = Parked(stores)
    parked.park("tap-x", "messages", "bad", UnknownShapeError("no"), 0)
    parked.park("tap-x", "media", "gone", RejectedError("X: 404"), 0)
    parked.park("tap-y", "media", "another tap's", UnavailableError("X: 503"), 0)
    pauses = []
    for _ in range(8):
        parked.park("tap-x", "media", "late", UnavailableError("X: 503"), 0)
        now = datetime.now(UTC)
        minutes = (1, 3.9, 15.9, 63, 255, 1_023, 4_095, 10_000_000)
        pauses.append(
            next((one for one in minutes if parked.ask_retry("tap-x", "media", now + timedelta(minutes=one))), 0)
        )
    assert pauses == [15.9, 63, 255, 1_023, 4_095, 10_000_000, 0, 0]
    assert [item.payload for item in parked.to_replay("tap-x")] == []


def test_dropped_things_are_not_handed_out(stores: Stores) -> None:
    parked = Parked(stores)
    park(parked)
    (item,) = parked.list()
    assert parked.drop([item.parked_id]) == 1
    assert parked.ask_replay([item.parked_id]) == 0


def test_the_payload_cannot_be_read_off_the_disk(stores: Stores) -> None:
    park(Parked(stores), payload={"text": "my secret question"})
    stores.close()
    assert b"secret question" not in b"".join(path.read_bytes() for path in stores.folder.glob("parked.db*"))
