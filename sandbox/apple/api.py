"""The calls of Apple's service that the stand-in answers: send, ask for a file, fetch it; and a scene."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import zlib
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.apple.account import Account, Message, claims_of
from sandbox.base import json_response
from sandbox.deliverer import Delivery

_SENT_TYPES = {"text", "interactive", "richLink", "typing_start", "typing_end"}
_GOOD_SECONDS = 300


class AppleApp(Account):
    """The account with its calls."""

    def routes(self) -> Iterable[Route]:
        """Apple's service, and the host of its files."""
        return [
            Route("/v1/message", endpoint=self._post_message, methods=["POST"]),
            Route("/v1/preDownload", endpoint=self._get_download, methods=["GET"]),
            Route("/content/<number>/<ticket>", endpoint=self._get_content, methods=["GET"]),
        ]

    def refusal(self, error: HTTPException) -> Response:
        """Apple's errors are a status with words."""
        return json_response({"message": error.name}, error.code or 500)

    def guard(self, request: Request) -> Response | None:
        """The token; files want none."""
        if request.path.startswith("/content/"):
            return None
        given = request.headers.get("Authorization", "")
        if not given.startswith("Bearer "):
            return json_response({"message": "the request lacks the Authorization header"}, 401)
        claims = claims_of(given.removeprefix("Bearer "), self.secret)
        if claims is None or claims.get("iss") != self.msp_id or not isinstance(claims.get("iat"), int):
            return json_response({"message": "the Authorization header cannot be validated"}, 403)
        return None

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in at `url`."""
        self.public_url = url
        named = {"MSP_ID": self.msp_id, "SECRET": self.secret, "API_URL": f"{url}/v1"}
        return {f"ONETHREAD_APPLE_{name}": value for name, value in named.items()}

    def play(self) -> None:
        """Three people write: one post comes twice, one late, an answer twice under two ids, and somebody closes."""
        uma, vic, wes = self.customer(), self.customer(), self.customer()
        self.type(uma)
        self.text(uma, "Hi, I am looking at the oak chair", intent="chair-4711", group="sales")
        self.picture(uma, "like this one")
        self.pick(uma, "Oak", "Walnut", twice=True)
        self.text(vic, "Is my order on its way?", delivery=Delivery(delay_seconds=0.3))
        self.text(vic, "Order 4712, I mean", delivery=Delivery(duplicate=1))
        self.tapback(vic, "We are on it")
        self.picture(vic)
        self.text(wes, "STOP")
        self.close(wes)
        self.text(uma, "Thank you!")
        self.close(uma)
        self.text(uma, "One more question")

    # -- calls --

    def _post_message(self, request: Request) -> Response:
        try:
            raw = request.get_data()
            body = json.loads(gzip.decompress(raw) if request.headers.get("Content-Encoding") == "gzip" else raw)
        except (ValueError, OSError, EOFError, zlib.error):
            body = None
        if not isinstance(body, dict) or body.get("v") != 1 or body.get("type") not in _SENT_TYPES:
            return json_response({"message": "the request lacks a required field or is malformed"}, 400)
        named = {"id": "id", "source-id": "sourceId", "destination-id": "destinationId"}
        if any(not body.get(ours) or request.headers.get(theirs) != body[ours] for theirs, ours in named.items()):
            return json_response({"message": "headers and body do not name the same parties"}, 400)
        if body["type"] == "text" and not body.get("body"):
            return json_response({"message": "body is required"}, 400)
        customer = body["destinationId"]
        known = any(one.customer == customer for one in self.messages.values() if one.inbound)
        if body["sourceId"] != self.business_id or not known or customer in self.closed:
            return json_response({"message": "destination-id is not recognised"}, 404)
        number = body["id"]
        self.messages[number] = Message(number, customer, False, body["type"], body.get("body"), self.clock.epoch())
        return Response(status=200)

    def _get_download(self, request: Request) -> Response:
        asked = {name: request.headers.get(name, "") for name in ("source-id", "url", "owner", "signature")}
        if not all(asked.values()):
            return json_response({"message": "the request lacks a required field"}, 400)
        found = next(((number, one) for number, one in self.files.items() if one.url == asked["url"]), None)
        if found is None or asked["source-id"] != self.business_id or asked["owner"] != found[1].owner:
            return json_response({"message": "the attachment is not recognised"}, 404)
        number, file = found
        if asked["signature"] != base64.b64encode(file.signature).decode():
            return json_response({"message": "the signature is not that of the attachment"}, 400)
        ticket = secrets.token_hex(8)
        file.downloads[ticket] = self.clock.epoch()
        answer: dict[str, Any] = {"download-url": f"{self.public_url}/content/{number}/{ticket}"}
        return json_response(answer)

    def _get_content(self, request: Request, number: str, ticket: str) -> Response:
        del request
        file = self.files.get(number)
        made = file.downloads.get(ticket) if file else None
        if file is None or made is None or self.clock.epoch() - made > _GOOD_SECONDS:
            return Response(status=403)
        return Response(file.data, content_type="application/octet-stream")
