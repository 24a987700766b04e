"""The stand-in of Apple: what it refuses, tells and counts; PyJWT as the judge of its tokens."""

from __future__ import annotations

import base64
import gzip
import inspect
import json
import uuid
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import requests

from mappings.from_apple import PLATFORM
from sandbox.apple import AppleApp
from sandbox.apple.account import Account
from sandbox.base import SandboxServer
from stores.database import Stores
from taps.apple import TapApple
from taps.apple_media import decrypted
from taps.webhooks.receiver import build_routes
from tests.contract.webhook import running_receiver
from tests.sandbox.conftest import ROOT, Inbox, StandingClock


@pytest.fixture
def app(clock: StandingClock) -> Iterator[AppleApp]:
    app = AppleApp()
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: AppleApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


def headers_of(app: AppleApp, **more: str) -> dict[str, str]:
    """A token as PyJWT makes it, and what else a call has."""
    claims = {"iss": app.msp_id, "iat": int(app.clock.epoch())}
    token = jwt.encode(claims, base64.b64decode(app.secret), algorithm="HS256")
    return {"Authorization": f"Bearer {token}", **more}


def send(app: AppleApp, server: SandboxServer, customer: str, **changes: Any) -> requests.Response:
    body = {"v": 1, "id": str(uuid.uuid4()), "type": "text", "sourceId": app.business_id, "destinationId": customer,
            "body": "Hi", **changes}  # fmt: skip
    named = {"id": body["id"], "source-id": body["sourceId"], "destination-id": customer}
    return requests.post(f"{server.url}/v1/message", json=body, headers=headers_of(app, **named), timeout=10)


# -- posts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_a_post_has_a_token_that_pyjwt_reads_and_says_no_time(inbox: Inbox, compress: bool) -> None:
    app = AppleApp(compress=compress)
    app.connect(inbox.url)
    customer = app.customer()
    number = app.text(customer, "Grüße 😀", intent="chair", group="sales")
    app.flush()
    app.stop()
    ((headers, raw),) = inbox.posts
    claims = jwt.decode(
        headers["Authorization"].removeprefix("Bearer "), base64.b64decode(app.secret), algorithms=["HS256"],
        audience=app.msp_id,
    )  # fmt: skip
    body = json.loads(gzip.decompress(raw) if compress else raw)
    assert set(claims) == {"aud", "iat"}
    assert body == {"v": 1, "id": number, "type": "text", "sourceId": customer, "destinationId": app.business_id,
                    "locale": "en_US", "body": "Grüße 😀", "intent": "chair", "group": "sales"}  # fmt: skip
    assert {name.lower() for name in headers} >= {"id", "source-id", "destination-id", "capability-list"}


def test_a_post_that_nobody_took_is_not_repeated(app: AppleApp, inbox: Inbox) -> None:
    inbox.answers = [500]
    app.connect(inbox.url)
    app.text(app.customer(), "lost")
    app.flush()
    assert inbox.posts == []
    assert app.state()["webhooks"]["given_up"] == 1


# -- files -------------------------------------------------------------------------------------------------------------


def ask(app: AppleApp, server: SandboxServer, told: dict[str, Any], **changes: str) -> requests.Response:
    asked = {"source-id": app.business_id, "url": told["url"], "owner": told["owner"],
             "signature": told["signature-base64"], **changes}  # fmt: skip
    headers = headers_of(app, **{name: value for name, value in asked.items() if value})
    return requests.get(f"{server.url}/v1/preDownload", headers=headers, timeout=10)


def test_a_file_is_encrypted_and_for_five_minutes_where_it_was_told(
    app: AppleApp, server: SandboxServer, clock: StandingClock
) -> None:
    told = app.encrypt(b"a picture", "a.png", "image/png")
    url = ask(app, server, told).json()["download-url"]
    data = requests.get(url, timeout=10).content
    assert data != b"a picture"
    assert b"".join(decrypted([data], bytes.fromhex(told["key"][2:]))) == b"a picture"
    clock.advance(301)
    assert requests.get(url, timeout=10).status_code == 403


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"signature": ""}, 400), ({"signature": "AAAA"}, 400), ({"owner": "x"}, 404), ({"source-id": "other"}, 404),
     ({"url": "https://elsewhere.example"}, 404)],
)  # fmt: skip
def test_a_file_wants_all_that_the_message_told(
    app: AppleApp, server: SandboxServer, changes: dict[str, str], status: int
) -> None:
    told = app.encrypt(b"x", "a.png", "image/png")
    assert ask(app, server, told, **changes).status_code == status


# -- sending -----------------------------------------------------------------------------------------------------------


def test_without_a_token_401_and_with_a_wrong_one_403(app: AppleApp, server: SandboxServer) -> None:
    url = f"{server.url}/v1/message"
    wrong = jwt.encode({"iss": app.msp_id, "iat": 1}, b"x" * 32, algorithm="HS256")
    other = jwt.encode({"iss": "other", "iat": 1}, base64.b64decode(app.secret), algorithm="HS256")
    assert requests.post(url, timeout=10).status_code == 401
    for token in (wrong, other, "x", "a.b.c"):
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.post(url, headers=headers, timeout=10).status_code == 403


def test_a_customer_gets_what_is_sent_until_they_close_and_again_when_they_write(
    app: AppleApp, server: SandboxServer
) -> None:
    customer = app.customer()
    assert send(app, server, customer).status_code == 404  # they must begin
    app.text(customer, "Hello")
    assert send(app, server, customer).status_code == 200
    app.close(customer)
    assert send(app, server, customer).status_code == 404
    app.text(customer, "Hello again")
    assert send(app, server, customer).status_code == 200
    assert [row["text"] for row in app.state()["sent"]] == ["Hi", "Hi"]


@pytest.mark.parametrize("changes", [{"v": 2}, {"type": "close"}, {"body": ""}, {"id": ""}, {"type": "hologram"}])
def test_a_message_that_lacks_something_is_400(app: AppleApp, server: SandboxServer, changes: dict[str, Any]) -> None:
    customer = app.customer()
    app.text(customer, "Hello")
    assert send(app, server, customer, **changes).status_code == 400


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_ends_with_every_message_on_our_side(
    app: AppleApp, server: SandboxServer, stores: Stores, state_url: str, run_tap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = app.environment(server.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    routes = {key: route for key, route in build_routes({"apple": PLATFORM}).items() if key[0] == "apple"}
    with running_receiver(stores, routes) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.play()
        app.flush()
        named = {name.removeprefix("ONETHREAD_APPLE_").lower(): value for name, value in environment.items()}
        files = {"fetch_media": True, "media_private_hosts": [f"127.0.0.1:{server.port}"]}
        messages = run_tap(TapApple(config={"state_url": state_url, **named, **files}))

    def records(stream: str) -> list[dict[str, Any]]:
        return [one["record"] for one in messages if one.get("stream") == stream and "record" in one]

    said = [one for one in records("messages") if one["kind"] != "system"]
    heard = app.heard()
    assert sorted(str(one["text"]) for one in said) == sorted(str(words) for _, words, _ in heard)
    assert len({one["message_key"] for one in said}) == len(heard) == 10
    assert [one["content"] for one in records("messages") if one["kind"] == "system"] == [{"type": "close"}] * 2
    assert all(file["media_key"] for one in said for file in one["attachments"])
    last = {(one["handle_key"], one["purpose"]): one["status"] for one in records("consents")}
    assert sorted(status for (_, purpose), status in last.items() if purpose == "service") == [
        "opted_in", "opted_in", "opted_out",
    ]  # fmt: skip


# -- the account of itself ---------------------------------------------------------------------------------------------


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in AppleApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in AppleApp.rules)
    assert {rule.judge for rule in AppleApp.rules} == {"pyjwt", None}


def test_the_page_names_every_option_and_everything_that_people_do() -> None:
    page = (ROOT / "sandbox" / "apple.md").read_text()
    options = set(inspect.signature(Account.__init__).parameters) - {"self"}
    deeds = {"customer", "text", "picture", "tapback", "pick", "type", "close", "encrypt", "play", "heard", "connect",
             "environment"}  # fmt: skip
    assert sorted(name for name in {*options, *deeds} if f"`{name}`" not in page) == []
