"""Custom channels of the stand-in's inbox: channels, our accounts in them, threads, messages, agents' answers.

Source: the types of hubspot-sdk 0.1.0a9, made from HubSpot's API document, documented; what an answer to our webhook
address looks like: github code of others who read real events, read 2026-11, observed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import Clock, json_response
from sandbox.deliverer import Deliverer, Delivery, Event
from sandbox.hubspot.files import Files
from sandbox.hubspot.objects import iso
from sandbox.hubspot.refusals import Refusal, invalid, not_found
from sandbox.hubspot.wire import Table, body_of, listed

IDENTIFIER_TYPES = ("CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS", "HS_PHONE_NUMBER", "HS_SHORT_CODE")
STATUSES = ("SENT", "FAILED", "READ")
FILE_USAGES = ("AUDIO", "IMAGE", "OTHER", "STICKER", "VOICE_RECORDING")
MAX_TRIES = 11
"""The first, and ten more over 24 hours (documented); here they follow each other fast."""
_OTHERS_APP = 99_001


@dataclass(slots=True)
class Thread:
    """One thread of the inbox."""

    thread_id: str
    integration_thread_id: str
    channel_id: str
    account_id: str
    contact_id: str | None = None
    customer: dict[str, Any] = field(default_factory=dict)
    us: dict[str, Any] = field(default_factory=dict)
    archived: bool = False


class Channels:
    """What one account has in its inbox. Not locked: the server calls it under its own lock.

    Args:
        clock: of the stand-in.
        portal_id: the account's id.
        text_limit: longer texts are cut (how HubSpot cuts is not documented).
        files: of the account.
        has_contact: whether an id is a contact's that is there.
        tells_own: whether our own OUTGOING messages are posted to us as well; the pages do not say.
    """

    def __init__(
        self,
        clock: Clock,
        files: Files,
        has_contact: Callable[[str], bool],
        *,
        portal_id: str,
        text_limit: int,
        tells_own: bool,
    ) -> None:
        self.channels: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.threads: dict[str, Thread] = {}
        self.array_bodies = False
        self.signs = True
        self._clock = clock
        self._files = files
        self._has_contact = has_contact
        self._portal_id = portal_id
        self._text_limit = text_limit
        self._tells_own = tells_own
        self._by_idempotency: dict[tuple[str, str], str] = {}
        self._last = 40
        self._secret = ""
        self.deliverer = Deliverer(self._compose, self._prepare, max_tries=MAX_TRIES, retry_seconds=(0.02, 0.05))

    # -- channels and accounts

    def register(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add a channel."""
        if not isinstance(wanted.get("name"), str) or not isinstance(wanted.get("capabilities"), dict):
            raise invalid("name and capabilities are required")
        channel = {
            "id": self._next(), "name": wanted["name"], "capabilities": wanted["capabilities"],
            "createdAt": self._now(), "webhookUrl": wanted.get("webhookUrl"),
        }  # fmt: skip
        self.channels[channel["id"]] = channel
        return channel

    def channel(self, channel_id: str) -> dict[str, Any]:
        """One channel; 404 if there is none."""
        if channel_id not in self.channels:
            raise not_found()
        return self.channels[channel_id]

    def change(self, channel_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Change a channel."""
        channel = self.channel(channel_id)
        channel |= {key: wanted[key] for key in ("name", "capabilities", "webhookUrl") if key in wanted}
        return channel

    def add_account(self, channel_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add an account to a channel."""
        self.channel(channel_id)
        if not isinstance(wanted.get("inboxId"), str) or not isinstance(wanted.get("name"), str):
            raise invalid("inboxId and name are required")
        if not isinstance(wanted.get("authorized"), bool):
            raise invalid("authorized is required")
        identifier = wanted.get("deliveryIdentifier")
        if identifier is not None:
            _check_identifier(identifier)
        account = {
            "id": self._next(), "channelId": channel_id, "inboxId": wanted["inboxId"], "name": wanted["name"],
            "authorized": wanted["authorized"], "active": True, "archived": False, "createdAt": self._now(),
            "deliveryIdentifier": identifier,
        }  # fmt: skip
        self.accounts[account["id"]] = account
        return account

    # -- messages

    def publish(self, channel_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """A message of ours; the same idempotency id again answers with the same message."""
        self.channel(channel_id)
        for name, kind in (
            ("text", str), ("messageDirection", str), ("timestamp", str), ("channelAccountId", str),
            ("attachments", list), ("senders", list), ("recipients", list),
        ):  # fmt: skip
            if not isinstance(wanted.get(name), kind):
                raise invalid(f"{name} is required")
        if wanted["messageDirection"] not in {"INCOMING", "OUTGOING"}:
            raise invalid("messageDirection must be INCOMING or OUTGOING")
        account = self.accounts.get(wanted["channelAccountId"])
        if account is None or account["channelId"] != channel_id:
            raise invalid("channelAccountId is not of this channel")
        for one in (*wanted["senders"], *wanted["recipients"]):
            _check_identifier(one.get("deliveryIdentifier"))
        for one in wanted["attachments"]:
            self._check_attachment(one)
        key = wanted.get("integrationIdempotencyId")
        if key and (known := self._by_idempotency.get((channel_id, key))):
            return self.messages[known]
        contact_id = wanted.get("associateWithContactId")
        if contact_id is not None and not self._has_contact(str(contact_id)):
            raise Refusal(404, "OBJECT_NOT_FOUND", f"Contact {contact_id} does not exist")
        thread = self._thread(channel_id, account["id"], wanted)
        thread.contact_id = str(contact_id) if contact_id is not None else thread.contact_id
        incoming = wanted["messageDirection"] == "INCOMING"
        thread.customer = (wanted["senders"] if incoming else wanted["recipients"])[0]
        thread.us = (wanted["recipients"] if incoming else wanted["senders"])[0]
        message = self._message(thread, wanted["text"], wanted["messageDirection"], wanted, "INTEGRATION", "I-1")
        if key:
            self._by_idempotency[channel_id, key] = message["id"]
        if self._tells_own and not incoming:
            self._tell(thread, message)
        return message

    def message(self, channel_id: str, message_id: str) -> dict[str, Any]:
        """One message; 404 if there is none."""
        found = self.messages.get(message_id)
        if found is None or found["channelId"] != channel_id:
            raise not_found()
        return found

    def set_status(self, channel_id: str, message_id: str, wanted: dict[str, Any]) -> dict[str, Any]:
        """What became of a message."""
        message = self.message(channel_id, message_id)
        if wanted.get("statusType") not in STATUSES:
            raise invalid(f"statusType must be one of {', '.join(STATUSES)}")
        message["status"] = {"statusType": wanted["statusType"]}
        if wanted.get("errorMessage"):
            message["status"]["failureDetails"] = {"errorMessageTokens": {"message": wanted["errorMessage"]}}
        return message

    def archive_thread(self, thread_id: str) -> None:
        """Put a thread into the bin."""
        thread = next((one for one in self.threads.values() if one.thread_id == thread_id), None)
        if thread is None:
            raise not_found()
        thread.archived = True

    # -- what agents do in the inbox

    def answer(
        self, integration_thread_id: str, text: str, *, file: tuple[str, str, bytes] | None = None,
        delivery: Delivery | None = None,
    ) -> str:  # fmt: skip
        """An agent answers in a thread, with a file (name, type, bytes) perhaps; the message's id."""
        thread = next(one for one in self.threads.values() if one.integration_thread_id == integration_thread_id)
        attachments = []
        if file is not None:
            file_id = self._files.add(*file).file_id
            usage = "IMAGE" if file[1].startswith("image/") else "OTHER"
            attachments.append({"type": "FILE", "fileId": file_id, "fileUsageType": usage, "name": file[0]})
        senders = [{**thread.us, "actorId": "A-9001", "name": "Ada Agent"}]
        recipients = [{**thread.customer, "actorId": f"V-{thread.contact_id}"}]
        wanted = {"senders": senders, "recipients": recipients, "attachments": attachments}
        message = self._message(thread, text, "OUTGOING", wanted, "HUBSPOT", "A-9001")
        self._tell(thread, message, delivery)
        return str(message["id"])

    def start_webhooks(self, secret: str) -> None:
        """Begin to post agents' answers, each to the address of its channel, signed with the app's secret."""
        self._secret = secret
        self.deliverer.start("", secret)

    # -- the endpoints

    def table(self) -> Table:
        """The routes."""
        channels = "/conversations/v3/custom-channels"
        return [
            ("POST", "/conversations/custom-channels/v3", self._answer_register_channel),
            ("GET", channels, self._answer_list_channels),
            ("GET", f"{channels}/<channel_id>", self._answer_get_channel),
            ("PATCH", f"{channels}/<channel_id>", self._answer_change_channel),
            ("GET", f"{channels}/<channel_id>/channel-accounts", self._answer_list_channel_accounts),
            ("POST", f"{channels}/<channel_id>/channel-accounts", self._answer_add_channel_account),
            ("POST", f"{channels}/<channel_id>/messages", self._answer_publish),
            ("GET", f"{channels}/<channel_id>/messages/<message_id>", self._answer_get_message),
            ("PATCH", f"{channels}/<channel_id>/messages/<message_id>", self._answer_set_message_status),
            ("DELETE", "/conversations/v3/conversations/threads/<thread_id>", self._answer_archive_thread),
        ]

    def _answer_register_channel(self, request: Request) -> Response:
        if request.path.endswith("/v3") and not (request.args.get("hapikey") and request.args.get("appId")):
            raise invalid("hapikey and appId are required")
        return json_response(self.register(body_of(request)), 201)

    def _answer_list_channels(self, request: Request) -> Response:
        return listed(request, self.channels.values())

    def _answer_get_channel(self, request: Request, channel_id: str) -> Response:
        del request
        return json_response(self.channel(channel_id))

    def _answer_change_channel(self, request: Request, channel_id: str) -> Response:
        return json_response(self.change(channel_id, body_of(request)))

    def _answer_list_channel_accounts(self, request: Request, channel_id: str) -> Response:
        self.channel(channel_id)
        return listed(request, [one for one in self.accounts.values() if one["channelId"] == channel_id])

    def _answer_add_channel_account(self, request: Request, channel_id: str) -> Response:
        return json_response(self.add_account(channel_id, body_of(request)), 201)

    def _answer_publish(self, request: Request, channel_id: str) -> Response:
        return json_response(self.publish(channel_id, body_of(request)), 201)

    def _answer_get_message(self, request: Request, channel_id: str, message_id: str) -> Response:
        del request
        return json_response(self.message(channel_id, message_id))

    def _answer_set_message_status(self, request: Request, channel_id: str, message_id: str) -> Response:
        return json_response(self.set_status(channel_id, message_id, body_of(request)))

    def _answer_archive_thread(self, request: Request, thread_id: str) -> Response:
        del request
        self.archive_thread(thread_id)
        return Response(status=204)

    # -- how it is kept and told

    def state(self) -> dict[str, Any]:
        """Channels, accounts, threads with their messages, and how posting went."""
        return {
            "channels": self.channels,
            "accounts": self.accounts,
            "threads": {
                one.integration_thread_id: {
                    "id": one.thread_id, "contact": one.contact_id, "archived": one.archived,
                    "messages": [m for m in self.messages.values() if m["conversationsThreadId"] == one.thread_id],
                }
                for one in self.threads.values()
            },
            "webhooks": self.deliverer.account(),
        }  # fmt: skip

    def _thread(self, channel_id: str, account_id: str, wanted: dict[str, Any]) -> Thread:
        name = str(wanted.get("integrationThreadId") or uuid.uuid4())
        key = f"{channel_id}|{account_id}|{name}"
        if key not in self.threads:
            self.threads[key] = Thread(self._next(), name, channel_id, account_id)
        return self.threads[key]

    def _check_attachment(self, attachment: object) -> None:
        """Only files are played."""
        if not isinstance(attachment, dict) or attachment.get("type") != "FILE":
            raise invalid("an attachment must be of type FILE")
        if attachment.get("fileUsageType", "OTHER") not in FILE_USAGES:
            raise invalid(f"fileUsageType must be one of {', '.join(FILE_USAGES)}")
        if attachment.get("fileId") not in self._files.stored:
            raise invalid("fileId is not a file of this account")

    def _message(
        self, thread: Thread, text: str, direction: str, wanted: dict[str, Any], client: str, by: str
    ) -> dict[str, Any]:
        cut = len(text) > self._text_limit
        message = {
            "id": f"{int(self._next()):032x}", "type": "MESSAGE", "channelId": thread.channel_id,
            "channelAccountId": thread.account_id, "conversationsThreadId": thread.thread_id, "archived": False,
            "createdAt": wanted.get("timestamp") or self._now(), "createdBy": by, "direction": direction,
            "client": {"clientType": client, **({"integrationAppId": _OTHERS_APP} if client == "INTEGRATION" else {})},
            "senders": wanted["senders"], "recipients": wanted["recipients"], "text": text[: self._text_limit],
            "truncationStatus": "TRUNCATED" if cut else "NOT_TRUNCATED", "attachments": wanted["attachments"],
            "status": {"statusType": "RECEIVED" if direction == "INCOMING" else "SENT"},
        }  # fmt: skip
        self.messages[message["id"]] = message
        return message

    def _tell(self, thread: Thread, message: dict[str, Any], delivery: Delivery | None = None) -> None:
        part = {
            "type": "OUTGOING_CHANNEL_MESSAGE_CREATED", "portalId": self._portal_id, "channelId": thread.channel_id,
            "eventTimestamp": self._now(), "eventId": str(uuid.uuid4()),
            "channelIntegrationThreadIds": [thread.integration_thread_id], "message": message,
        }  # fmt: skip
        self.deliverer.add(Event("answer", message["id"], part), delivery)

    def _compose(self, parts: list[dict[str, Any]]) -> bytes:
        whole = parts if self.array_bodies or len(parts) > 1 else parts[0]
        return json.dumps(whole, ensure_ascii=False).encode()

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        told = json.loads(body)
        first = told[0] if isinstance(told, list) else told
        url = str(self.channels[first["channelId"]].get("webhookUrl") or url)
        headers = {"Content-Type": "application/json"}
        if self.signs:
            stamp = str(int(self._clock.epoch() * 1000))
            text = b"POST" + url.encode() + body + stamp.encode()
            digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()
            headers["X-HubSpot-Signature-v3"] = base64.b64encode(digest).decode()
            headers["X-HubSpot-Request-Timestamp"] = stamp
        return url, headers

    def _next(self) -> str:
        self._last += 1
        return str(self._last)

    def _now(self) -> str:
        return iso(self._clock.now())


def _check_identifier(identifier: object) -> None:
    if not isinstance(identifier, dict) or identifier.get("type") not in IDENTIFIER_TYPES:
        raise invalid(f"deliveryIdentifier.type must be one of {', '.join(IDENTIFIER_TYPES)}")
    if not isinstance(identifier.get("value"), str) or not identifier["value"]:
        raise invalid("deliveryIdentifier.value is required")
