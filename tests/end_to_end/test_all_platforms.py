"""Every platform's stand-in plays its scene: all that its customers wrote is on a contact's record, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.tally import Heard, tally
from stores.items import Items
from tests.end_to_end.shop import Shop, open_shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IN = ("tap-channels", "map-identity", "target-archive")
OUT = ("tap-archive", "target-hubspot")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """All scenes were played, read and told to HubSpot."""
    with open_shop(tmp_path_factory.mktemp("all") / "shop", full=True) as opened:
        opened.start_receiver()
        for guest in opened.theatre.guests.values():
            guest.connect(f"http://127.0.0.1:{opened.theatre.receiver_port}")
            guest.play()
            guest.flush(30)
        for pipe in (IN, OUT):
            done = opened.pipe(*pipe)
            assert done.code == 0, done.log[-6000:]
        yield opened


def test_what_every_platforms_customers_wrote_is_on_a_record_once(shop: Shop) -> None:
    heard = {slug: [Heard(*one) for one in guest.heard()] for slug, guest in shop.theatre.guests.items()}
    print({slug: len(messages) for slug, messages in heard.items()}, Items(shop.stores).missed())
    assert all(heard.values())
    # Counted together: two platforms carry SMS, and STOP is said on both.
    every = [message for messages in heard.values() for message in messages]
    counted = tally(every, list(shop.hubspot.state()["communications"].values()))
    assert (counted.received, counted.on_records, counted.lost, counted.doubled) == (len(every), len(every), 0, 0)


def test_nothing_is_parked(shop: Shop) -> None:
    assert shop.parked() == []


def test_a_second_time_writes_nothing(shop: Shop) -> None:
    writes = shop.hubspot_writes()
    for pipe in (IN, OUT):
        done = shop.pipe(*pipe)
        assert done.code == 0, done.log[-6000:]
    assert shop.hubspot_writes() == writes
