"""The calls of Infobip's API that the stand-in answers (inbox, reports, sending, files, conversations), and a scene."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NoReturn

from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.deliverer import Delivery
from sandbox.infobip.account import CHANNELS, PRICE, Account, Said, infobip_time
from sandbox.meta import TokenBucket

_KEPT_SECONDS = 48 * 3600
_ACCEPTED = {"groupId": 1, "groupName": "PENDING", "id": 26, "name": "PENDING_ACCEPTED",
             "description": "Message sent to next instance"}  # fmt: skip
_REFUSED = {"groupId": 5, "groupName": "REJECTED", "id": 52, "name": "REJECTED_DESTINATION",
            "description": "Invalid destination address."}  # fmt: skip


class InfobipApp(Account):
    """The stand-in as a server: see `Account` for its options and what people can do."""

    def __init__(self, **more: Any) -> None:
        self.calls = TokenBucket(10_000, 10_000)
        super().__init__(**more)

    def routes(self) -> Iterable[Route]:
        """The calls that this stand-in answers."""
        calls: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/sms/1/inbox/reports", self._get_inbox),
            ("GET", "/sms/3/reports", self._get_reports),
            ("GET", "/sms/3/logs", self._get_logs),
            ("POST", "/sms/3/messages", self._post_messages),
            ("GET", "/whatsapp/1/senders/<sender>/media/<name>", self._get_media),
            ("GET", "/subscriptions/1/profiles", self._get_profiles),
            ("GET", "/ccaas/1/conversations", self._get_conversations),
            ("GET", "/ccaas/1/conversations/<conversation>/messages", self._get_conversation),
        ]
        for method, path, handler in calls:
            yield Route(path, endpoint=_answering(handler), methods=[method])

    def refusal(self, error: HTTPException) -> Response:
        """As Infobip words it."""
        return error_response(error.code or 404, "NOT_FOUND", "Not found")

    def guard(self, request: Request) -> Response | None:
        """The key, and how fast it may ask."""
        if request.headers.get("Authorization") != f"App {self.api_key}":
            return error_response(401, "UNAUTHORIZED", "Invalid login details")
        if not self.calls.take("", self.clock.epoch()):
            return error_response(429, "TOO_MANY_REQUESTS", "Too many requests")
        return None

    # -- a scene --

    def play(self) -> None:
        """Three people on four channels: a batch out of order, a push twice, one lost, a reaction, a STOP."""
        ada, ben, cleo = "447700900161", "447700900162", "urn:mbid:AQAAYsandboxCleo="
        self.text(ada, "Hi, is the blue bike still for sale?")
        shown = self.text(ada, "I write here as well", channel="whatsapp")
        self.picture(ada, "This one")
        self.text(ben, "Do you open on Sunday? 🌞", delivery=Delivery(duplicate=1))
        self.text(ben, "Добрий день", channel="viber", delivery=Delivery(delay_seconds=0.3))
        self.text(ben, "Anybody there?", channel="viber")
        self.text(ben, "I asked half an hour ago", delivery=Delivery(drop=True), at=self.clock.epoch() - 1800)
        self.text(cleo, "Can I pay here?", channel="apple")
        self.react(ada, shown, "👍")
        answer = self.send(ada, "Yes, come and see it!", channel="whatsapp")
        self.read(answer)
        self.fail(self.send(ben, "We open at ten"))
        self.text(ben, "STOP")

    # -- SMS --

    def _get_inbox(self, request: Request) -> Response:
        limit = _number(request, "limit", 50)
        if limit > 1000:
            refuse(400, "BAD_REQUEST", "Limit must be at most 1000")
        oldest = self.clock.epoch() - _KEPT_SECONDS
        waiting = [one for one in self.inbox if one[0] >= oldest]
        given, self.inbox = waiting[:limit], waiting[limit:]
        results = [result for _, result in given]
        return json_response({"results": results, "messageCount": len(results), "pendingMessageCount": len(self.inbox)})

    def _get_reports(self, request: Request) -> Response:
        limit = _number(request, "limit", 50)
        given, self.reports = self.reports[:limit], self.reports[limit:]
        return json_response({"results": given})

    def _get_logs(self, request: Request) -> Response:
        limit = _number(request, "limit", 50)
        rows = [
            {
                "sender": self.senders["sms"], "destination": one["to"], "bulkId": f"bulk-{message_id[:8]}",
                "messageId": message_id, "sentAt": one["sentAt"], "doneAt": one["sentAt"], "messageCount": 1,
                "price": PRICE, "status": _ACCEPTED, "content": {"text": one["text"]},
            }
            for message_id, one in self.sent.items()
            if one["channel"] == "sms"
        ]  # fmt: skip
        return json_response({"results": rows[:limit]})

    def _post_messages(self, request: Request) -> Response:
        body = request.get_json(silent=True)
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages:
            refuse(400, "BAD_REQUEST", "messages is required")
        told: list[dict[str, Any]] = []
        for message in messages:
            text = message.get("content", {}).get("text")
            if not text or not message.get("destinations"):
                refuse(400, "BAD_REQUEST", "destinations and content are required")
            webhooks = message.get("webhooks") or {}
            for one in message["destinations"]:
                message_id, to = one.get("messageId") or secrets.token_hex(16), str(one.get("to", "")).lstrip("+")
                good = to.isdecimal() and 7 <= len(to) <= 15
                row = {"messageId": message_id, "status": _ACCEPTED if good else _REFUSED, "destination": to}
                told.append({**row, "details": {"messageCount": 1 + len(text) // 160}})
                if good:
                    self.send(to, text, message_id=message_id, callbackData=webhooks.get("callbackData"))
        bulk = ((body or {}).get("options") or {}).get("schedule", {}).get("bulkId")
        return json_response({"bulkId": bulk or secrets.token_hex(10), "messages": told})

    # -- the rest --

    def _get_media(self, request: Request, sender: str, name: str) -> Response:
        del request
        if name not in self.files or sender != self.senders["whatsapp"]:
            refuse(404, "NOT_FOUND", "Media not found")
        data, mime_type = self.files[name]
        return Response(data, content_type=mime_type)

    def _get_profiles(self, request: Request) -> Response:
        del request
        rows = [] if self.webhook_url is None else [{
            "profileId": "default", "webhook": {"notifyUrl": self.webhook_url, "contentType": "application/json"},
            "security": {"authId": self.proof},
        }]  # fmt: skip
        paging = {"page": 0, "size": 20, "totalPages": 1, "totalResults": len(rows)}
        return json_response({"results": rows, "paging": paging})

    def _get_conversations(self, request: Request) -> Response:
        rows: dict[str, dict[str, Any]] = {}
        for one in self.said:
            row = rows.setdefault(one.conversation_id, {
                "id": one.conversation_id, "topic": None, "status": "OPEN", "priority": "NORMAL",
                "channel": CHANNELS[one.channel], "createdAt": infobip_time(one.at), "at": one.at,
            })  # fmt: skip
            row["at"] = max(row["at"], one.at)
        after = _moment(request, "updatedAfter")
        found = [
            {**{name: value for name, value in row.items() if name != "at"}, "updatedAt": infobip_time(row["at"])}
            for row in rows.values()
            if row["at"] >= after
        ]
        return self._paged(request, "conversations", found)

    def _get_conversation(self, request: Request, conversation: str) -> Response:
        mine = [one for one in self.said if one.conversation_id == conversation]
        if not mine:
            refuse(404, "NOT_FOUND", "No such entity exists")
        after = _moment(request, "createdAfter")
        return self._paged(request, "messages", [self._row(one) for one in mine if one.at >= after])

    def _row(self, one: Said) -> dict[str, Any]:
        ours, theirs = self.senders[one.channel], one.customer
        return {
            "id": one.row_id, "channel": CHANNELS[one.channel], "from": theirs if one.inbound else ours,
            "to": ours if one.inbound else theirs, "direction": "INBOUND" if one.inbound else "OUTBOUND",
            "conversationId": one.conversation_id, "createdAt": infobip_time(one.at), "content": one.content,
            "contentType": one.content_type,
        }  # fmt: skip

    @staticmethod
    def _paged(request: Request, name: str, rows: list[dict[str, Any]]) -> Response:
        limit, page = _number(request, "limit", 10), _number(request, "page", 0)
        if not 1 <= limit <= 999:
            refuse(400, "BAD_REQUEST", "Limit must be between 1 and 999")
        rows = sorted(rows, key=lambda row: str(row["id"]))
        order = request.args.get("orderBy", "id:ASC")
        told = {"totalItems": len(rows), "page": page, "limit": limit, "orderBy": order}
        return json_response({name: rows[page * limit : (page + 1) * limit], "pagination": told})


def _answering(handler: Callable[..., Response]) -> Callable[..., Response]:
    def answer(request: Request, **arguments: Any) -> Response:
        try:
            return handler(request, **arguments)
        except HTTPException as error:
            return error.get_response()

    return answer


def error_response(status: int, code: str, text: str) -> Response:
    """An error as Infobip words it."""
    return json_response({"requestError": {"serviceException": {"messageId": code, "text": text}}}, status)


def refuse(status: int, code: str, text: str) -> NoReturn:
    """End the request with an error."""
    abort(error_response(status, code, text))


def _number(request: Request, name: str, default: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        refuse(400, "BAD_REQUEST", f"{name} is not a number")
    return int(text)


def _moment(request: Request, name: str) -> float:
    text = request.args.get(name)
    if text is None:
        return 0.0
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
    except ValueError:
        refuse(400, "BAD_REQUEST", f"{name} is not yyyy-MM-dd'T'HH:mm:ss.SSSZ")
