"""The calls of the REST Bot API that the stand-in answers, each with HTTP status 200 whatever it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.viber.account import CHOSEN_EVENTS, Sent, new_token
from sandbox.viber.people import People

STATUSES = {
    0: "ok", 1: "invalidUrl", 2: "invalidAuthToken", 3: "badData", 4: "missingData", 5: "receiverNotRegistered",
    6: "receiverNotSubscribed", 7: "publicAccountBlocked", 8: "publicAccountNotFound", 9: "publicAccountSuspended",
    10: "webhookNotSet", 11: "receiverNoSuitableDevice", 12: "tooManyRequests",
}  # fmt: skip
_HOUR = 3600
_LARGEST_REQUEST = 30 * 1024
_NEEDED = {
    "text": ("text",), "picture": ("media",), "video": ("media", "size"), "file": ("media", "size", "file_name"),
    "contact": ("contact",), "location": ("location",), "sticker": ("sticker_id",), "url": ("media",),
    "rich_media": ("rich_media",),
}  # fmt: skip
_LONGEST = {"text": 7000, "tracking_data": 4000, "file_name": 256, "media": 2000}
_LARGEST = {"video": 26 * 2**20, "file": 50 * 2**20}


class ViberApp(People):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    def routes(self) -> Iterable[Route]:
        """The calls that this stand-in answers."""
        calls: dict[str, Callable[[dict[str, Any]], Response]] = {
            "set_webhook": self._set_webhook,
            "get_account_info": self._get_account_info,
            "get_user_details": self._get_user_details,
            "get_online": self._get_online,
            "send_message": self._send_message,
        }
        for name, handler in calls.items():
            yield Route(f"/pa/{name}", endpoint=self._call(handler), methods=["POST"])
        yield Route("/media/<name>", endpoint=self._get_media, methods=["GET"])

    def refusal(self, error: HTTPException) -> Response:
        """What is no call at all has a real HTTP status."""
        return Response(status=error.code or 500)

    def _call(self, handler: Callable[[dict[str, Any]], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            body = request.get_json(force=True, silent=True) if request.get_data() else {}
            if not isinstance(body, dict) or len(request.get_data()) > _LARGEST_REQUEST:
                return _status(3)
            token = request.headers.get("X-Viber-Auth-Token") or body.get("auth_token")
            if token is None:
                return _status(2, "missing_auth_token")
            return handler(body) if token == self.auth_token else _status(2)

        return answer

    def _set_webhook(self, body: dict[str, Any]) -> Response:
        url, chosen = body.get("url"), body.get("event_types")
        if not isinstance(url, str):
            return _status(4)
        if chosen is not None and not (isinstance(chosen, list) and all(isinstance(one, str) for one in chosen)):
            return _status(3)
        if not url:
            self.webhook = ""
            self.deliverer.stop()
            return _status(0)
        local = url.startswith("http://127.0.0.1:")  # the one thing that Viber would refuse
        if not (local or url.startswith("https://")) or not self.subscribe(url):
            return _status(1)
        self.event_types = tuple(one for one in CHOSEN_EVENTS if chosen is None or one in chosen)
        return _status(0, event_types=list(self.event_types))

    def _get_account_info(self, body: dict[str, Any]) -> Response:
        del body
        subscribers = sum(one.subscribed for one in self.users.values())
        return _status(
            0, id=self.bot_id, name="Sandbox Shop", uri="sandboxshop", webhook=self.webhook,
            event_types=list(self.event_types), subscribers_count=subscribers,
        )  # fmt: skip

    def _get_user_details(self, body: dict[str, Any]) -> Response:
        person = self.users.get(str(body.get("id")))
        if person is None:
            return _status(5)
        now = self.clock.epoch()
        person.looked_up = [at for at in person.looked_up if now - at < 12 * _HOUR]
        if len(person.looked_up) >= 2:
            return _status(12)
        person.looked_up.append(now)
        device = {"primary_device_os": "android 14", "viber_version": "22.1", "mcc": 255, "mnc": 1,
                  "device_type": "Phone"}  # fmt: skip
        return _status(0, message_token=new_token(), user={**self._face(person), **device})

    def _get_online(self, body: dict[str, Any]) -> Response:
        ids = body.get("ids")
        if not isinstance(ids, list) or not 0 < len(ids) <= 100:
            return _status(3)
        known = [(one, 0, "online") if one in self.users else (one, 4, "unavailable") for one in ids]
        return _status(
            0, users=[{"id": one, "online_status": code, "online_status_message": text} for one, code, text in known]
        )

    def _send_message(self, body: dict[str, Any]) -> Response:
        wrong = _wrong_message(body)
        if wrong:
            return _status(wrong)
        person = self.users.get(str(body["receiver"]))
        if not self.webhook:
            return _status(10)
        if person is None:
            return _status(5)
        if not person.subscribed:
            return _status(6)
        now = self.clock.epoch()
        person.unanswered = [at for at in person.unanswered if now - at < _HOUR]
        if len(person.unanswered) >= 100:
            return _status(12)
        person.unanswered.append(now)
        person.tracking_data = body.get("tracking_data")
        token = new_token()
        self.sent[token] = Sent(token, person.user_id, body, now)
        for kind in self.told_after_send:
            self.sent[token].statuses.append(kind)
            self._tell(kind, token, {"user_id": person.user_id})
        return _status(0, message_token=token, chat_hostname="SN-CHAT-05_", billing_status=1)

    def _get_media(self, request: Request, name: str) -> Response:
        del request
        data, mime_type, until = self.files.get(name, (b"", "", 0.0))
        if self.clock.epoch() >= until:
            return Response(status=403)
        return Response(data, content_type=mime_type)


def _wrong_message(body: dict[str, Any]) -> int:
    """The status that refuses a send, 0 for a good one."""
    kind, sender = body.get("type"), body.get("sender")
    if not body.get("receiver") or not isinstance(sender, dict) or not sender.get("name"):
        return 4
    if kind not in _NEEDED or len(str(sender["name"])) > 28:
        return 3
    if any(not body.get(name) for name in _NEEDED[kind]):
        return 4
    if any(len(str(body.get(name) or "")) > longest for name, longest in _LONGEST.items()):
        return 3
    size = body.get("size", 0)
    return 3 if not isinstance(size, int) or size > _LARGEST.get(kind, size) else 0


def _status(status: int, message: str | None = None, **more: Any) -> Response:
    return json_response({"status": status, "status_message": message or STATUSES[status], **more})
