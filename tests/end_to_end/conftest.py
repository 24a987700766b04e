"""Fixtures of the tests that run everything together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.shop import Shop, open_shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop of this test's own; its receiver runs."""
    with open_shop(tmp_path / "shop") as opened:
        opened.start_receiver()
        yield opened
