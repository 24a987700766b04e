"""The WhatsApp sender against the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from mappings.errors import CredentialsError, RateLimitedError
from mappings.ids import reply_token
from mappings.records import Handle
from sandbox.base import Fault, SandboxServer
from sandbox.whatsapp import WhatsAppApp
from targets.senders.base import Outgoing
from targets.senders.whatsapp import WhatsAppSender, WhatsAppSenderSettings
from tests.contract.sender import SenderContract

SECRET = "sandbox-access-token"


@pytest.fixture
def app() -> WhatsAppApp:
    return WhatsAppApp(access_token=SECRET)


@pytest.fixture
def server(app: WhatsAppApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def sender(server: SandboxServer, app: WhatsAppApp) -> WhatsAppSender:
    return WhatsAppSender(
        WhatsAppSenderSettings(
            access_token=SecretStr(SECRET), phone_number_id=app.phone_number_id, api_url=server.url, timeout_seconds=2
        )
    )


@pytest.fixture
def outgoing(app: WhatsAppApp) -> Outgoing:
    customer = app.add_customer("Mia", "+12025550101", "US.mia")
    app.text(customer, "Hi")
    return Outgoing(
        reply_key="hubspot:1:2:3", token=reply_token("hubspot:1:2:3"), channel="whatsapp", account=app.phone_number_id,
        to=Handle(kind="phone", value="+12025550101"), text="Hello Mia",
    )  # fmt: skip


@pytest.fixture
def seen(app: WhatsAppApp) -> Callable[[], int]:
    return lambda: len([one for one in app.state()["sent"] if one["status"] != "failed"])


@pytest.fixture
def break_next(app: WhatsAppApp, server: SandboxServer, sender: WhatsAppSender) -> Callable[[str], None]:
    def break_it(way: str) -> None:
        if way == "refuse":
            body = {"error": {"code": 131009, "message": "(#131009) Parameter value is not valid"}}
            app.faults.append(Fault("/messages", status=400, body=body))
        elif way == "lose_answer":
            app.faults.append(Fault("/messages", status=500, when="after"))
        else:
            server.stop()

    return break_it


@pytest.fixture
def secret() -> str:
    return SECRET


class TestWhatsAppSender(SenderContract):
    """The contract."""


def test_the_token_comes_back_in_the_status(app: WhatsAppApp, sender: WhatsAppSender, outgoing: Outgoing) -> None:
    sender.send(outgoing)
    (sent,) = app.state()["sent"]
    assert sent["token"] == outgoing.token


def test_a_user_without_a_phone_is_written_to_by_id(
    app: WhatsAppApp, sender: WhatsAppSender, outgoing: Outgoing
) -> None:
    hidden = app.add_customer("Priya", None, "IN.priya")
    app.text(hidden, "Hi")
    sender.send(replace(outgoing, to=Handle(kind="whatsapp_user", scope="p", value="IN.priya")))
    (sent,) = app.state()["sent"]
    assert sent["customer"] == hidden


def test_a_rate_limit_is_for_later(app: WhatsAppApp, sender: WhatsAppSender, outgoing: Outgoing) -> None:
    app.faults.append(Fault("/messages", status=429, body={"error": {"code": 130429}}, headers={"Retry-After": "9"}))
    with pytest.raises(RateLimitedError) as limited:
        sender.send(outgoing)
    assert limited.value.retry_after_seconds == 9


def test_a_wrong_token_is_for_the_operator(server: SandboxServer, app: WhatsAppApp, outgoing: Outgoing) -> None:
    wrong = WhatsAppSenderSettings(
        access_token=SecretStr("wrong"), phone_number_id=app.phone_number_id, api_url=server.url
    )
    with pytest.raises(CredentialsError, match="token"):
        WhatsAppSender(wrong).send(outgoing)


def test_a_timeout_after_the_request_is_unknown(app: WhatsAppApp, sender: WhatsAppSender, outgoing: Outgoing) -> None:
    from mappings.errors import OutcomeUnknownError

    app.faults.append(Fault("/messages", when="hang", delay_seconds=2.5))
    with pytest.raises(OutcomeUnknownError):
        sender.send(outgoing)


def test_an_unknown_outcome_has_no_read_back(sender: WhatsAppSender, outgoing: Outgoing) -> None:
    assert sender.settle(outgoing) is None
