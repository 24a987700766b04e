"""The official API document of WhatsApp judges the stand-in: as a proxy in front of it (Prism), and by its examples.

The document is older than business-scoped user ids, and stricter than the platform where it asks for `recipient_type`
and for the language policy of a template; in other places it is silent (`biz_opaque_callback_data`).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from sandbox.base import Fault, SandboxServer
from sandbox.whatsapp import WhatsAppApp
from tests.sandbox.conftest import ROOT, Inbox

PRISM = "@stoplight/prism-cli@5.14.2"
DOCUMENT = "whatsapp/business-messaging-api_v23.0.yaml"
EXAMPLES = "whatsapp/official_webhook_examples.json"


def outside(variable: str, name: str) -> Path:
    """A file that the project does not hold."""
    folder = os.environ.get(variable)
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"{variable} does not name a folder with {name}")
    return Path(folder) / name


@dataclass(frozen=True)
class Proxied:
    """A stand-in with the judge in front of it."""

    app: WhatsAppApp
    url: str

    def send(self, token: str = "sandbox-access-token", **body: Any) -> requests.Response:
        url = f"{self.url}/v23.0/{self.app.phone_number_id}/messages"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.post(url, json=body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def prism() -> Path:
    """The command of Prism, installed when it is not there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js is not installed")
    place = ROOT / ".venvs" / "prism"
    command = place / "node_modules" / ".bin" / "prism"
    if not command.exists():
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "install", "--prefix", str(place), PRISM], capture_output=True, text=True, timeout=170, check=False
        )
        if done.returncode:
            pytest.skip(f"Prism cannot be installed here: {done.stderr.strip()[-300:]}")
    return command


@pytest.fixture(scope="module")
def proxied(prism: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """Prism between us and a stand-in with one customer in the window."""
    document = outside("ONETHREAD_SPECS", DOCUMENT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = WhatsAppApp()
    app.text(app.add_customer("Ana", "12025550101"), "Hello")
    log = tmp_path_factory.mktemp("prism") / "log"
    with SandboxServer(app) as server, log.open("w") as output:
        command = [str(prism), "proxy", "-h", "127.0.0.1", "-p", str(port), "--errors", str(document), server.url]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(port, process, log)
            yield Proxied(app, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            process.wait(timeout=10)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("Prism did not begin to listen within a minute")


MEDIA = "https://media.example"
PARAMETERS = [{"type": "text", "text": "Ana"}, {"type": "text", "text": "17"}]
TEMPLATE = {
    "name": "order_update",
    "language": {"code": "en", "policy": "deterministic"},
    "components": [{"type": "body", "parameters": PARAMETERS}],
}
YES = {"type": "reply", "reply": {"id": "y", "title": "Yes"}}
GOOD: dict[str, dict[str, Any]] = {
    "a text": {"type": "text", "text": {"body": "Grüße", "preview_url": False}},
    "an image by link": {"type": "image", "image": {"link": f"{MEDIA}/a.png", "caption": "look"}},
    "a document by link": {"type": "document", "document": {"link": f"{MEDIA}/a.pdf", "filename": "a.pdf"}},
    "a template": {"type": "template", "template": TEMPLATE},
    "buttons": {
        "type": "interactive",
        "interactive": {"type": "button", "body": {"text": "Pick"}, "action": {"buttons": [YES]}},
    },
}
BAD: dict[str, dict[str, Any]] = {
    "an unknown type": {"type": "telegram", "text": {"body": "x"}},
    "a text without its part": {"type": "text"},
    "a text that is a number": {"type": "text", "text": {"body": 7}},
    "another product": {"type": "text", "text": {"body": "x"}, "messaging_product": 7},
    "no receiver": {"type": "text", "text": {"body": "x"}, "to": None},
    "no recipient_type": {"type": "text", "text": {"body": "x"}, "recipient_type": None},
    "a part that is not there": {"type": "text", "text": {"body": "x", "colour": "red"}},
}


def message(**parts: Any) -> dict[str, Any]:
    whole = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": "12025550101", **parts}
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_what_the_document_allows_passes_to_the_stand_in_and_back(proxied: Proxied, name: str) -> None:
    answer = proxied.send(**message(**GOOD[name]))
    assert answer.status_code == 200, answer.text
    assert answer.json()["messages"][0]["id"] in proxied.app.sent


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_what_the_document_forbids_does_not_reach_the_stand_in(proxied: Proxied, name: str) -> None:
    before = len(proxied.app.journal)
    assert proxied.send(**message(**BAD[name])).status_code == 422
    assert len(proxied.app.journal) == before


@pytest.mark.slow
def test_no_token_is_refused_by_the_document_and_a_wrong_one_by_the_stand_in(proxied: Proxied) -> None:
    text = message(type="text", text={"body": "x"})
    assert proxied.send("", **text).status_code == 401
    assert proxied.send("wrong", **text).json()["error"]["code"] == 190


@pytest.mark.slow
def test_an_answer_that_the_document_does_not_know_is_noticed(proxied: Proxied) -> None:
    proxied.app.faults.append(Fault("/messages", status=200, when="after", body={"messages": "none"}))
    answer = proxied.send(**message(**GOOD["a text"]))
    assert answer.status_code == 500
    assert "VIOLATIONS" in answer.text


@pytest.mark.slow
def test_a_media_id_is_answered_as_the_document_says(proxied: Proxied) -> None:
    media_id = proxied.app._store(b"picture", "image/png", None, "customer")
    headers = {"Authorization": "Bearer sandbox-access-token"}
    answer = requests.get(f"{proxied.url}/v23.0/{media_id}", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["id"]) == (200, media_id)


@pytest.mark.slow
def test_the_document_takes_our_status_webhooks_and_refuses_an_invented_status(proxied: Proxied, inbox: Inbox) -> None:
    sent = proxied.send(**message(type="text", text={"body": "Hi"})).json()["messages"][0]["id"]
    proxied.app.read("customer-1", sent)
    proxied.app.fail_next(131049)
    proxied.send(**message(type="text", text={"body": "lost"}))
    proxied.app.start_delivery(inbox.url)
    proxied.app.deliverer.flush()
    proxied.app.stop_delivery()
    told = [body for body in inbox.bodies() if "statuses" in body["entry"][0]["changes"][0]["value"]]
    names = {body["entry"][0]["changes"][0]["value"]["statuses"][0]["status"] for body in told}
    assert names == {"sent", "delivered", "read", "failed"}
    url = f"{proxied.url}/whatsapp/webhooks"
    headers = {"Authorization": "Bearer sandbox-access-token"}
    # What passes the judge goes on to the stand-in, which has no such path (400); 422 is the judge's word.
    assert {requests.post(url, json=body, headers=headers, timeout=30).status_code for body in told} == {400}
    told[0]["entry"][0]["changes"][0]["value"]["statuses"][0]["status"] = "arrived"
    assert requests.post(url, json=told[0], headers=headers, timeout=30).status_code == 422


# -- the examples of the document --------------------------------------------------------------------------------------


def paths(value: Any, at: str = "") -> set[str]:
    """Every place in a JSON value with the type of what stands there."""
    if isinstance(value, dict):
        return {found for key, each in value.items() for found in paths(each, f"{at}.{key}")}
    if isinstance(value, list):
        return {found for each in value for found in paths(each, f"{at}[]")}
    return {f"{at}: {'number' if isinstance(value, int | float) else type(value).__name__}"}


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outside("ONETHREAD_DATA", EXAMPLES).read_text())
    return found


@pytest.fixture
def shapes(inbox: Inbox) -> dict[str, set[str]]:
    """What a customer with a phone number alone does, by the name of the document's example."""
    app = WhatsAppApp()
    ana = app.add_customer("Sheena Nelson", "12025550101")
    item = {"product_retailer_id": "di9ozbzfi4", "quantity": 2, "item_price": 30, "currency": "USD"}
    wamid = app.text(ana, "Hello")
    done = {
        "Text Message": wamid,
        "Text Message with Context (Product Inquiry)": app.product_inquiry(ana, "Still there?", "di9ozbzfi4"),
        "Text Message from Click to WhatsApp Ad": app.from_ad(ana, "More?"),
        "Reaction Message": app.react(ana, wamid),
        "Image Message": app.media(ana, "image", caption="look"),
        "Location Message": app.location(
            ana, 37.44, -122.16, name="A café", address="1 Main St", url="https://cafe.example/"
        ),
        "Contact Sharing Message": app.contact_card(ana, "Lucía Gómez", "+1 202 555 0177"),
        "Unsupported Message": app.unsupported(ana),
        "Button Message": app.template_button(ana, wamid, "Unsubscribe"),
        "Interactive List Reply Message": app.list_reply(ana, wamid, "express", "Express", description="Next day"),
        "Interactive Button Reply Message": app.button_reply(ana, wamid, "y", "Yes"),
        "Order Message": app.order(ana, [item]),
        "System Message": app.change_number(ana, "12025550111"),
    }
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    app.stop_delivery()
    by_id = {body["entry"][0]["changes"][0]["value"]["messages"][0]["id"]: body for body in inbox.bodies()}
    return {name: paths(by_id[one]) for name, one in done.items()}


MESSAGE = ".entry[].changes[].value.messages[]"
NOT_OURS = {  # parts of the examples that these deeds do not have; each is optional in the document
    f"{MESSAGE}.referral.welcome_message.text: str",
    f"{MESSAGE}.contacts[].org.company: str",
}


def test_inbound_messages_have_exactly_the_shape_of_the_examples_of_the_document(
    examples: dict[str, Any], shapes: dict[str, set[str]]
) -> None:
    different = {
        name: sorted((paths(examples[name]) - NOT_OURS) ^ ours)
        for name, ours in shapes.items()
        if (paths(examples[name]) - NOT_OURS) != ours
    }
    assert different == {}


def test_every_example_of_the_document_is_played_except_those_of_groups(
    examples: dict[str, Any], shapes: dict[str, set[str]]
) -> None:
    assert set(examples) - set(shapes) == {name for name in examples if name.startswith("Group ")}
