"""The Messenger sender against the stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from mappings.errors import CredentialsError, RejectedError
from mappings.ids import reply_token
from mappings.records import Handle
from sandbox.base import Fault, SandboxServer
from sandbox.messenger import MessengerApp
from targets.senders.base import Outgoing
from targets.senders.messenger import MessengerSender, MessengerSenderSettings
from tests.contract.sender import SenderContract

SECRET = "sandbox-access-token"


@pytest.fixture
def app() -> MessengerApp:
    return MessengerApp(access_token=SECRET)


@pytest.fixture
def server(app: MessengerApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        yield running


@pytest.fixture
def sender(server: SandboxServer, app: MessengerApp) -> MessengerSender:
    return MessengerSender(
        MessengerSenderSettings(
            access_token=SecretStr(SECRET), page_id=app.page_id, api_url=server.url, timeout_seconds=2
        )
    )


@pytest.fixture
def outgoing(app: MessengerApp) -> Outgoing:
    psid = app.add_person("Mia", "Rossi")
    app.text(psid, "Hi")
    return Outgoing(
        reply_key="hubspot:1:2:3", token=reply_token("hubspot:1:2:3"), channel="messenger", account=app.page_id,
        to=Handle(kind="messenger_psid", scope=app.page_id, value=psid), text="Hello Mia",
    )  # fmt: skip


@pytest.fixture
def seen(app: MessengerApp) -> Callable[[], int]:
    return lambda: len(app.state()["sent"])


@pytest.fixture
def break_next(app: MessengerApp, server: SandboxServer) -> Callable[[str], None]:
    def break_it(way: str) -> None:
        if way == "refuse":
            body = {"error": {"code": 551, "error_subcode": 1545041, "message": "This person isn't available"}}
            app.faults.append(Fault("/messages", status=400, body=body))
        elif way == "lose_answer":
            app.faults.append(Fault("/messages", status=500, when="after"))
        else:
            server.stop()

    return break_it


@pytest.fixture
def secret() -> str:
    return SECRET


class TestMessengerSender(SenderContract):
    """The contract."""


def test_the_token_comes_back_in_the_echo(app: MessengerApp, sender: MessengerSender, outgoing: Outgoing) -> None:
    sender.send(outgoing)
    (sent,) = app.state()["sent"]
    assert sent["token"] == outgoing.token


def test_outside_the_window_the_platform_refuses_and_the_code_is_kept(
    app: MessengerApp, sender: MessengerSender, outgoing: Outgoing
) -> None:
    app.clock.advance(25 * 3600)
    with pytest.raises(RejectedError) as refused:
        sender.send(outgoing)
    assert refused.value.code == "10/2018278"
    sender.send(replace(outgoing, tag="HUMAN_AGENT"))
    assert app.state()["sent"][0]["tag"] == "HUMAN_AGENT"


def test_a_wrong_token_is_for_the_operator(server: SandboxServer, app: MessengerApp, outgoing: Outgoing) -> None:
    wrong = MessengerSenderSettings(access_token=SecretStr("wrong"), page_id=app.page_id, api_url=server.url)
    with pytest.raises(CredentialsError):
        MessengerSender(wrong).send(outgoing)
