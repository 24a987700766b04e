"""Person ids: UUIDv7, in the order in which they were minted."""

from __future__ import annotations

import time
import uuid
from itertools import islice

import pytest

from identity.new_ids import new_ids


def test_ids_are_uuids_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    for text in islice(new_ids(), 1000):
        made = uuid.UUID(text)
        assert str(made) == text
        assert made.version == 7
        assert made.variant == uuid.RFC_4122
    assert before <= uuid.UUID(next(new_ids())).int >> 80 <= time.time_ns() // 1_000_000 + 1000


def test_each_id_is_higher_than_all_that_were_minted_before() -> None:
    ids = [one for _ in range(300) for one in islice(new_ids(), 100)]
    assert ids == sorted(set(ids))


def test_a_clock_that_goes_back_gives_no_lower_id(monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(new_ids())
    monkeypatch.setattr("identity.new_ids.time.time_ns", lambda: 0)
    assert next(new_ids()) > first
