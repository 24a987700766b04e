"""The stand-in's inbox, dated paths and notes; judged by hubspot-sdk and by HubSpot's check of signatures."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from hubspot.utils.signature import Signature

from sandbox.base import SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.hubspot.channels import MAX_TRIES
from tests.judges.environment import ask_judge
from tests.sandbox.hubspot_world import TOKEN, covers

CUSTOMER = {"deliveryIdentifier": {"type": "HS_PHONE_NUMBER", "value": "+12025550101"}, "name": "Ana"}
US = {"deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "1"}, "name": "Shop"}
CHANNELS = "conversations.custom_channels"


class Account:
    """A running stand-in with a channel and an account in it."""

    def __init__(self, **options: Any) -> None:
        self.app = HubSpotApp(**options)
        self.server = SandboxServer(self.app).start()
        self.contact = self.app.create_contact_as_person({"email": "ana@shop.example"})
        self.channel = self.call("POST", "/conversations/custom-channels/2026-03", name="Chat", capabilities={})["id"]
        accounts = f"/conversations/v3/custom-channels/{self.channel}/channel-accounts"
        self.account = self.call("POST", accounts, inboxId="9", name="Shop", authorized=True)["id"]

    def call(self, method: str, path: str, status: int = 0, **body: Any) -> dict[str, Any]:
        answer = requests.request(method, self.server.url + path, json=body or None, headers=TOKEN, timeout=10)
        assert answer.status_code == status or (not status and answer.ok), answer.text
        told: dict[str, Any] = answer.json() if answer.content else {}
        return told

    def publish(self, status: int = 201, **more: Any) -> dict[str, Any]:
        body = {
            "text": "Hello", "messageDirection": "INCOMING", "timestamp": "2026-11-02T12:00:00Z",
            "channelAccountId": self.account, "attachments": [], "senders": [CUSTOMER], "recipients": [US],
            "integrationThreadId": "thread-1", "associateWithContactId": int(self.contact), **more,
        }  # fmt: skip
        path = f"/conversations/v3/custom-channels/{self.channel}/messages"
        return self.call("POST", path, status, **{key: one for key, one in body.items() if one is not None})


@pytest.fixture
def account() -> Iterator[Account]:
    made = Account(inbox_text_limit=20)
    yield made
    made.app.channels.deliverer.stop()
    made.server.stop()


class Hook:
    """An address that HubSpot posts to: it refuses the first few posts."""

    def __init__(self, refuse: int = 0) -> None:
        self.posts: list[tuple[str, bytes, dict[str, str]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posts.append((self.path, body, {key.lower(): one for key, one in self.headers.items()}))
                self.send_response(503 if len(hook.posts) <= refuse else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=a-word"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.stop()


def listen(account: Account, hook: Hook) -> None:
    account.app.channels.channels[account.channel]["webhookUrl"] = hook.url
    account.app.channels.start_webhooks("app-secret")


@pytest.mark.slow
@covers("dated_paths", "channel_shapes", "delivery_identifier_types", "inbox_status_values")
def test_hubspots_newer_client_takes_every_answer(account: Account) -> None:
    message = {
        "channel_id": "{0.id}", "channel_account_id": "{1.id}", "text": "Hello", "message_direction": "INCOMING",
        "timestamp": "2026-11-02T12:00:00Z", "attachments": [], "integration_thread_id": "t",
        "senders": [{"delivery_identifier": {"type": "HS_PHONE_NUMBER", "value": "+12025550101"}}],
        "recipients": [{"delivery_identifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "1"}}],
    }  # fmt: skip
    calls: list[tuple[str, dict[str, Any]]] = [
        (f"{CHANNELS}.create", {"name": "WhatsApp", "capabilities": {"richText": []}, "webhook_url": "https://a.example"}),
        (f"{CHANNELS}.channel_accounts.create",
         {"channel_id": "{0.id}", "inbox_id": "9", "name": "Shop", "authorized": True,
          "delivery_identifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "1"}}),
        (f"{CHANNELS}.messages.create", message),
        (f"{CHANNELS}.messages.update", {"channel_id": "{0.id}", "message_id": "{2.id}", "status_type": "READ"}),
        (f"{CHANNELS}.messages.update",
         {"channel_id": "{0.id}", "message_id": "{2.id}", "status_type": "FAILED", "error_message": "No such number"}),
        (f"{CHANNELS}.messages.get", {"channel_id": "{0.id}", "message_id": "{2.id}"}),
        (f"{CHANNELS}.list", {}),
        (f"{CHANNELS}.update",
         {"channel_id": "{0.id}", "name": "Chat", "webhook_url": "https://b.example", "capabilities": {"richText": []},
          "channel_account_connection_redirect_url": "", "channel_description": "", "channel_logo_url": ""}),
        ("crm.objects.contacts.get", {"contact_id": account.contact, "properties": ["email"]}),
        (f"{CHANNELS}.messages.update", {"channel_id": "{0.id}", "message_id": "{2.id}", "status_type": "DELIVERED"}),
        (f"{CHANNELS}.messages.get", {"channel_id": "{0.id}", "message_id": "nobody"}),
    ]  # fmt: skip
    work = {"url": account.server.url, "token": "sandbox-token"}
    answers = ask_judge(
        "hubspot", "hubspot_client.py", {**work, "calls": [{"call": c, "arguments": a} for c, a in calls]}
    )
    assert [name for (name, _), one in zip(calls, answers, strict=True) if "ok" not in one] == [
        f"{CHANNELS}.messages.update", f"{CHANNELS}.messages.get",
    ], answers  # fmt: skip
    assert [one["status"] for one in answers[-2:]] == [400, 404]
    assert answers[4]["ok"]["status"]["statusType"] == "FAILED"
    assert answers[8]["ok"]["properties"]["email"] == "ana@shop.example"


@covers("dated_paths")
@pytest.mark.parametrize("version", ["2026-03", "2026-09"])
def test_a_dated_path_is_the_same_account(account: Account, version: str) -> None:
    found = account.call("GET", f"/crm/objects/{version}/contacts/{account.contact}")
    assert found == account.call("GET", f"/crm/v3/objects/contacts/{account.contact}")
    assert account.call("GET", f"/account-info/{version}/details")["portalId"] == 8800001
    account.call("GET", f"/crm/objects/2025-01/contacts/{account.contact}", 404)


@covers("channel_registration")
def test_v3_registers_a_channel_only_with_the_developers_key_and_the_app(account: Account) -> None:
    path = "/conversations/custom-channels/v3"
    account.call("POST", path, 400, name="Chat", capabilities={})
    account.call("POST", f"{path}?hapikey=x&appId=1", 201, name="Chat", capabilities={})


@covers("publishing_again")
def test_the_same_idempotency_id_is_the_same_message(account: Account) -> None:
    first = account.publish(integrationIdempotencyId="a")
    assert account.publish(integrationIdempotencyId="a", text="other") == first
    assert account.publish(integrationIdempotencyId="b")["id"] != first["id"]
    assert account.publish()["id"] != account.publish()["id"]


@covers("channel_shapes")
@pytest.mark.parametrize("missing", ["text", "timestamp", "channelAccountId", "attachments", "senders", "recipients"])
def test_a_message_needs_all_its_parts(account: Account, missing: str) -> None:
    assert account.publish(400, **{missing: None})["category"] == "VALIDATION_ERROR"


@covers("delivery_identifier_types")
def test_an_address_of_another_type_is_refused(account: Account) -> None:
    account.publish(400, senders=[{"deliveryIdentifier": {"type": "TELEGRAM", "value": "1"}}])


@covers("message_of_a_live_contact")
def test_a_contact_that_is_not_there_is_404(account: Account) -> None:
    account.publish(404, associateWithContactId=1)
    assert account.app.state()["inbox"]["threads"] == {}


@covers("text_is_cut")
def test_a_long_text_is_cut_and_says_so(account: Account) -> None:
    told = account.publish(text="x" * 21)
    assert (len(told["text"]), told["truncationStatus"]) == (20, "TRUNCATED")
    assert account.publish(text="x" * 20)["truncationStatus"] == "NOT_TRUNCATED"


@covers("agents_answer_is_posted", "channel_signature")
def test_an_agents_answer_is_posted_and_hubspots_own_check_takes_its_signature(account: Account, hook: Hook) -> None:
    listen(account, hook)
    account.publish()
    answered = account.app.channels.answer("thread-1", "Hi")
    account.app.channels.deliverer.flush()
    ((path, body, headers),) = hook.posts
    event = json.loads(body)
    assert (event["type"], event["message"]["id"], path) == (
        "OUTGOING_CHANNEL_MESSAGE_CREATED", answered, "/hook?token=a-word",
    )  # fmt: skip
    assert event["channelIntegrationThreadIds"] == ["thread-1"]
    assert event["message"]["recipients"][0]["actorId"] == f"V-{account.contact}"
    signature, stamp = headers["x-hubspot-signature-v3"], headers["x-hubspot-request-timestamp"]
    for secret, good in (("app-secret", True), ("another", False)):
        assert Signature.is_valid(signature, secret, body.decode(), hook.url, "POST", "v3", stamp) is good


@covers("posting_again")
def test_a_post_that_is_refused_comes_again_ten_times_at_most(account: Account) -> None:
    for refuse, arrives in ((3, True), (MAX_TRIES, False)):
        hook = Hook(refuse=refuse)
        listen(account, hook)
        account.publish()
        account.app.channels.answer("thread-1", "Hi")
        account.app.channels.deliverer.flush()
        assert len(hook.posts) == (refuse + 1 if arrives else MAX_TRIES)
        hook.stop()


@covers("own_messages_are_posted")
@pytest.mark.parametrize("tells", [True, False])
def test_our_own_outgoing_message_is_posted_if_the_option_says_so(hook: Hook, tells: bool) -> None:
    account = Account(inbox_tells_own=tells)
    listen(account, hook)
    account.publish(messageDirection="OUTGOING", senders=[US], recipients=[CUSTOMER])
    account.publish()
    account.app.channels.deliverer.flush()
    assert len(hook.posts) == int(tells)
    account.app.channels.deliverer.stop()
    account.server.stop()


@covers("signed_urls")
def test_a_file_is_had_by_a_signed_address(account: Account) -> None:
    account.publish()
    answered = account.app.channels.answer("thread-1", "", file=("a.txt", "text/plain", b"words"))
    (file,) = account.app.channels.messages[answered]["attachments"]
    url = account.call("GET", f"/files/v3/files/{file['fileId']}/signed-url")["url"]
    assert requests.get(url, timeout=10).content == b"words"
    assert requests.get(url.partition("?")[0], timeout=10).status_code == 403


@covers("notes")
def test_a_note_needs_a_time_and_hangs_on_its_contact(account: Account) -> None:
    account.call("POST", "/crm/v3/objects/notes", 400, properties={"hs_note_body": "x"})
    note = account.call("POST", "/crm/v3/objects/notes", 201, properties={"hs_timestamp": "1793620800000"})["id"]
    pair = {"from": {"id": note}, "to": {"id": account.contact}}
    kinds = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]
    account.call("POST", "/crm/v4/associations/notes/contacts/batch/create", 201, inputs=[{**pair, "types": kinds}])
    assert account.app.state()["notes"][note]["contacts"] == [account.contact]
    assert account.app.state()["contacts"][account.contact]["communications"] == [note]
    path = f"/crm/v4/objects/contacts/{account.contact}/associations"
    assert account.call("GET", f"{path}/communications")["results"] == []
    assert [one["toObjectId"] for one in account.call("GET", f"{path}/notes")["results"]] == [note]
