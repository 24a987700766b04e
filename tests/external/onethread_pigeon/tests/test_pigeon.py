"""Pigeon Post in the contract suites of onethread. Every part is found through the register, as onethread finds it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from mappings.ids import reply_token
from mappings.platforms import load_platform
from mappings.records import Handle
from sandbox.base import Fault, SandboxServer
from stores.database import Stores
from stores.deliveries import Deliveries
from targets.senders.base import Outgoing
from tests.contract.sender import SenderContract
from tests.contract.tap import TapContract
from tests.contract.webhook import JsonBodyContract, WebhookContract
from tests.taps.webhook_source import RECEIVED_AT

PIGEON = load_platform("pigeon")
WEBHOOK, TAP, SENDER, LOFT = (PIGEON.load(part) for part in ("webhook", "tap", "sender", "sandbox"))


def pigeon(number: int, **more: Any) -> dict[str, Any]:
    return {"ring": f"P-{number}", "loft": "north", "owner": "ada", "words": "Coo", "landed": 1772366400, **more}


class TestPigeonWebhook(WebhookContract, JsonBodyContract):
    slug = "pigeon"
    module: ClassVar[Any] = WEBHOOK
    signature_header = "X-Pigeon-Seal"
    body = json.dumps({"pigeons": [pigeon(1), pigeon(2)]}).encode()
    kinds = ("pigeon", "pigeon")

    def settings(self, secret: str, previous: str | None = None) -> Any:
        return WEBHOOK.Settings.model_validate({"seal": secret, "previous_seal": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class PigeonSource:
    tap_class = TAP

    def __init__(self, stores: Stores, state_url: str) -> None:
        self._deliveries, self._state_url = Deliveries(stores, writable=True), state_url

    def config(self) -> dict[str, Any]:
        return {"state_url": self._state_url}

    def add(self, part: int) -> None:
        for number in (10 * part, 10 * part + 1):
            self._deliver(pigeon(number))

    def add_bad(self) -> None:
        self._deliver({"ring": "P-0", "loft": "north"})

    def close(self) -> None:
        self._deliveries.close()

    def _deliver(self, one: dict[str, Any]) -> None:
        body = json.dumps({"pigeons": [one]}).encode()
        self._deliveries.add([self._deliveries.encode("pigeon", "default", RECEIVED_AT, {}, "", body)])


class TestTapPigeon(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[PigeonSource]:
        made = PigeonSource(stores, state_url)
        yield made
        made.close()


class TestPigeonSender(SenderContract):
    @pytest.fixture
    def app(self) -> Any:
        loft = LOFT(token="a secret token")
        loft.land("ada", "Coo?")
        return loft

    @pytest.fixture
    def server(self, app: Any) -> Iterator[SandboxServer]:
        with SandboxServer(app) as running:
            yield running

    @pytest.fixture
    def sender(self, server: SandboxServer, secret: str) -> Any:
        return SENDER(SENDER.settings_model(loft="north", token=secret, api_url=server.url))

    @pytest.fixture
    def outgoing(self) -> Outgoing:
        return Outgoing(
            reply_key="hubspot:1:2:3", token=reply_token("hubspot:1:2:3"), channel="pigeon", account="north",
            to=Handle(kind="pigeon_owner", scope="north", value="ada"), text="Coo!",
        )  # fmt: skip

    @pytest.fixture
    def seen(self, app: Any) -> Callable[[], int]:
        return lambda: len(app.sent)

    @pytest.fixture
    def secret(self) -> str:
        return "a secret token"

    @pytest.fixture
    def break_next(self, app: Any, server: SandboxServer) -> Callable[[str], None]:
        def break_it(way: str) -> None:
            if way == "no_connection":
                server.stop()
            else:
                app.faults.append(
                    Fault("/pigeons", status=422) if way == "refuse" else Fault("/pigeons", status=500, when="after")
                )

        return break_it
