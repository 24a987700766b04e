"""The calls of Twilio's REST API that the stand-in answers (messages, media, account, numbers), and a scene."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlencode

from werkzeug.exceptions import HTTPException, abort
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.deliverer import Delivery
from sandbox.meta import TokenBucket
from sandbox.twilio.account import Account, Message, rfc2822

_BASE = "/2010-04-01/Accounts/<account>"
_PHONE = re.compile(r"(?:whatsapp:)?\+[1-9]\d{6,14}")
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T[\d:.]+Z?)?")


class TwilioApp(Account):
    """The stand-in as a server: see `Account` for its options and what people can do."""

    def __init__(self, **more: Any) -> None:
        self.calls = TokenBucket(10_000, 10_000)
        super().__init__(**more)

    def routes(self) -> Iterable[Route]:
        """The calls that this stand-in answers."""
        calls: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", f"{_BASE}.json", self._get_account),
            ("GET", f"{_BASE}/IncomingPhoneNumbers.json", self._get_numbers),
            ("POST", f"{_BASE}/Messages.json", self._post_message),
            ("GET", f"{_BASE}/Messages.json", self._get_messages),
            ("GET", f"{_BASE}/Messages/<sid>.json", self._get_message),
            ("GET", f"{_BASE}/Messages/<sid>/Media.json", self._get_media_list),
            ("GET", f"{_BASE}/Messages/<sid>/Media/<name>", self._get_media),
            ("GET", "/cdn/<name>", self._get_file),
        ]
        for method, path, handler in calls:
            yield Route(path, endpoint=self._answering(handler), methods=[method])

    def refusal(self, error: HTTPException) -> Response:
        """As Twilio words it."""
        return error_response(error.code or 404, 20404, "The requested resource was not found")

    def guard(self, request: Request) -> Response | None:
        """User and password, the account, and how fast it may ask; the addresses of files are signed."""
        if request.path.startswith("/cdn/"):
            return None
        given = request.authorization
        if given is None or not given.username or given.password != self.keys.get(given.username):
            return error_response(401, 20003, "Authenticate")
        if request.path.split("/")[3].removesuffix(".json") != self.account_sid:
            return error_response(404, 20404, f"The requested resource {request.path} was not found")
        if not self.calls.take("", self.clock.epoch()):
            return error_response(429, 20429, "Too Many Requests")
        return None

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in at `url`."""
        self.public_url = url
        named = {"ACCOUNT_SID": self.account_sid, "AUTH_TOKEN": self.auth_token, "API_URL": url}
        return {f"ONETHREAD_TWILIO_{name}": value for name, value in named.items()}

    # -- a scene --

    def play(self) -> None:
        """Three people write: a picture, a webhook twice, two the wrong way round, one lost, and a STOP."""
        ada, ben, cleo = "+447700900161", "+12025550162", "+447700900163"
        self.text(ada, "Hi, is the blue bike still for sale?")
        self.picture(ben, "This came out of the box broken")
        self.text(cleo, "Do you open on Sunday? 🌞", delivery=Delivery(duplicate=1))
        self.text(ben, "And the manual is missing", delivery=Delivery(delay_seconds=0.3))
        self.text(ben, "Can you send another one?")
        self.text(cleo, "I asked five minutes ago", delivery=Delivery(drop=True), at=self.clock.epoch() - 300)
        self.staff_text(ada, "Yes, it is. Come and see it!")
        self.text(ada, "Great, I am there at 5")
        self.text("32665", "Your parcel from Example Post arrives today")
        self.text(cleo, "STOP")

    # -- the account --

    def _answering(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        def answer(request: Request, account: str = "", **arguments: Any) -> Response:
            del account
            try:
                response = handler(request, **arguments)
            except HTTPException as error:
                response = error.get_response()
            response.headers["Twilio-Concurrent-Requests"] = "1"
            response.headers["Twilio-Request-Id"] = "RQ0123456789abcdef0123456789abcdef"
            return response

        return answer

    def _get_account(self, request: Request) -> Response:
        del request
        uri = f"/2010-04-01/Accounts/{self.account_sid}"
        return json_response({
            "sid": self.account_sid, "owner_account_sid": self.account_sid, "friendly_name": "Sandbox", "type": "Full",
            "status": "active", "auth_token": "", "date_created": rfc2822(0), "date_updated": rfc2822(0),
            "uri": f"{uri}.json", "subresource_uris": {"messages": f"{uri}/Messages.json"},
        })  # fmt: skip

    def _get_numbers(self, request: Request) -> Response:
        row = {
            "sid": "PN0123456789abcdef0123456789abcdef", "account_sid": self.account_sid, "phone_number": self.number,
            "friendly_name": "Sandbox", "sms_url": self.webhook_url or "", "sms_method": "POST",
            "sms_application_sid": None, "capabilities": {"sms": True, "mms": True, "voice": False, "fax": False},
        }  # fmt: skip
        return json_response(self._page(request, "incoming_phone_numbers", [row], "sid"))

    # -- sending --

    def _post_message(self, request: Request) -> Response:
        form = request.form
        to, sender, service = form.get("To", ""), form.get("From") or None, form.get("MessagingServiceSid") or None
        text, media = form.get("Body", ""), form.getlist("MediaUrl")
        if not to:
            refuse(400, 21604, "A 'To' phone number is required.")
        if not _PHONE.fullmatch(to):
            refuse(400, 21211, "Invalid 'To' Phone Number")
        if sender is None and service is None:
            refuse(400, 21603, "A 'From' phone number is required.")
        if sender is not None and sender.removeprefix("whatsapp:") != self.number:
            refuse(400, 21606, "The 'From' phone number provided is not a valid message-capable Twilio phone number")
        if not text and not media and not form.get("ContentSid"):
            refuse(400, 21602, "Message body is required.")
        if len(text) > 1600:
            refuse(400, 21617, "The concatenated message body exceeds the 1600 character limit.")
        if len(media) > 10:
            refuse(400, 21623, "Number of media files exceeds allowed limit.")
        if (to, self.number) in self.stopped:
            refuse(400, 21610, "Attempt to send to unsubscribed recipient")
        number = sender or (f"whatsapp:{self.number}" if to.startswith("whatsapp:") else self.number)
        message = self.send(to, number, text, media=media, service=service, callback=form.get("StatusCallback"))
        answer = {**self._row(message), "status": "accepted" if service else "queued", "date_sent": None}
        return json_response(answer, 201)

    # -- reading --

    def _get_messages(self, request: Request) -> Response:
        asked = request.args
        rows = [one for one in self.messages.values() if self._fits(one, request)]
        # The newest first; of one second the order is Twilio's own.
        rows.sort(key=lambda one: (int(one.at), one.sid), reverse=True)
        kept = {name: asked[name] for name in ("To", "From", "DateSent", "DateSent<", "DateSent>") if name in asked}
        return json_response(self._page(request, "messages", [self._row(one) for one in rows], "sid", kept))

    @staticmethod
    def _fits(message: Message, request: Request) -> bool:
        asked = request.args
        sender, receiver = message.number, message.address
        if message.inbound:
            sender, receiver = receiver, sender or ""
        day = f"{datetime.fromtimestamp(message.at, UTC):%Y-%m-%d}"
        return (
            asked.get("From") in {None, sender}
            and asked.get("To") in {None, receiver}
            and _day(asked.get("DateSent")) in {None, day}
            and (_day(asked.get("DateSent>")) or day) <= day
            and (_day(asked.get("DateSent<")) or day) >= day
        )

    def _page(
        self, request: Request, name: str, rows: list[dict[str, Any]], key: str, kept: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """One page of `rows`: after the row that the page token names."""
        asked = request.args
        size, number = _number(asked.get("PageSize"), 50), _number(asked.get("Page"), 0)
        if not 1 <= size <= 1000:
            refuse(400, 20001, "Page size must be between 1 and 1000")
        after = asked.get("PageToken", "").removeprefix("PA")
        start = next((index + 1 for index, row in enumerate(rows) if row[key] == after), 0)
        if after and not start:
            refuse(400, 20001, "Invalid page token")
        part = rows[start : start + size]

        def uri(page: int, token: str | None = None) -> str:
            more = {"PageToken": f"PA{token}"} if token else {}
            return f"{request.path}?{urlencode({**(kept or {}), 'PageSize': size, 'Page': page, **more})}"

        last = start + size >= len(rows)
        return {
            "end": start + max(0, len(part) - 1), "first_page_uri": uri(0),
            "next_page_uri": None if last else uri(number + 1, part[-1][key]), "page": number, "page_size": size,
            "previous_page_uri": uri(number - 1) if number else None, "start": start, "uri": uri(number), name: part,
        }  # fmt: skip

    def _row(self, message: Message) -> dict[str, Any]:
        uri = f"/2010-04-01/Accounts/{self.account_sid}/Messages/{message.sid}"
        ours, theirs = message.number, message.address
        return {
            "account_sid": self.account_sid, "api_version": "2010-04-01", "body": message.text,
            "date_created": rfc2822(message.at), "date_sent": rfc2822(message.at),
            "date_updated": rfc2822(max(message.at, self.clock.epoch()) if not message.inbound else message.at),
            "direction": message.direction, "error_code": message.error,
            "error_message": None if message.error is None else "See the error code", "sid": message.sid,
            "from": theirs if message.inbound else ours, "to": ours if message.inbound else theirs,
            "messaging_service_sid": message.service, "num_media": str(len(message.media)), "num_segments": "1",
            "price": None, "price_unit": "USD", "status": message.status, "uri": f"{uri}.json",
            "subresource_uris": {"media": f"{uri}/Media.json", "feedback": f"{uri}/Feedback.json"},
        }  # fmt: skip

    def _get_message(self, request: Request, sid: str) -> Response:
        del request
        return json_response(self._row(self._message(sid)))

    def _get_media_list(self, request: Request, sid: str) -> Response:
        message = self._message(sid)
        rows = [
            {
                "sid": name, "parent_sid": sid, "account_sid": self.account_sid, "content_type": self.files[name][1],
                "date_created": rfc2822(message.at), "date_updated": rfc2822(message.at),
                "uri": f"{self.media_path(sid, name)}.json",
            }
            for name in message.media
        ]  # fmt: skip
        return json_response(self._page(request, "media_list", rows, "sid"))

    def _get_media(self, request: Request, sid: str, name: str) -> Response:
        del request
        if name not in self._message(sid).media:
            refuse(404, 20404, "The requested resource was not found")
        return Response(status=307, headers={"Location": f"{self.public_url}/cdn/{name}"})

    def _get_file(self, request: Request, name: str) -> Response:
        del request
        if name not in self.files:
            refuse(404, 20404, "The requested resource was not found")
        data, mime_type, _ = self.files[name]
        return Response(data, content_type=mime_type)

    def _message(self, sid: str) -> Message:
        if sid not in self.messages:
            refuse(404, 20404, "The requested resource was not found")
        return self.messages[sid]


def error_response(status: int, code: int, message: str) -> Response:
    """An error as Twilio words it."""
    info = f"https://www.twilio.com/docs/errors/{code}"
    return json_response({"code": code, "message": message, "more_info": info, "status": status}, status)


def refuse(status: int, code: int, message: str) -> NoReturn:
    """End the request with an error."""
    abort(error_response(status, code, message))


def _day(text: str | None) -> str | None:
    """The GMT day of a filter; Twilio's own library writes a time of that day."""
    if text is None:
        return None
    match = _DAY.fullmatch(text)
    if match is None:
        refuse(400, 20001, "Invalid date")
    return match.group(1)


def _number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isdecimal():
        refuse(400, 20001, "Invalid number")
    return int(text)
