"""The calls of the Messenger Platform that the stand-in answers: Send API, Conversations API, profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.deliverer import Delivery
from sandbox.graph_conversations import GraphConversations
from sandbox.graph_reading import (
    attachment_row,
    fields_of,
    graph_time,
    refuse_missing,
)
from sandbox.messenger.account import DAY, Message, Person
from sandbox.messenger.people import People
from sandbox.meta import VERSION, refuse

_TYPES = ("RESPONSE", "UPDATE", "MESSAGE_TAG")
_ACTIONS = ("typing_on", "typing_off", "mark_seen", "react", "unreact")
FIELDS = ("feed", "message_deliveries", "message_echoes", "message_edits", "message_reactions", "message_reads",
          "messages", "messaging_account_linking", "messaging_handovers", "messaging_optins", "messaging_postbacks",
          "messaging_referrals", "standby")  # fmt: skip
"""What a page's app can be subscribed to, as far as this stand-in tells it."""


class MessengerApp(People, GraphConversations):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    person_id = "psid"

    def graph_routes(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """The calls that this stand-in answers."""
        yield "POST", f"{VERSION}/<page>/messages", self._post_message
        yield "POST", f"{VERSION}/<page>/subscribed_apps", self._post_subscribed_apps
        yield "GET", f"{VERSION}/debug_token", self.get_debug_token
        yield "GET", f"{VERSION}/<page>/subscribed_apps", self._get_subscribed_apps
        yield "GET", f"{VERSION}/<page>/conversations", self._get_conversations
        yield "GET", f"{VERSION}/<node>/messages", self.get_messages
        yield "GET", f"{VERSION}/<node>", self._get_node
        yield "GET", "/cdn/<name>", self.get_file

    def guard(self, request: Request) -> Response | None:
        """As everywhere in Graph; the URLs of attachments are signed and want no token."""
        return None if request.path.startswith("/cdn/") else super().guard(request)

    # -- sending --

    def _post_message(self, request: Request, page: str) -> Response:
        self._check_page(page)
        body = self.parameters(request)
        recipient = body.get("recipient")
        if not isinstance(recipient, dict) or "id" not in recipient:
            refuse(100, "(#100) The parameter recipient is required")
        person = self.people.get(str(recipient["id"]))
        if person is None:
            refuse(100, "(#100) No matching user found", subcode=2018001)
        if "sender_action" in body:
            return self._sender_action(person, body)
        content = self._checked_message(body.get("message"))
        tag = self._checked_type(body)
        reply_to = (body.get("reply_to") or {}).get("mid")
        if reply_to is not None and reply_to not in self.messages:
            refuse(100, "(#100) Invalid reply_to message id")
        if not self.sending.take("", self.clock.epoch()):
            refuse(613, "(#613) Calls to this api have exceeded the rate limit.")
        if person.blocked:
            refuse(551, "(#551) This person isn't available right now.", subcode=1545041)
        if person.owner_app_id not in {None, self.app_id}:
            refuse(10, "(#10) Message not sent: another app is controlling this thread now.", subcode=2018300)
        if not self._within(person, 7 * DAY if tag else DAY):
            refuse(10, "(#10) This message is sent outside of allowed window.", subcode=2018278)
        attachments = content.get("attachments") or ([content["attachment"]] if content.get("attachment") else [])
        message = Message(
            self._mid(), person.psid, self.clock.epoch(), content.get("text"), attachments, self.app_id,
            content.get("metadata"), tag, reply_to,
        )  # fmt: skip
        self.messages[message.id] = message
        tell: dict[str, Callable[[Message, Delivery], object]] = {
            "echo": self._tell_outgoing,
            "delivery": self._tell_delivered,
            "read": lambda one, delivery: self._tell_read(one.psid, delivery),
        }
        planned = [(what, delay) for what, delay in self.told_after.items() if delay is not None]
        for what, delay in reversed(planned) if self.told_reversed else planned:
            tell[what](message, Delivery(delay_seconds=delay))
        return json_response({"recipient_id": person.psid, "message_id": message.id})

    def _sender_action(self, person: Person, body: dict[str, Any]) -> Response:
        if "message" in body:
            refuse(100, "(#100) Cannot send both message and state at the same time.", subcode=2018023)
        if body["sender_action"] not in _ACTIONS:
            refuse(100, f"(#100) Param sender_action must be one of {{{', '.join(_ACTIONS)}}}")
        self.typing.append({"customer": person.psid, "action": body["sender_action"]})
        return json_response({"recipient_id": person.psid})

    @staticmethod
    def _checked_type(body: dict[str, Any]) -> str | None:
        """The tag of the message, if it has one."""
        kind, tag = body.get("messaging_type", "RESPONSE"), body.get("tag")
        if kind not in _TYPES:
            refuse(100, f"(#100) Param messaging_type must be one of {{{', '.join(_TYPES)}}}")
        if kind == "MESSAGE_TAG" and tag != "HUMAN_AGENT":
            refuse(100, "(#100) Param tag must be one of {HUMAN_AGENT}")
        return "HUMAN_AGENT" if kind == "MESSAGE_TAG" else None

    @staticmethod
    def _checked_message(message: Any) -> dict[str, Any]:
        if not isinstance(message, dict):
            refuse(100, "(#100) The parameter message is required")
        text, attachment = message.get("text"), message.get("attachment")
        attachments = message.get("attachments", [attachment] if attachment else [])
        if not text and not attachments:
            refuse(100, "(#100) Must provide either text or attachment")
        if text and attachments:
            refuse(100, "(#100) Cannot send both text and attachment")
        if text is not None and len(text) > 2000:
            refuse(100, "(#100) Length of param message[text] must be less than or equal to 2000")
        if len(message.get("metadata") or "") > 1000:
            refuse(100, "(#100) Length of param message[metadata] must be less than or equal to 1000")
        if len(message.get("quick_replies") or ()) > 13 or len(attachments) > 30:
            refuse(100, "(#100) Param message has too many elements")
        for one in attachments:
            payload = one.get("payload") or {}
            if one.get("type") == "template" or payload.get("attachment_id"):
                continue
            if one.get("type") not in {"image", "video", "audio", "file"} or not payload.get("url"):
                refuse(100, "(#100) Param message[attachment] needs a type and a payload with a url")
        return message

    def _post_subscribed_apps(self, request: Request, page: str) -> Response:
        self._check_page(page)
        listed = self.parameters(request).get("subscribed_fields")
        self.fields = set(listed.split(",")) if isinstance(listed, str) else set(listed) if listed else None
        return json_response({"success": True})

    def _get_subscribed_apps(self, request: Request, page: str) -> Response:
        del request
        self._check_page(page)
        fields = FIELDS if self.fields is None else self.fields
        row = {"id": str(self.app_id), "name": "Sandbox app", "subscribed_fields": sorted(fields)}
        return json_response({"data": [row] if fields else []})

    # -- reading --

    def _get_conversations(self, request: Request, page: str) -> Response:
        self._check_page(page)
        self.spend_reading()
        asked = request.args
        if asked.get("platform", "messenger").lower() != "messenger":
            refuse(100, "(#100) Param platform must be one of {messenger}")
        return self.list_conversations(request, "id,link,updated_time")

    def _get_node(self, request: Request, node: str) -> Response:
        if node in {"me", self.page_id}:
            return json_response({"id": self.page_id, "name": self.page_name})
        if node in self.people and self.profile_access:
            person = self.people[node]
            known = {"id": node, "first_name": person.first_name, "last_name": person.last_name,
                     "profile_pic": person.profile_pic, "name": f"{person.first_name} {person.last_name}"}  # fmt: skip
            wanted = fields_of(request.args.get("fields", "first_name,last_name,profile_pic"))
            return json_response({key: value for key, value in known.items() if key in wanted or key == "id"})
        return self.read_node(request, node)

    def facts_of(self, person: Person) -> dict[str, Any]:
        """The link to the inbox, the two parties, and who owns the thread where routing is on."""
        owner = {"is_owner": person.owner_app_id in {None, self.app_id}} if self.routing else {}
        return {
            "link": f"/{self.page_id}/inbox/{person.conversation}/",
            "participants": {"data": [self._party(person.psid), self._party(self.page_id)]},
            **owner,
        }

    def message_row(self, message: Message, wanted: Mapping[str, str]) -> dict[str, Any]:
        """See `GraphConversations.message_row`."""
        author, reader = (message.psid, self.page_id) if message.app_id is None else (self.page_id, message.psid)
        row: dict[str, Any] = {"id": message.id}
        details = {
            "created_time": graph_time(message.at),
            "from": self._party(author),
            "to": {"data": [self._party(reader)]},
            "message": message.text or "",
            "attachments": {"data": [attachment_row(one) for one in message.attachments]}
            if message.attachments
            else None,
            "reply_to": {"mid": message.reply_to} if message.reply_to else None,
        }
        return row | {key: value for key, value in details.items() if key in wanted and value is not None}

    def _party(self, party: str) -> dict[str, str]:
        person = self.people.get(party)
        name = f"{person.first_name} {person.last_name}" if person else self.page_name
        return {"name": name, "email": f"{party}@facebook.com", "id": party}

    def spend_reading(self) -> None:
        """Two readings a second and page."""
        if not self.reading.take(self.page_id, self.clock.epoch()):
            refuse(613, "(#613) Calls to this api have exceeded the rate limit.")

    def _check_page(self, page: str) -> None:
        if page not in {"me", self.page_id}:
            refuse_missing(page)
