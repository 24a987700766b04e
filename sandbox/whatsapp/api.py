"""The calls of the WhatsApp Cloud API that the stand-in answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.meta import VERSION
from sandbox.whatsapp import checks
from sandbox.whatsapp.customers import Customers
from sandbox.whatsapp.records import DAY, TITLES, Customer, Sent, digits


class WhatsAppApp(Customers):
    """The stand-in as a server: see `Account` for its options and `Customers` for what customers can do."""

    def graph_routes(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """The calls that this stand-in answers."""
        yield "POST", f"{VERSION}/<phone_number_id>/messages", self._post_message
        yield "POST", f"{VERSION}/<phone_number_id>/media", self._post_media
        yield "POST", f"{VERSION}/<waba_id>/subscribed_apps", self._post_subscribed_apps
        yield "GET", f"{VERSION}/<waba_id>/subscribed_apps", self._get_subscribed_apps
        yield "GET", f"{VERSION}/debug_token", self.get_debug_token
        yield "GET", f"{VERSION}/<waba_id>/message_templates", self._get_templates
        yield "GET", f"{VERSION}/<node>", self._get_node
        yield "DELETE", f"{VERSION}/<node>", self._delete_media
        yield "GET", "/whatsapp_business/attachments/", self._get_attachment

    def _post_message(self, request: Request, phone_number_id: str) -> Response:
        body = self.parameters(request)
        if phone_number_id != self.phone_number_id:
            checks.missing(phone_number_id, "post")
        if body.get("messaging_product") != "whatsapp":
            checks.bad("The parameter messaging_product is required.")
        if "status" in body:
            return self._mark_read(body)
        if body.get("recipient_type", "individual") != "individual":
            checks.bad("recipient_type must be individual: this number is in no group.")
        to, user_id = body.get("to"), body.get("recipient")
        if not to and not user_id:
            checks.bad("The parameter to is required.")
        kind = body.get("type", "text")
        known = {*self.said, *self.sent}
        text, category = checks.content(
            kind, body.get(kind), by_user_id=not to, templates=self.templates, known_messages=known,
            known_media=self.media_files,
        )  # fmt: skip
        if "context" in body and (body["context"] or {}).get("message_id") not in known:
            checks.bad("context.message_id is not the id of a message of this chat.", 131009)
        token = body.get("biz_opaque_callback_data")
        if token is not None and (not isinstance(token, str) or len(token) > 512):
            checks.bad("biz_opaque_callback_data must be a string of at most 512 characters.")
        now = self.clock.epoch()
        receiver = self._find(to, user_id)
        if not self.throughput.take("", now):
            checks.bad("Too many messages were sent from this phone number in a short time.", 130429)
        if not self.pair_rate.take(receiver.customer if receiver else str(to or user_id), now):
            checks.bad("Too many messages were sent to the same phone number in a short time.", 131056)
        failure = self._failure(receiver, kind, category)
        if failure and self.reject_at_once:
            checks.bad(TITLES.get(failure, "Message failed"), failure)
        sent = Sent(
            id=self._wamid((receiver and receiver.phone) or digits(to or user_id), outbound=True),
            customer=receiver.customer if receiver else None,
            by_user_id=not to,
            to=str(to or user_id),
            kind=kind,
            text=text,
            content=body.get(kind),
            token=token,
            at=now,
            category=category,
        )
        self.sent[sent.id] = sent
        self._tell_statuses(sent, failure)
        contact = {"input": user_id, "user_id": user_id}
        if to:
            contact = {"input": to, "wa_id": (receiver and receiver.phone) or digits(to)}
        message = {"id": sent.id, **({"message_status": "accepted"} if kind == "template" else {})}
        return json_response({"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]})

    def _mark_read(self, body: dict[str, Any]) -> Response:
        typing = body.get("typing_indicator")
        if body["status"] != "read" or (typing is not None and typing != {"type": "text"}):
            checks.bad("status must be read, typing_indicator.type must be text.")
        if body.get("message_id") not in self.said:
            checks.bad("message_id is not the id of a received message.", 131009)
        self.read_by_business.append(body["message_id"])
        return json_response({"success": True})

    def _failure(self, receiver: Customer | None, kind: str, category: str) -> int | None:
        """Why the platform will not deliver what it accepted; ``None`` when it will."""
        if self._failures:
            return self._failures.pop(0)
        if receiver is None:
            return 131026
        if category == "marketing" and receiver.marketing_stopped:
            return 131050
        return None if kind == "template" or self._window_open(receiver) else 131047

    def _post_media(self, request: Request, phone_number_id: str) -> Response:
        if phone_number_id != self.phone_number_id:
            checks.missing(phone_number_id, "post")
        file = request.files.get("file")
        if file is None or request.form.get("messaging_product") != "whatsapp":
            checks.bad("messaging_product and file are required.")
        mime_type = request.form.get("type") or file.mimetype
        return json_response({"id": self._store(file.read(), mime_type, file.filename, "business")})

    def _get_node(self, request: Request, node: str) -> Response:
        if node == self.phone_number_id:
            return json_response({"id": node, "display_phone_number": self.display_phone_number,
                                  "verified_name": "Sandbox", "quality_rating": "GREEN"})  # fmt: skip
        media = self.media_files.get(node)
        if media is None or self.clock.epoch() - media.at > (30 if media.by == "business" else 7) * DAY:
            checks.missing(node, "get")
        return json_response({
            "messaging_product": "whatsapp", "url": self._media_url(node, request.host_url), "id": node,
            "mime_type": media.mime_type, "sha256": hashlib.sha256(media.data).hexdigest(),
            "file_size": str(len(media.data)),
        })  # fmt: skip

    def _delete_media(self, request: Request, node: str) -> Response:
        del request
        if self.media_files.pop(node, None) is None:
            checks.missing(node, "delete")
        return json_response({"success": True})

    def _get_attachment(self, request: Request) -> Response:
        media = self.media_files.get(request.args.get("mid", ""))
        if media is None or float(request.args.get("ext", 0)) < self.clock.epoch():
            return Response(status=404)
        headers = {"Content-Disposition": f'attachment; filename="{media.filename}"'} if media.filename else {}
        return Response(media.data, content_type=media.mime_type, headers=headers)

    def _post_subscribed_apps(self, request: Request, waba_id: str) -> Response:
        del request
        if waba_id != self.waba_id:
            checks.missing(waba_id, "post")
        self.subscribed = True
        return json_response({"success": True})

    def _get_subscribed_apps(self, request: Request, waba_id: str) -> Response:
        del request
        if waba_id != self.waba_id:
            checks.missing(waba_id, "get")
        one = {"id": str(self.app_id), "link": f"https://www.facebook.com/games/?app_id={self.app_id}",
               "name": "Sandbox app"}  # fmt: skip
        return json_response({"data": [{"whatsapp_business_api_data": one}] if self.subscribed else []})

    def _get_templates(self, request: Request, waba_id: str) -> Response:
        del request
        if waba_id != self.waba_id:
            checks.missing(waba_id, "get")
        rows = [{"id": str(number), "name": one.name, "language": one.language, "category": one.category,
                 "status": one.status, "components": [{"type": "BODY", "text": one.body}]}
                for number, one in enumerate(self.templates.values(), start=1)]  # fmt: skip
        return json_response({"data": rows, "paging": {"cursors": {"before": "MAZDZD", "after": "MAZDZD"}}})
