"""One event out of a delivery, as `split` of a webhook module gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Item:
    """One message, status or other event of a delivery.

    Attributes:
        index: position in the delivery, from 0: with the delivery id it names the raw bytes for ever.
        kind: what it is, in the words of the platform's webhook module; ``other`` when no word fits.
        payload: the event with everything around it that a mapping needs.
        key: the same for the same event in another delivery; unique within one account of the platform.
    """

    index: int
    kind: str
    payload: dict[str, Any]
    key: str
