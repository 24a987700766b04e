"""Which events were seen before, by webhook and by poll."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.database import Stores
from stores.items import Items, Sighting


@pytest.fixture
def items(stores: Stores) -> Items:
    return Items(stores)


def seen(key: str, source: int, kind: str = "message") -> Sighting:
    return Sighting(key, kind, f"delivery:{source}#0", source)


def test_a_new_event_belongs_to_its_delivery(items: Items) -> None:
    assert items.claim("whatsapp", [seen("a", 1), seen("b", 1)]) == [True, True]


def test_an_event_of_an_earlier_delivery_is_a_repeat(items: Items) -> None:
    items.claim("whatsapp", [seen("a", 1)])
    assert items.claim("whatsapp", [seen("a", 2)]) == [False]


def test_an_event_of_the_same_delivery_read_again_is_none(items: Items) -> None:
    items.claim("whatsapp", [seen("a", 1)])
    assert items.claim("whatsapp", [seen("a", 1)]) == [True]


def test_an_event_twice_in_one_delivery_counts_once(items: Items) -> None:
    assert items.claim("whatsapp", [seen("a", 1), seen("a", 1)]) == [True, False]
    assert items.claim("whatsapp", [seen("a", 1), seen("a", 1)]) == [True, False]


def test_two_deliveries_of_one_call_are_told_apart(items: Items) -> None:
    assert items.claim("whatsapp", [seen("a", 1), seen("a", 2), seen("b", 2)]) == [True, False, True]


def test_platforms_do_not_share_their_events(items: Items) -> None:
    items.claim("whatsapp", [seen("a", 1)])
    assert items.claim("messenger", [seen("a", 2)]) == [True]


def test_more_events_than_one_question_holds(items: Items) -> None:
    many = [seen(f"key {number}", 1) for number in range(1200)]
    assert all(items.claim("whatsapp", many))
    assert not any(items.claim("whatsapp", [one._replace(source=2) for one in many]))


def test_what_a_delivery_brought_is_not_wanted_from_polling(items: Items) -> None:
    items.claim("messenger", [seen("a", 1)])
    assert items.claim_polled("messenger", [seen("a", 1), seen("b", 1)]) == [False, True]


def test_what_an_earlier_pass_found_is_not_wanted_again_but_the_same_pass_repeats_it(items: Items) -> None:
    assert items.claim_polled("messenger", [seen("a", 1)]) == [True]
    assert items.claim_polled("messenger", [seen("a", 1)]) == [True]
    assert items.claim_polled("messenger", [seen("a", 2)]) == [False]


def test_missed_is_what_only_polling_has_seen(items: Items) -> None:
    items.claim_polled("messenger", [seen("a", 1), seen("b", 1)])
    items.claim("messenger", [seen("c", 1)])
    assert items.missed() == {"messenger": 2}
    assert items.claim("messenger", [seen("a", 2)]) == [True]
    assert items.missed() == items.missed("messenger") == {"messenger": 1}
    assert items.missed("whatsapp") == {}


def test_kinds_are_counted_once_per_event(items: Items) -> None:
    items.claim("whatsapp", [seen("a", 1), seen("b", 1, "ignored:account_update"), seen("a", 1)])
    assert items.counts("whatsapp") == {"ignored:account_update": 1, "message": 1}


def test_events_are_forgotten_after_their_time_and_not_before(items: Items) -> None:
    items.claim("whatsapp", [seen("a", 1)])
    assert items.forget(datetime.now(UTC) + timedelta(days=29)) == 0
    assert items.forget(datetime.now(UTC) + timedelta(days=31)) == 1
    assert items.claim("whatsapp", [seen("a", 2)]) == [True]


def test_no_key_is_kept_in_clear(items: Items, stores: Stores) -> None:
    items.claim("whatsapp", [seen("default|1|wamid.447700900123", 1)])
    stores.close()
    content = b"".join(path.read_bytes() for path in stores.folder.glob("items.db*"))
    assert b"447700900123" not in content


@settings(max_examples=50, deadline=None)
@given(deliveries=st.lists(st.lists(st.sampled_from("abcde"), max_size=4), min_size=1, max_size=6), data=st.data())
def test_every_event_is_wanted_from_exactly_one_delivery(
    deliveries: list[list[str]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened = Stores(str(tmp_path_factory.mktemp("items")))
    items = Items(opened)
    wanted: dict[str, set[int]] = {}
    start = 0
    for _ in range(3):  # three runs; each may begin again at an earlier delivery, as after a crash
        for number in range(start, len(deliveries)):
            keys = deliveries[number]
            for key, answer in zip(keys, items.claim("x", [seen(key, number + 1) for key in keys]), strict=True):
                if answer:
                    wanted.setdefault(key, set()).add(number)
        start = data.draw(st.integers(0, len(deliveries)))
    opened.close()
    first = {key: min(n for n, keys in enumerate(deliveries) if key in keys) for keys in deliveries for key in keys}
    assert wanted == {key: {number} for key, number in first.items()}
