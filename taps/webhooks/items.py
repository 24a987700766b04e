"""What the receiver and a webhook module say to each other: the request, the answer, and the events of a delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """One request of a platform.

    Attributes:
        method: ``GET`` or ``POST``.
        url: as the platform called it, query included: built from the receiver's ``public_url`` where that is set
            (behind a proxy), else from the Host header.
        query: the first value of each name.
        headers: lowercase names. A header that came twice is joined with a comma.
        body: the bytes as they came, still compressed where the platform compresses.
        received_at: for schemes that sign a time.
    """

    method: str = "POST"
    url: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a platform wants to read in a 200."""

    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


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
