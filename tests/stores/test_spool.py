"""What an inbox handed out and deleted is on disk before that, and stays until its records are with the target."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from stores.database import Stores
from stores.spool import Spool


@pytest.fixture
def spool(stores: Stores) -> Spool:
    return Spool(stores)


def numbers(spool: Spool, after_id: int = 0, limit: int = 100, route: str = "default") -> list[int]:
    return [entry.payload["n"] for entry in spool.read("telegram", route, after_id, limit)]


def test_entries_come_back_in_the_order_in_which_they_were_added(spool: Spool) -> None:
    before = datetime.now(UTC)
    assert spool.add("telegram", "default", [("b", {"n": 1}), ("a", {"n": 2})]) == 2
    assert spool.add("telegram", "default", [("c", {"n": 3})]) == 1
    first, second, third = spool.read("telegram", "default", 0, 10)
    assert [first.payload, second.payload, third.payload] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert first.spool_id < second.spool_id < third.spool_id == spool.last_id("telegram", "default")
    assert before <= first.added_at <= third.added_at <= datetime.now(UTC)


def test_reading_goes_on_after_the_bookmark_and_keeps_to_the_limit(spool: Spool) -> None:
    spool.add("telegram", "default", [(str(n), {"n": n}) for n in range(5)])
    page = spool.read("telegram", "default", 0, 2)
    assert [entry.payload["n"] for entry in page] == [0, 1]
    assert numbers(spool, page[-1].spool_id) == [2, 3, 4]


def test_an_entry_that_was_read_again_before_it_was_confirmed_is_one(spool: Spool) -> None:
    spool.add("telegram", "default", [("a", {"n": 1}), ("b", {"n": 2})])
    assert spool.add("telegram", "default", [("b", {"n": 99}), ("c", {"n": 3}), ("c", {"n": 98})]) == 1
    assert numbers(spool) == [1, 2, 3]


def test_platforms_and_routes_do_not_share_their_entries(spool: Spool) -> None:
    spool.add("telegram", "default", [("a", {"n": 1})])
    assert spool.add("telegram", "shop2", [("a", {"n": 2})]) == 1
    assert spool.add("infobip", "default", [("a", {"n": 3})]) == 1
    assert numbers(spool) == [1]
    assert numbers(spool, route="shop2") == [2]
    assert spool.last_id("telegram", "shop3") == 0


def test_only_what_is_with_the_target_and_old_is_forgotten(spool: Spool) -> None:
    spool.add("telegram", "default", [("a", {"n": 1}), ("b", {"n": 2})])
    first, _ = spool.read("telegram", "default", 0, 10)
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert spool.forget("telegram", "default", 1000, first.added_at) == 0
    assert spool.forget("telegram", "shop2", 1000, later) == 0
    assert spool.forget("telegram", "default", first.spool_id, later) == 1
    assert spool.forget("telegram", "default", first.spool_id, later) == 0
    assert numbers(spool) == [2]


def test_the_id_of_a_forgotten_entry_is_never_used_again(spool: Spool) -> None:
    spool.add("telegram", "default", [("a", {"n": 1})])
    last = spool.last_id("telegram", "default")
    spool.forget("telegram", "default", last, datetime.now(UTC) + timedelta(seconds=1))
    spool.add("telegram", "default", [("b", {"n": 2})])
    assert numbers(spool, last) == [2]


def test_nothing_can_be_read_off_the_disk(spool: Spool, stores: Stores) -> None:
    spool.add("telegram", "default", [("from 447700900123", {"text": "my secret question"})])
    stores.close()
    content = b"".join(path.read_bytes() for path in stores.folder.glob("spool.db*"))
    assert b"secret question" not in content
    assert b"447700900123" not in content


def _add_and_die(state_url: str) -> None:
    Spool(Stores(state_url)).add("telegram", "default", [("a", {"n": 1})])
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_added_survives_the_death_of_the_process(state_url: str, spool: Spool) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_add_and_die, args=(state_url,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert numbers(spool) == [1]
