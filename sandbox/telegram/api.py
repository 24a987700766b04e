"""The methods of the Bot API that the stand-in answers, its files, and the scene of the demo."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.deliverer import Delivery
from sandbox.telegram.account import Update
from sandbox.telegram.people import People

_PORTS = {80, 88, 443, 8443}
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")
_LARGEST_FILE = 20 * 1000 * 1000
_WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
_OTHER_POLLER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_NEW_WEBHOOK = "Conflict: terminated by setWebhook request"


class TelegramApp(People):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    def __init__(self, **more: Any) -> None:
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "getme": self._get_me,
            "getupdates": self._get_updates,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._get_webhook_info,
            "getfile": self._get_file,
            "getbusinessconnection": self._get_business_connection,
            "sendmessage": self._send_message,
        }
        self._waiting = 0
        self._last_call: tuple[int, float] = (0, float("-inf"))
        super().__init__(**more)

    # -- the demo --

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in at `url`."""
        return {
            "ONETHREAD_TELEGRAM_API_URL": url,
            "ONETHREAD_TELEGRAM_BOT_TOKEN": self.bot_token,
            "ONETHREAD_TELEGRAM_SECRET_TOKEN": self.secret_token,
            "ONETHREAD_TELEGRAM_MODE": "webhook",
        }

    def connect(self, receiver_url: str) -> None:
        """Push to the receiver, as after setWebhook with all kinds of updates; also to one without TLS."""
        with self.lock:
            self.allowed = None
            self._allow(["message", "edited_message", "channel_post", "business_connection", "business_message",
                         "edited_business_message", "deleted_business_messages", "message_reaction", "callback_query",
                         "my_chat_member"])  # fmt: skip
            self.push_to(f"{receiver_url}/webhooks/telegram", secret_token=self.secret_token)

    def flush(self, timeout: float = 10) -> None:
        """Wait until the webhook has taken everything."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop pushing."""
        self.deliverer.stop()

    def play(self) -> None:
        """A short scene: three customers, a business owner, a repeat, an overtaking, an edit, a deletion, a STOP."""
        mia = self.add_person("Mia", "Rossi", username="mia_rossi", language="it", phone="447700900301", is_open=False)
        tom = self.add_person("Tom", "Example", phone="447700900302", is_open=False)
        lea = self.add_person("Lea", "Sommer", language="de", phone="447700900303")
        self.start(mia, "poster_spring")
        self.text(mia, "Good morning, is the blue teapot still there?", delivery=Delivery(duplicate=1))
        self.share_contact(mia)
        self.start(tom)
        self.deliverer.hold()
        first = self.text(tom, "My order 17 has not come")
        self.edit(tom, first, "My order 17 from Monday has not come")
        self.deliverer.release(reverse=True, together=False)
        self.photo(tom, "This is the empty shelf")
        self.sticker(tom)
        owner = self.add_person("Carla", "Shop", phone="447700900399")
        connection = self.connect_business(owner)
        self.business_text(connection, lea, "Can I pay by invoice?")
        wrong = self.business_text(connection, lea, "Sorry, this was for somebody else")
        self.business_delete(connection, lea, wrong)
        self.business_text(connection, lea, "Yes, of course", by="owner")
        self.react(mia, 2, "❤")
        self.text(tom, "STOP")

    # -- HTTP --

    def routes(self) -> Iterable[Route]:
        """Every method by GET and POST; files; what plays the other side under ``/_sandbox/``."""
        yield Route("/bot<token>/<method>", endpoint=self._call, methods=["GET", "POST"])
        yield Route("/file/bot<token>/<path:path>", endpoint=self._download, methods=["GET"])
        yield Route("/_sandbox/act", endpoint=self._post_act, methods=["POST"])

    def refusal(self, error: HTTPException) -> Response:
        """As the server words it."""
        return failure(error.code or 404, "Not Found" if error.code == 404 else "Method Not Allowed")

    def _call(self, request: Request, token: str, method: str) -> Response:
        if token != self.bot_token:
            return failure(401, "Unauthorized") if re.fullmatch(r"\d+:[\w-]+", token) else failure(404, "Not Found")
        handler = self._methods.get(method.lower())
        if handler is None:
            return failure(404, "Not Found: method not found")
        try:
            return json_response({"ok": True, "result": handler(_parameters(request))})
        except HTTPException as error:
            return error.get_response()

    def _download(self, request: Request, token: str, path: str) -> Response:
        del request
        if token != self.bot_token:
            return failure(401, "Unauthorized")
        found = next((one for one in self.files.values() if one["path"] == path), None)
        if found is None or found["until"] < self.clock.epoch():
            return failure(404, "Not Found")
        return Response(found["data"], content_type="application/octet-stream")

    def _post_act(self, request: Request) -> Response:
        """``{"action": "text", ...its arguments, "delivery"?: {"duplicate"?, "delay_seconds"?, "drop"?}}``."""
        values = request.get_json()
        action = getattr(People, str(values.pop("action", "")), None)
        if action is None or action.__name__.startswith("_") or action.__name__ not in vars(People):
            return json_response({"error": "no such action"}, 400)
        if "delivery" in values:
            values["delivery"] = Delivery(**values["delivery"])
        try:
            return json_response({"id": action(self, **values)})
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            return json_response({"error": repr(error)}, 400)

    # -- updates --

    def _get_updates(self, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        if self.webhook:
            refuse(409, _WEBHOOK_ACTIVE)
        offset, limit, wait = (_number(parameters, name, default) for name, default in
                               (("offset", 0), ("limit", 100), ("timeout", 0)))  # fmt: skip
        limit, wait = min(max(limit, 1), 100), min(max(wait, 0), 50)
        self._allow(parameters.get("allowed_updates"))
        last_offset, last_at = self._last_call
        since = time.monotonic() - last_at
        if offset == last_offset and since < self.impatient_seconds:
            wait = max(wait, 3)
            limit = 1 if since < self.impatient_seconds / 6 else limit
        self._last_call = (offset, time.monotonic())
        return [one.body for one in self._queued(offset, limit) or self._awaited(offset, limit, wait)]

    def _queued(self, offset: int, limit: int) -> list[Update]:
        """The next updates; an offset confirms those below it, a negative one all but the newest."""
        found = self.pending()
        if offset < 0:
            for one in found[:offset]:
                one.confirmed = True
            return self.pending()[:limit]
        if found and offset > 0 and found[0].number - 1000 <= offset <= found[-1].number + 1000:
            for one in found:
                one.confirmed = one.number < offset
        return self.pending()[:limit]

    def _awaited(self, offset: int, limit: int, wait: int) -> list[Update]:
        """The same after at most `wait` seconds; another call meanwhile ends this one."""
        if not wait:
            return []
        self._waiting += 1
        mine, deadline = self._waiting, time.monotonic() + wait
        self.news.notify_all()
        while time.monotonic() < deadline:
            self.news.wait(deadline - time.monotonic())  # lets go of the lock meanwhile
            if self.webhook:
                refuse(409, _NEW_WEBHOOK)
            if self._waiting != mine:
                refuse(409, _OTHER_POLLER)
            if found := self._queued(offset, limit):
                return found
        return []

    def _allow(self, given: Any) -> None:
        """The kinds of updates to tell from now on; an empty list is the default, none at all changes nothing."""
        names = json.loads(given) if isinstance(given, str) and given else given
        if isinstance(names, list):
            self.allowed = [str(name) for name in names] or None

    # -- the webhook --

    def _set_webhook(self, parameters: dict[str, Any]) -> bool:
        url = str(parameters.get("url", ""))
        if not url:
            return self._delete_webhook(parameters)
        parts, secret = urlsplit(url), str(parameters.get("secret_token", ""))
        if parts.scheme != "https" or not parts.hostname:
            refuse(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if (parts.port or 443) not in _PORTS:
            refuse(400, "Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        if len(secret) > 256:
            refuse(400, "Bad Request: secret token is too long")
        if secret and not _SECRET.fullmatch(secret):
            refuse(400, "Bad Request: secret token contains unallowed characters")
        self._allow(parameters.get("allowed_updates"))
        self._drop(parameters)
        self.push_to(url, secret_token=secret, max_connections=_number(parameters, "max_connections", 40))
        self.news.notify_all()
        return True

    def _delete_webhook(self, parameters: dict[str, Any]) -> bool:
        self._drop(parameters)
        self.stop_pushing()
        return True

    def _drop(self, parameters: dict[str, Any]) -> None:
        if str(parameters.get("drop_pending_updates", "")).lower() in {"true", "1"}:
            for one in self.pending():
                one.confirmed = True

    def _get_webhook_info(self, parameters: dict[str, Any]) -> dict[str, Any]:
        del parameters
        about = {name: value for name, value in self.webhook.items() if name not in {"secret_token", "url"}}
        if self.webhook:
            about["ip_address"] = "<unknown>"
        if self.allowed is not None:
            about["allowed_updates"] = self.allowed
        failed = [one for one in self.pending() if one.event and one.event.attempts]
        if failed:
            about |= {
                "last_error_date": int(self.clock.epoch()),
                "last_error_message": "Wrong response from the webhook",
            }
        return {"url": self.webhook.get("url", ""), "has_custom_certificate": False,
                "pending_update_count": len(self.pending()), **about}  # fmt: skip

    # -- the rest --

    def _get_me(self, parameters: dict[str, Any]) -> dict[str, Any]:
        del parameters
        abilities = {"can_join_groups": True, "can_read_all_group_messages": False, "supports_inline_queries": False,
                     "can_connect_to_business": True, "has_main_web_app": False}  # fmt: skip
        return {**self.bot, **abilities}

    def _get_file(self, parameters: dict[str, Any]) -> dict[str, Any]:
        found = self.files.get(str(parameters.get("file_id")))
        if found is None:
            refuse(400, "Bad Request: invalid file_id")
        if found["part"]["file_size"] > _LARGEST_FILE:
            refuse(400, "Bad Request: file is too big")
        found["until"] = self.clock.epoch() + 3600
        return {**found["part"], "file_path": found["path"]}

    def _get_business_connection(self, parameters: dict[str, Any]) -> dict[str, Any]:
        found = self.connections.get(str(parameters.get("business_connection_id")))
        return found if found is not None else refuse(400, "Bad Request: business connection not found")

    def _send_message(self, parameters: dict[str, Any]) -> dict[str, Any]:
        chat_id = _number(parameters, "chat_id", 0)
        connection = str(parameters.get("business_connection_id", "")) or None
        text = str(parameters.get("text", ""))
        if not text:
            refuse(400, "Bad Request: message text is empty")
        if len(text) > 4096:
            refuse(400, "Bad Request: message is too long")
        if chat_id in self.moved:
            refuse(400, "Bad Request: group chat was upgraded to a supergroup chat",
                   {"migrate_to_chat_id": self.moved[chat_id]})  # fmt: skip
        chat, person = self.chats.get(chat_id), self.people.get(chat_id)
        if chat is None or (connection and connection not in self.connections):
            refuse(400, "Bad Request: chat not found" if chat is None else "Bad Request: business connection not found")
        if person is not None and not connection:
            if person.blocked:
                refuse(403, "Forbidden: bot was blocked by the user")
            if not person.open:
                refuse(403, "Forbidden: bot can't initiate conversation with a user")
        self._spend(chat_id)
        markup = parameters.get("reply_markup")
        markup = json.loads(markup) if isinstance(markup, str) else markup
        content = {"text": text, **({"reply_markup": markup} if markup else {})}
        author = self.connections[connection]["user"] if connection else self.bot
        if connection:
            content["sender_business_bot"] = self.bot
        # A bot is not told of what it sends itself; the owner of a business account's messages are.
        kind = "business_message" if connection else "message"
        entry = self.write(kind, chat, author, content, by_customer=False, connection=connection, tell=bool(connection))
        return entry.message

    def _spend(self, chat_id: int) -> None:
        now = self.clock.epoch()
        buckets = [("all", ""), ("group" if chat_id < 0 else "chat", str(chat_id))]
        for name, key in buckets:
            if not self.rates[name].take(key, now):
                wait = 3 if name == "group" else 1
                refuse(429, f"Too Many Requests: retry after {wait}", {"retry_after": wait})


def failure(code: int, description: str, parameters: dict[str, Any] | None = None) -> Response:
    """The Bot API's error object as an answer."""
    body = {"ok": False, "error_code": code, "description": description}
    headers = {"Retry-After": str(parameters["retry_after"])} if parameters and "retry_after" in parameters else None
    return json_response({**body, **({"parameters": parameters} if parameters else {})}, code, headers)


def refuse(code: int, description: str, parameters: dict[str, Any] | None = None) -> NoReturn:
    """End the request with the Bot API's error object."""
    abort(failure(code, description, parameters))


def _parameters(request: Request) -> dict[str, Any]:
    """Query, form and JSON body as one."""
    found: dict[str, Any] = {**request.args, **request.form}
    if request.mimetype == "application/json" and request.get_data():
        body = request.get_json(silent=True)
        found.update(body if isinstance(body, dict) else refuse(400, "Bad Request: can't parse JSON object"))
    return found


def _number(parameters: dict[str, Any], name: str, default: int) -> int:
    """A whole number; as the server does, what is none counts as the default."""
    try:
        return int(parameters.get(name, default))
    except (TypeError, ValueError):
        return default
