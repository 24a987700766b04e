"""The stand-in of Infobip: what it refuses, tells and counts; Infobip's own library and API documents as judges."""

from __future__ import annotations

import hashlib
import hmac
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from mappings.from_infobip import PLATFORM
from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.infobip import Account, InfobipApp
from stores.database import Stores
from taps.infobip import InfobipSettings, TapInfobip
from taps.webhooks import infobip
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import build_routes
from tests.contract.mapping import fixture_names, load_delivery
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

ADA, BEN = "447700900123", "447700900177"
HOUR = 3600


@pytest.fixture
def app(clock: StandingClock) -> Iterator[InfobipApp]:
    app = InfobipApp(forward_sms=False)
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: InfobipApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


def get(server: SandboxServer, path: str, **query: Any) -> requests.Response:
    headers = {"Authorization": "App sandbox-api-key-0123456789"}
    return requests.get(f"{server.url}{path}", params=query, headers=headers, timeout=10)


# -- the API -----------------------------------------------------------------------------------------------------------


def test_nobody_gets_in_without_the_key(server: SandboxServer) -> None:
    for value in ("", "App wrong", "sandbox-api-key-0123456789", "Basic sandbox-api-key-0123456789"):
        response = requests.get(f"{server.url}/sms/1/inbox/reports", headers={"Authorization": value}, timeout=10)
        assert response.status_code == 401
        assert response.json()["requestError"]["serviceException"]["messageId"] == "UNAUTHORIZED"


def test_the_inbox_gives_each_message_once_for_48_hours(
    app: InfobipApp, server: SandboxServer, clock: StandingClock
) -> None:
    app.text(ADA, "too old")
    clock.advance(49 * HOUR)
    for number in range(3):
        app.text(ADA, str(number))
    first = get(server, "/sms/1/inbox/reports", limit=2).json()
    second = get(server, "/sms/1/inbox/reports").json()
    third = get(server, "/sms/1/inbox/reports").json()
    assert ([one["text"] for one in first["results"]], first["pendingMessageCount"]) == (["0", "1"], 1)
    assert ([one["text"] for one in second["results"]], second["pendingMessageCount"]) == (["2"], 0)
    assert third == {"results": [], "messageCount": 0, "pendingMessageCount": 0}
    assert get(server, "/sms/1/inbox/reports", limit=1001).status_code == 400


def test_conversations_are_paged_and_filtered(app: InfobipApp, server: SandboxServer, clock: StandingClock) -> None:
    app.text(ADA, "one", channel="whatsapp")
    clock.advance(HOUR)
    app.text(BEN, "two", channel="viber")
    (row,) = get(server, "/ccaas/1/conversations", limit=1, page=1).json()["conversations"]
    listed = get(server, f"/ccaas/1/conversations/{row['id']}/messages").json()
    assert (listed["pagination"]["totalItems"], len(listed["messages"])) == (1, 1)
    after = listed["messages"][0]["createdAt"]
    assert after.endswith("+0000")
    assert get(server, "/ccaas/1/conversations", limit=1000).status_code == 400
    assert get(server, "/ccaas/1/conversations", updatedAfter="2026-03-01T12:00:00Z").status_code == 400
    assert get(server, "/ccaas/1/conversations/nobody/messages").status_code == 404


# -- pushes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", ["hmac", "basic", "header"])
def test_a_push_proves_itself_to_our_receiver(inbox: Inbox, proof: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = InfobipApp(proof=proof)
    for name, value in app.environment("https://abc.api.infobip.com").items():
        monkeypatch.setenv(name, value)
    app.connect(inbox.url.removesuffix("/webhook"))
    inbox.answers = [503]
    app.text(ADA, "hello", delivery=Delivery(duplicate=1))
    app.flush()
    app.stop()
    assert len(inbox.posts) == 2
    for headers, body in inbox.posts:
        lower = {name.lower(): value for name, value in headers.items()}
        infobip.verify(infobip.Settings(), WebhookRequest(headers=lower, body=body))
    assert app.state()["customer_messages"][0]["attempts"] == 3


def test_several_messages_can_come_in_one_push(app: InfobipApp, inbox: Inbox) -> None:
    app.forward_sms = True
    app.connect(inbox.url)
    app.deliverer.hold()
    for text in ("one", "two"):
        app.text(ADA, text)
    app.deliverer.release()
    app.flush()
    (body,) = inbox.bodies()
    assert ([one["text"] for one in body["results"]], body["messageCount"]) == (["one", "two"], 2)


def test_the_scene_ends_with_every_message_on_our_side(
    server: SandboxServer, stores: Stores, state_url: str, run_tap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = InfobipApp()
    with SandboxServer(app) as running:
        environment = app.environment(running.url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        routes = {key: route for key, route in build_routes({"infobip": PLATFORM}).items() if key[0] == "infobip"}
        with running_receiver(stores, routes) as receiver:
            app.connect(f"http://127.0.0.1:{receiver.port}")
            app.play()
            app.flush()
            config = tap_config_from_environment("tap-infobip", InfobipSettings, environment)
            messages = run_tap(TapInfobip(config={**config, "state_url": state_url}))
        app.stop()
    told = [(one["stream"], one["record"]) for one in messages if one["type"] == "RECORD"]
    records = [record for stream, record in told if stream == "messages"]
    inbound = [record for record in records if record["direction"] == "inbound"]
    heard = app.heard()
    assert sorted((one["channel"], one["text"]) for one in inbound) == sorted((one[0], one[1]) for one in heard)
    assert len({one["message_key"] for one in inbound}) == len(inbound) == 9
    assert [one["text"] for one in inbound if one["seen_by"] == "poll"] == ["I asked half an hour ago"]
    receipts = {(record["channel"], record["status"]) for stream, record in told if stream == "receipts"}
    assert receipts == {("whatsapp", "delivered"), ("whatsapp", "read"), ("sms", "delivered"), ("sms", "failed")}
    assert {record["change"] for stream, record in told if stream == "message_changes"} == {"react"}
    consents = {(record["purpose"], record["status"]) for stream, record in told if stream == "consents"}
    assert consents == {("promotional", "opted_out")}


# -- Infobip's own library and documents -------------------------------------------------------------------------------


def work(server: SandboxServer, *calls: tuple[str, dict[str, Any]], key: str | None = None) -> list[dict[str, Any]]:
    listed = [{"call": call, "arguments": arguments} for call, arguments in calls]
    given = {"url": server.url, "api_key": key or "sandbox-api-key-0123456789", "calls": listed}
    answers: list[dict[str, Any]] = ask_judge("infobip", "infobip_client.py", given)
    return answers


@pytest.mark.slow
def test_infobips_library_empties_the_inbox_and_sends(app: InfobipApp, server: SandboxServer) -> None:
    app.text(ADA, "Grüße 😀")
    send = {
        "messages": [
            {"sender": "447700900990", "content": {"text": "Hi"}, "destinations": [
                {"to": ADA, "messageId": "mine-1"}, {"to": "nobody"}]},
        ]
    }  # fmt: skip
    first, second, sent, reports, again, logs = work(
        server, ("inbox", {"limit": 10}), ("inbox", {}), ("send", send), ("reports", {}), ("reports", {}), ("logs", {})
    )
    (message,) = first["ok"]["results"]
    assert (message["text"], message["var_from"], message["received_at"][-1]) == ("Grüße 😀", ADA, "Z")
    assert second["ok"]["results"] == []
    assert [one["status"]["group_name"] for one in sent["ok"]["messages"]] == ["PENDING", "REJECTED"]
    assert [one["message_id"] for one in reports["ok"]["results"]] == ["mine-1"]
    assert again["ok"]["results"] == []
    assert len(logs["ok"]["results"]) == 1


@pytest.mark.slow
def test_infobips_library_understands_our_refusals(server: SandboxServer) -> None:
    wrong = work(server, ("inbox", {}), key="wrong")
    assert wrong == [{"status": 401, "code": "UNAUTHORIZED"}]
    assert work(server, ("inbox", {"limit": 1001})) == [{"status": 400, "code": "BAD_REQUEST"}]


@pytest.fixture
def documents() -> Path:
    """The official API documents, which the project does not hold."""
    folder = Path(os.environ.get("ONETHREAD_SPECS", "")) / "infobip"
    if not (folder / "infobip-sms-openapi.json").is_file():
        pytest.skip("ONETHREAD_SPECS does not name a folder with infobip/infobip-sms-openapi.json")
    return folder


WEBHOOKS = {
    "sms": ("sms", "receive-inbound-sms-messages"),
    "whatsapp": ("whatsapp", "receive-inbound-whatsapp-messages"),
    "viber": ("viber", "receive-inbound-viber-messages"),
    "viber_bot": ("viber", "receive-viber-bot-api-incoming-messages"),
    "apple": ("apple-mfb", "receive-messages-apple-mfb-incoming-messages"),
    "report": ("sms", "receive-outbound-sms-message-reports-v3"),
    "report_whatsapp": ("whatsapp", "receive-whatsapp-delivery-reports"),
    "seen": ("whatsapp", "receive-whatsapp-seen-reports"),
}
INVENTED = {"HOLOGRAM", "CAROUSEL", "ROADSIDE_ASSISTANCE"}
EXAMPLES_ONLY = {"INTERACTIVE_PAYMENT_ACKNOWLEDGEMENT"}
"""Types that the documents show in an example and leave out of their own list."""


def case(documents: Path, name: str, body: Any) -> dict[str, Any]:
    file, webhook = WEBHOOKS[name]
    return {"document": str(documents / f"infobip-{file}-openapi.json"), "webhook": webhook, "body": body}


@pytest.mark.slow
def test_pushes_answers_and_fixtures_are_those_of_the_official_documents(
    app: InfobipApp, server: SandboxServer, documents: Path, inbox: Inbox
) -> None:
    app.text(ADA, "in the inbox")
    sms = documents / "infobip-sms-openapi.json"
    answer = {"document": str(sms), "path": "/sms/1/inbox/reports", "method": "get",
              "body": get(server, "/sms/1/inbox/reports").json()}  # fmt: skip
    app.forward_sms = True
    app.connect(inbox.url)
    for channel in ("sms", "whatsapp", "viber", "apple"):
        app.text(ADA, "hello", channel=channel)
    app.picture(ADA, "look")
    app.react(ADA, "wamid.A", "👍")
    app.read(app.send(ADA, "hi", channel="whatsapp"))
    app.fail(app.send(ADA, "hi"))
    app.flush()
    names = ["sms", "whatsapp", "viber", "apple", "whatsapp", "whatsapp", "report_whatsapp", "seen", "report", "report"]
    cases = [answer, *(case(documents, name, body) for name, body in zip(names, inbox.bodies(), strict=True))]
    for fixture in fixture_names("infobip"):
        body = json.loads(load_delivery("infobip", fixture))
        name = next((one for one in sorted(WEBHOOKS, key=len, reverse=True) if fixture.startswith(one)), None)
        known = [
            one for one in body.get("results", [])
            if not isinstance(one.get("message"), dict) or one["message"]["type"] not in INVENTED | EXAMPLES_ONLY
        ]  # fmt: skip
        if name and known and fixture not in {"report_unknown"}:
            cases.append(case(documents, name, {**body, "results": known}))
    bad = [
        case(documents, "whatsapp", {"results": [{"from": ADA}]}),
        case(documents, "viber", {"results": [{**inbox.bodies()[2]["results"][0], "message": {"type": "TELEPORT"}}]}),
        case(documents, "sms", {"results": "none", "messageCount": "x"}),
        case(documents, "report", {"results": [{"messageId": 7}]}),
    ]
    verdicts = ask_judge("infobip", "infobip_documents.py", {"cases": [*cases, *bad]})
    wrong = {index: verdict for index, verdict in enumerate(verdicts[: -len(bad)]) if verdict}
    assert wrong == {}, json.dumps(wrong)
    assert len(cases) > 35
    assert [bool(one) for one in verdicts[-len(bad) :]] == [True] * len(bad)


def test_the_hmac_is_the_one_that_the_standard_library_makes(app: InfobipApp) -> None:
    _, headers = app._prepare("https://hooks.shop.example", b"{}", "key")
    assert headers["X-Sandbox-Hmac"] == hmac.new(b"key", b"{}", hashlib.sha256).hexdigest()


# -- the account of itself ---------------------------------------------------------------------------------------------


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in InfobipApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in InfobipApp.rules)
    assert {rule.judge for rule in InfobipApp.rules} == {"sdk", "openapi", None}


def test_the_page_names_every_option_and_everything_that_people_do() -> None:
    page = (ROOT / "sandbox" / "infobip.md").read_text()
    options = set(inspect.signature(Account.__init__).parameters) - {"self"}
    deeds = {"text", "picture", "react", "send", "read", "fail", "report", "play", "heard", "connect", "environment"}
    assert sorted(name for name in {*options, *deeds} if f"`{name}`" not in page) == []
