"""A loft on this machine: it pushes pigeons that land, and takes pigeons for its customers."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from typing import Any

from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import SandboxApp, json_response
from sandbox.deliverer import Deliverer, Delivery, Event


class PigeonLoft(SandboxApp):
    """One loft and its customers."""

    name = "pigeon"

    def __init__(self, loft: str = "north", token: str = "sandbox-token", seal: str = "a seal of red wax") -> None:
        super().__init__()
        self.loft, self.token, self.seal = loft, token, seal
        self.landed: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        self.deliverer = Deliverer(lambda parts: json.dumps({"pigeons": parts}).encode(), self._sealed, max_tries=8)

    def routes(self) -> Iterable[Route]:
        """Where replies are handed in."""
        return [Route("/lofts/<loft>/pigeons", endpoint=self._take, methods=["POST"])]

    def land(self, owner: str, words: str, delivery: Delivery | None = None) -> str:
        """A pigeon of a customer lands; its ring."""
        ring = f"P-{len(self.landed) + 1}"
        pigeon = {"ring": ring, "loft": self.loft, "owner": owner, "words": words, "landed": int(self.clock.epoch())}
        self.landed.append(pigeon)
        self.deliverer.add(Event("pigeon", ring, pigeon), delivery)
        return ring

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect onethread to this loft."""
        values = {"SEAL": self.seal, "LOFT": self.loft, "TOKEN": self.token, "API_URL": url}
        return {f"ONETHREAD_PIGEON_{name}": value for name, value in values.items()}

    def connect(self, receiver_url: str) -> None:
        """Start to push."""
        self.deliverer.start(f"{receiver_url}/webhooks/pigeon", self.seal)

    def play(self) -> None:
        """Two customers; one pigeon comes twice, one out of order."""
        self.land("ada", "Is the blue vase back?", Delivery(duplicate=1))
        self.deliverer.hold()
        self.land("mia", "One")
        self.land("mia", "Two")
        self.deliverer.release(reverse=True)

    def flush(self, timeout: float = 10) -> None:
        """Until every pigeon was taken."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def heard(self) -> list[tuple[str, str | None, float]]:
        """Every message of a customer."""
        return [("pigeon", one["words"], float(one["landed"])) for one in self.landed]

    def state(self) -> dict[str, Any]:
        """What landed and what was sent."""
        return {"landed": self.landed, "sent": self.sent, "webhooks": self.deliverer.account()}

    def guard(self, request: Request) -> Response | None:
        """The token."""
        right = hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self.token}")
        return None if right else json_response({"error": "who are you?"}, 401)

    def _take(self, request: Request, loft: str) -> Response:
        body = request.get_json()
        known = loft == self.loft and any(one["owner"] == body["to"] for one in self.landed)
        if not known:
            return json_response({"error": "no pigeon knows the way"}, 404)
        ring = f"R-{len(self.sent) + 1}"
        self.sent.append({"ring": ring, **body})
        return json_response({"ring": ring}, 201)

    @staticmethod
    def _sealed(url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        seal = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return url, {"Content-Type": "application/json", "X-Pigeon-Seal": seal}
