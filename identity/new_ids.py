"""Mints person ids: UUIDv7, each higher than all that this process minted before, thousands a millisecond.

The package `uuid6` takes a millisecond of the future for each id of one and the same millisecond, and five times as
long. Here a counter in the twelve bits behind the milliseconds does it (RFC 9562, 6.2, method 1; read 2026-11,
documented); sixty bits of each id are random.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

_AT_A_TIME = 64
_next = 0
"""The lowest number that may be given out: milliseconds since 1970 and the counter, sixty bits."""


def new_ids() -> Iterator[str]:
    """New ids without end. Take one iterator for as many as belong together: that is what makes them cheap."""
    global _next  # noqa: PLW0603 (whoever else mints here must not mint a lower one)
    while True:
        random = os.urandom(8 * _AT_A_TIME).hex()
        first = max(_next, time.time_ns() // 1_000_000 << 12)
        _next = first + _AT_A_TIME
        for number, place in zip(range(first, _next), range(0, len(random), 16), strict=True):
            text = f"{number:015x}"
            tail = random[place + 1 : place + 16]
            yield f"{text[:8]}-{text[8:12]}-7{text[12:]}-8{tail[:3]}-{tail[3:]}"
