"""The calls of Chatwoot's application API that the stand-in answers, its files, and a scene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.chatwoot.account import AGENT, Account
from sandbox.deliverer import Delivery
from sandbox.meta import TokenBucket

_LONGEST = 150_000


class ChatwootApp(Account):
    """The account with its API. `calls` is the budget of requests."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls = TokenBucket(3000, 50)

    def routes(self) -> Iterable[Route]:
        """The API and the files."""
        base = "/api/v1/accounts/<int:account>"
        messages = f"{base}/conversations/<int:conversation>/messages"
        return [
            Route("/api/v1/profile", endpoint=self._get_profile, methods=["GET"]),
            Route(f"{base}/conversations", endpoint=self._get_conversations, methods=["GET"]),
            Route(messages, endpoint=self._get_messages, methods=["GET"]),
            Route(messages, endpoint=self._post_message, methods=["POST"]),
            Route(f"{base}/webhooks", endpoint=self._get_webhooks, methods=["GET"]),
            Route(f"{base}/inboxes", endpoint=self._get_inboxes, methods=["GET"]),
            Route("/rails/active_storage/blobs/redirect/<key>/<name>", endpoint=self._get_redirect, methods=["GET"]),
            Route("/rails/active_storage/disk/<key>/<name>", endpoint=self._get_file, methods=["GET"]),
        ]

    def refusal(self, error: HTTPException) -> Response:
        """As Rails words it."""
        return json_response({"status": error.code, "error": error.name}, error.code or 500)

    def guard(self, request: Request) -> Response | None:
        """The token, the account, and how fast it may ask; files want no token."""
        if request.path.startswith("/rails/"):
            return None
        if not self.calls.take("", self.clock.epoch()):
            return Response("Retry later\n", status=429, headers={"Retry-After": "60"}, content_type="text/plain")
        given = request.headers.get("Api-Access-Token")
        if given is None:
            return json_response({"errors": ["You need to sign in or sign up before continuing."]}, 401)
        if given != self.access_token:
            return json_response({"error": "Invalid Access Token"}, 401)
        parts = request.path.split("/")
        if parts[3] == "accounts" and parts[4] != str(self.account_id):
            return json_response({"error": "Account not found"}, 404)
        return None

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in at `url`."""
        self.public_url = url
        named = {
            "WEBHOOK_SECRET": self.webhook_secret, "ACCESS_TOKEN": self.access_token, "API_URL": url,
            "ACCOUNT_ID": str(self.account_id), "INSTALLATION": "chat.shop.example", "VERIFIED_BY": "identifier",
        }  # fmt: skip
        return {f"ONETHREAD_CHATWOOT_{name}": value for name, value in named.items()}

    # -- a scene --

    def play(self) -> None:
        """Three visitors: one logs in, one webhook comes twice, one late, one never; a note, a bot, a STOP."""
        ivy, max_, rosa = self.visitor(), self.visitor("Max"), self.visitor("Rosa")
        self.text(ivy, "Hello, is the oak chair in stock?")
        mail = "ivy.stone@mail.example"
        self.identify(ivy, identifier=mail, identifier_hash=self.signed_identifier(mail), email=mail, name="Ivy Stone")
        self.text(ivy, "I have logged in now", delivery=Delivery(duplicate=1))
        self.agent(ivy, "Customer since 2019, careful with discounts", private=True)
        self.agent(ivy, "Yes, two are left")
        self.see(ivy)
        self.picture(max_)
        self.text(max_, "It came like this", delivery=Delivery(delay_seconds=0.3))
        self.text(max_, "Can you replace it?")
        question = self.ask(max_, "Which room is it for?", ["Kitchen", "Office"])
        self.choose(question, "Kitchen")
        regretted = self.agent(max_, "wrong window, sorry")
        self.delete(regretted)
        lost = self.clock.epoch() - 300
        self.text(rosa, "I asked five minutes ago", delivery=Delivery(drop=True), at=lost)
        self.text(rosa, "STOP")
        self.resolve(rosa)

    # -- reading --

    def _get_profile(self, request: Request) -> Response:
        del request
        accounts = [{"id": self.account_id, "name": "Example Shop", "status": "active", "role": "administrator"}]
        return json_response({**AGENT, "role": "administrator", "account_id": self.account_id, "accounts": accounts})

    def _get_conversations(self, request: Request, account: int) -> Response:
        del account
        asked = request.args
        page = int(asked.get("page", "1"))
        status = asked.get("status", "open")
        rows = [one for one in self.conversations.values() if status in {"all", one.status}]
        rows.sort(key=lambda one: (int(one.active), one.number), reverse=True)
        part = [self.conversation_row(one, by_api=True) for one in rows[25 * (page - 1) : 25 * page]]
        counts = {"mine_count": 0, "unassigned_count": len(rows), "assigned_count": 0, "all_count": len(rows)}
        return json_response({"data": {"meta": counts, "payload": part}})

    def _get_messages(self, request: Request, account: int, conversation: int) -> Response:
        del account
        if conversation not in self.conversations:
            return json_response({"error": "Resource could not be found"}, 404)
        asked = request.args
        rows = sorted(
            (one for one in self.messages.values() if one.conversation == conversation),
            key=lambda one: (one.at, one.number),
        )
        if asked.get("filter_internal_messages"):
            rows = [one for one in rows if not one.private and one.kind != 2]
        after, before = int(asked.get("after") or 0), int(asked.get("before") or 0)
        if after and before:
            rows = [one for one in rows if after <= one.number < before][:1000]
        elif before:
            rows = [one for one in rows if one.number < before][-20:]
        elif after:
            rows = [one for one in rows if one.number > after][:100]
        else:
            rows = rows[-20:]
        meta = {"labels": [], "additional_attributes": {}, "contact": self.conversations[conversation].contact.row()}
        return json_response({"meta": meta, "payload": [self.api_row(one) for one in rows]})

    def _get_webhooks(self, request: Request, account: int) -> Response:
        del request, account
        events = ["message_created", "message_updated", "conversation_updated", "conversation_status_changed"]
        row = {"id": 1, "name": "onethread", "url": self.webhook_url, "account_id": self.account_id,
               "subscriptions": events}  # fmt: skip
        return json_response({"payload": {"webhooks": [row] if self.webhook_url else []}})

    def _get_inboxes(self, request: Request, account: int) -> Response:
        del request, account
        row = {"id": 3, "name": "Website", "channel_type": "Channel::WebWidget", "hmac_mandatory": self.hmac_mandatory}
        return json_response({"payload": [row]})

    # -- sending --

    def _post_message(self, request: Request, account: int, conversation: int) -> Response:
        del account
        if conversation not in self.conversations:
            return json_response({"error": "Resource could not be found"}, 404)
        given = request.get_json(silent=True)
        body: dict[str, Any] = given if isinstance(given, dict) else {}
        text = body.get("content")
        if not isinstance(text, str) or not text:
            return json_response({"error": "Content can't be blank"}, 422)
        if len(text) > _LONGEST:
            return json_response({"error": f"Content is too long (maximum is {_LONGEST} characters)"}, 422)
        number = self.agent(
            conversation, text, private=body.get("private") is True, source_id=body.get("source_id") or None
        )
        row = self.api_row(self.messages[number])
        return json_response({**row, **({"echo_id": body["echo_id"]} if body.get("echo_id") else {})})

    # -- files --

    def _get_redirect(self, request: Request, key: str, name: str) -> Response:
        del request
        return Response(status=302, headers={"Location": f"{self.public_url}/rails/active_storage/disk/{key}/{name}"})

    def _get_file(self, request: Request, key: str, name: str) -> Response:
        del request, name
        if key not in self.files:
            return Response(status=404)
        return Response(self.files[key][0], content_type="image/png")
