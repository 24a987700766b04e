"""Deliveries for the tests of taps: written as the receiver would, signed by nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from stores.database import Stores
from stores.deliveries import Deliveries
from taps.deliveries import DeliveryTap
from tests.contract.mapping import load_delivery

RECEIVED_AT = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


class WebhookSource:
    """The deliveries of one route of one platform; `parts` names the fixtures of a contract's two parts."""

    def __init__(
        self,
        stores: Stores,
        state_url: str,
        tap_class: type[DeliveryTap[Any]],
        parts: dict[int, list[str]],
        bad: str = "unknown_event",
    ) -> None:
        self.tap_class = tap_class
        self._deliveries = Deliveries(stores, writable=True)
        self._state_url = state_url
        self._parts = parts
        self._bad = bad

    def config(self, **more: Any) -> dict[str, Any]:
        """The tap's settings."""
        return {"state_url": self._state_url, **more}

    def add(self, part: int) -> None:
        """Deliver the fixtures of one part."""
        for name in self._parts[part]:
            self.deliver_fixture(name)

    def add_bad(self) -> None:
        """Deliver what nobody understands."""
        self.deliver_fixture(self._bad)

    def deliver_fixture(self, name: str, **more: Any) -> int:
        """Deliver one fixture; the delivery's id."""
        return self.deliver(load_delivery(self.tap_class.platform, name), **more)

    def deliver(self, body: Any, *, route: str = "default", at: datetime = RECEIVED_AT) -> int:
        """Deliver a body (bytes, or what becomes JSON); the delivery's id."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._deliveries.add([self._deliveries.encode(self.tap_class.platform, route, at, {}, "", raw)])
        return self._deliveries.last_id(self.tap_class.platform, route)

    def close(self) -> None:
        """Close the file."""
        self._deliveries.close()
