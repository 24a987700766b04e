"""The calls of the Instagram API that the stand-in answers: tokens, conversations, profiles, subscriptions, sends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.graph_conversations import GraphConversations
from sandbox.graph_reading import (
    attachment_row,
    fields_of,
    graph_time,
    refuse_missing,
)
from sandbox.instagram.account import DAY, TOKEN_SECONDS, Message, Person
from sandbox.instagram.scene import Scene
from sandbox.meta import VERSION, refuse

_FIRST_REFRESH_SECONDS = DAY
FIELDS = ("comments", "live_comments", "mentions", "message_edit", "message_reactions", "messages",
          "messaging_handover", "messaging_optins", "messaging_postbacks", "messaging_referral", "messaging_seen",
          "standby")  # fmt: skip
"""What an account's app can be subscribed to, as far as this stand-in tells it."""


class InstagramApp(Scene, GraphConversations):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    person_id = "igsid"

    def graph_routes(self) -> Iterable[tuple[str, str, Callable[..., Response]]]:
        """The calls that this stand-in answers."""
        yield "GET", "/refresh_access_token", self._get_refreshed
        yield "POST", f"{VERSION}/<node>/messages", self._post_message
        yield "GET", f"{VERSION}/debug_token", self.get_debug_token
        yield "GET", f"{VERSION}/<node>/subscribed_apps", self._get_subscribed_apps
        yield "POST", f"{VERSION}/<node>/subscribed_apps", self._post_subscribed_apps
        yield "GET", f"{VERSION}/<node>/conversations", self._get_conversations
        yield "GET", f"{VERSION}/<node>/messages", self.get_messages
        yield "GET", f"{VERSION}/<node>", self._get_node
        yield "GET", "/cdn/<name>", self.get_file

    # -- tokens and subscriptions --

    def _get_refreshed(self, request: Request) -> Response:
        if self.login == "facebook":
            refuse(100, "Unsupported get request", kind="IGApiException")
        if request.args.get("grant_type") != "ig_refresh_token":
            refuse(100, "Missing required parameter: grant_type must be ig_refresh_token", kind="IGApiException")
        token = request.args.get("access_token", "")
        if token not in self.tokens:
            refuse(190, "Invalid OAuth access token - Cannot parse access token")
        now = self.clock.epoch()
        if now - self.tokens[token][0] < _FIRST_REFRESH_SECONDS:
            refuse(190, "The access token is not yet 24 hours old")
        self.access_token = f"IGAA{secrets.token_urlsafe(60)}"
        self.tokens[self.access_token] = (now, now + TOKEN_SECONDS)
        return json_response({"access_token": self.access_token, "token_type": "bearer", "expires_in": TOKEN_SECONDS})

    def _get_subscribed_apps(self, request: Request, node: str) -> Response:
        del request
        self._check_node(node)
        fields = FIELDS if self.fields is None else self.fields
        row = {"id": str(self.app_id), "name": "Sandbox app", "subscribed_fields": sorted(fields)}
        return json_response({"data": [row] if fields else []})

    def _post_subscribed_apps(self, request: Request, node: str) -> Response:
        self._check_node(node)
        self.fields = set(str(self.parameters(request).get("subscribed_fields", "")).split(",")) - {""}
        return json_response({"success": True})

    # -- reading --

    def _get_conversations(self, request: Request, node: str) -> Response:
        self._check_node(node)
        self.spend_reading()
        asked = request.args
        wanted_platform = asked.get("platform", "instagram" if self.login == "instagram" else "messenger")
        if wanted_platform.lower() != "instagram":  # Meta's SDK writes it in capitals
            return json_response({"data": []})  # the page's own conversations: nobody here has one
        return self.list_conversations(request, "id,updated_time")

    def _get_node(self, request: Request, node: str) -> Response:
        wanted = fields_of(request.args.get("fields", ""))
        if node in {"me", self.page_id, self.account_id}:
            return json_response(self._own_node(node, wanted))
        if node in self.people:
            return self._profile(self.people[node], wanted)
        return self.read_node(request, node)

    def _own_node(self, node: str, wanted: dict[str, str]) -> dict[str, Any]:
        if self.login == "facebook" and node != self.account_id:
            linked = {"instagram_business_account": {"id": self.account_id}, "name": "Sandbox Page"}
            return {"id": self.page_id, **{name: value for name, value in linked.items() if name in wanted}}
        own = {"user_id": self.account_id, "username": self.username}
        first = self.own_id if self.login == "instagram" else self.account_id
        return {"id": first, **{name: value for name, value in own.items() if name in wanted}}

    def _profile(self, person: Person, wanted: dict[str, str]) -> Response:
        if not person.has_written:
            refuse(230, "(#230) User consent is required to access user profile")
        if person.blocked:
            refuse_missing(person.igsid)
        known = {"name": person.name, "username": person.username, "profile_pic": person.profile_pic,
                 "follower_count": 12, "is_user_follow_business": not person.in_requests,
                 "is_business_follow_user": False, "is_verified_user": False}  # fmt: skip
        return json_response({**{key: value for key, value in known.items() if key in wanted}, "id": person.igsid})

    def is_shown(self, message: Message) -> bool:
        """Unsent messages are gone."""
        return not message.unsent

    def facts_of(self, person: Person) -> dict[str, Any]:
        """The two parties."""
        return {"participants": {"data": [self._party(None), self._party(person.igsid)]}}

    def message_row(self, message: Message, wanted: Mapping[str, str]) -> dict[str, Any]:
        """See `GraphConversations.message_row`."""
        person, us = self._party(message.igsid), self._party(None)
        author, reader = (us, person) if message.ours else (person, us)
        files = [one for one in message.attachments if one["type"] in {"image", "video", "audio", "file"}]
        posts = [one for one in message.attachments if one["type"] in {"share", "ig_post"}]
        mention = next((one["payload"] for one in message.attachments if one["type"] == "story_mention"), None)
        story = (message.reply_to or {}).get("story")
        stories = {"mention": {"link": mention["url"], "id": "17900000000000002"}} if mention else {}
        stories |= {"reply_to": {"link": story["url"], "id": story["id"]}} if story else {}
        replied = (message.reply_to or {}).get("mid")
        details = {
            "created_time": graph_time(message.at),
            "from": author,
            "to": {"data": [reader]},
            "message": message.text or "",
            "attachments": {"data": [attachment_row(one) for one in files]} if files else None,
            "shares": {"data": [{"link": one["payload"]["url"]} for one in posts]} if posts else None,
            "story": stories or None,
            "reply_to": {"mid": replied} if replied else None,
            "is_unsupported": message.unsupported or None,
        }
        return {"id": message.id} | {
            name: value for name, value in details.items() if name in wanted and value is not None
        }

    def _party(self, igsid: str | None) -> dict[str, str]:
        """A person, or the account: with Instagram login under its second id."""
        if igsid is not None:
            return {"username": self.people[igsid].username, "id": igsid}
        return {"username": self.username, "id": self.own_id if self.login == "instagram" else self.account_id}

    def spend_reading(self) -> None:
        """Two readings a second and account."""
        if not self.reading.take(self.account_id, self.clock.epoch()):
            refuse(613, "(#613) Calls to this api have exceeded the rate limit.")

    def _check_node(self, node: str) -> None:
        own = {"me", self.page_id} if self.login == "facebook" else {"me", self.account_id}
        if node not in own:
            refuse_missing(node)

    # -- sending --

    def _post_message(self, request: Request, node: str) -> Response:
        if node != self.account_id:
            self._check_node(node)
        body = self.parameters(request)
        recipient, message = body.get("recipient"), body.get("message")
        if not isinstance(recipient, dict) or not recipient.keys() & {"id", "comment_id"}:
            refuse(100, "(#100) The parameter recipient is required")
        if not isinstance(message, dict) or bool(message.get("text")) == bool(message.get("attachment")):
            refuse(100, "(#100) Must provide either text or attachment")
        if len(str(message.get("text") or "").encode()) > 1000:
            refuse(100, "(#100) Length of param message[text] must be less than or equal to 1000 bytes")
        tagged = body.get("messaging_type") == "MESSAGE_TAG"
        if tagged and body.get("tag") != "HUMAN_AGENT":
            refuse(100, "(#100) Param tag must be one of {HUMAN_AGENT}")
        person = self._addressed(recipient, tagged=tagged)
        if not self.sending.take("", self.clock.epoch()):
            refuse(613, "(#613) Calls to this api have exceeded the rate limit.")
        attachments = [message["attachment"]] if message.get("attachment") else []
        sent = Message(
            self._mid(),
            person.igsid,
            self.clock.epoch(),
            message.get("text"),
            attachments,
            ours=True,
            app_id=self.app_id,
        )
        self.messages[sent.id] = sent
        person.in_requests = False
        self._tell_outgoing(sent)
        return json_response({"recipient_id": person.igsid, "message_id": sent.id})

    def _addressed(self, recipient: dict[str, Any], *, tagged: bool) -> Person:
        """Whom a send goes to; ends the request when it may not go."""
        if "comment_id" in recipient:
            comment = self.comments.get(str(recipient["comment_id"]))
            if comment is None or comment.igsid is None:
                refuse(100, "(#100) The comment does not exist", subcode=2534014)
            if comment.answered or self.clock.epoch() - comment.at > 7 * DAY:
                refuse(10, "(#10) A private reply was already sent, or the comment is too old", subcode=2534025)
            comment.answered = True
            return self.people[comment.igsid]
        person = self.people.get(str(recipient["id"]))
        if person is None or person.blocked:
            refuse(100, "(#100) The requested user cannot be found", subcode=2534014)
        if not self._within(person, 7 * DAY if tagged else DAY):
            refuse(10, "(#10) This message is sent outside of allowed window.", subcode=2534022)
        return person
