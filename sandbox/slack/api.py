"""The methods of Slack's Web API that the stand-in answers, and the short scene that it can play."""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.deliverer import Delivery
from sandbox.meta import TokenBucket
from sandbox.slack.workspace import Channel, Member, Message, Workspace

_TS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,6})?")
_LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Slack</title></head><body>Sign in to your workspace</body></html>"
_TYPES = ("public_channel", "private_channel", "mpim", "im")
_HISTORY = ("conversations.history", "conversations.replies")
_PER_MINUTE = {
    "auth.test": 600, "chat.postMessage": 60, "conversations.history": 50, "conversations.info": 50,
    "conversations.list": 20, "conversations.members": 100, "conversations.open": 50, "conversations.replies": 50,
    "files.info": 100, "oauth.v2.access": 100, "users.conversations": 50, "users.info": 100,
}  # fmt: skip


class SlackError(Exception):
    """A refusal: Slack's error code, and what else the answer says."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.more = more


class SlackApp(Workspace):
    """The stand-in as a server: see `Workspace` for its options and for what people can do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.per_minute = dict(_PER_MINUTE)
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        self._methods: dict[str, tuple[str, Callable[[dict[str, str]], dict[str, Any]]]] = {
            "auth.test": ("", self._auth_test),
            "chat.postMessage": ("chat:write", self._post_message),
            "conversations.history": ("", self._history),
            "conversations.info": ("", self._info),
            "conversations.list": ("", self._list),
            "conversations.members": ("", self._members),
            "conversations.open": ("im:read", self._open),
            "conversations.replies": ("", self._replies),
            "files.info": ("files:read", self._file_info),
            "users.conversations": ("", self._list),
            "users.info": ("users:read", self._user_info),
        }

    def routes(self) -> Iterable[Route]:
        """Every method by GET and POST, and the bytes of files."""
        yield Route("/api/<method>", endpoint=self._call, methods=["GET", "POST"])
        yield Route("/files-pri/<file>/<path:name>", endpoint=self._get_file, methods=["GET"])

    def refusal(self, error: HTTPException) -> Response:
        """Slack answers an unknown address with a page."""
        return Response(_LOGIN_PAGE, status=error.code or 404, content_type="text/html; charset=utf-8")

    # -- one call --

    def _call(self, request: Request, method: str) -> Response:
        given = {**request.args, **request.form}
        if request.mimetype == "application/json" and request.get_data():
            body = request.get_json(silent=True)
            given |= {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in (body or {}).items()
            }
        headers = {"X-OAuth-Scopes": ",".join(sorted(self.scopes)), "X-Accepted-OAuth-Scopes": ""}
        try:
            if method == "oauth.v2.access":
                if request.authorization is not None and request.authorization.type == "basic":
                    given |= {"client_id": request.authorization.username or ""}
                    given |= {"client_secret": request.authorization.password or ""}
                return json_response({"ok": True, **self._refresh(given)})
            if method not in self._methods:
                raise SlackError("unknown_method", req_method=method)
            scope, answer = self._methods[method]
            self._check_token(request, given)
            if scope and scope not in self.scopes:
                raise SlackError("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))
            wait = self._wait_seconds(method, given)
            if wait:
                return json_response({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": str(wait)})
            return json_response({"ok": True, **answer(given)}, headers=headers)
        except SlackError as error:
            return json_response({"ok": False, "error": str(error), **error.more}, headers=headers)

    def _check_token(self, request: Request, given: dict[str, str]) -> None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or given.get("token", "")
        if not token:
            raise SlackError("not_authed")
        if token != self.access_token:
            raise SlackError("token_expired" if token.startswith("xoxe.") else "invalid_auth")
        if self._ends_at is not None and self.clock.epoch() >= self._ends_at:
            raise SlackError("token_expired")

    def _wait_seconds(self, method: str, given: dict[str, str]) -> int:
        """Seconds until the method may be called again; 0: now."""
        per_minute = 1 if self.restricted and method in _HISTORY else self.per_minute[method]
        key = (method, given.get("channel", "") if method == "chat.postMessage" else "")
        bucket = self._buckets.get(key)
        if bucket is None or bucket.capacity != per_minute:
            bucket = self._buckets[key] = TokenBucket(per_minute, per_minute / 60)
        return 0 if bucket.take("", self.clock.epoch()) else math.ceil(60 / per_minute)

    def _refresh(self, given: dict[str, str]) -> dict[str, Any]:
        if (given.get("client_id"), given.get("client_secret")) != (self.client_id, self.client_secret):
            raise SlackError("bad_client_secret" if given.get("client_id") == self.client_id else "invalid_client_id")
        if given.get("grant_type") != "refresh_token":
            raise SlackError("invalid_grant_type")
        if self.refresh_token is None or given.get("refresh_token") != self.refresh_token:
            raise SlackError("invalid_refresh_token")
        self.access_token = f"xoxe.xoxb-1-{secrets.token_hex(16)}"
        self.refresh_token = f"xoxe-1-{secrets.token_hex(16)}"
        self._ends_at = self.clock.epoch() + 43_200
        return {"access_token": self.access_token, "refresh_token": self.refresh_token, "expires_in": 43_200,
                "token_type": "bot", "scope": ",".join(sorted(self.scopes)), "bot_user_id": self.bot,
                "app_id": self.app_id, "team": {"id": self.team_id, "name": "Sandbox"}, "enterprise": None,
                "is_enterprise_install": False}  # fmt: skip

    # -- methods --

    def _auth_test(self, given: dict[str, str]) -> dict[str, Any]:
        del given
        return {"url": "https://sandbox.slack.com/", "team": "Sandbox", "user": "onethread", "team_id": self.team_id,
                "user_id": self.bot, "bot_id": f"B{self.bot[1:]}", "is_enterprise_install": False}  # fmt: skip

    def _list(self, given: dict[str, str]) -> dict[str, Any]:
        types = [one.strip() for one in given.get("types", "public_channel").split(",")]
        if set(types) - set(_TYPES):
            raise SlackError("invalid_types")
        for one in types:
            self._need({"public_channel": "channels", "private_channel": "groups"}.get(one, one), "read")
        found = [one for one in self.channels.values() if one.bot_is_in and self._kind(one) in types]
        page, cursor = self._page(found, given, most=1000, default=100)
        return {"channels": [self._conversation(one) for one in page], "response_metadata": {"next_cursor": cursor}}

    def _info(self, given: dict[str, str]) -> dict[str, Any]:
        return {"channel": self._conversation(self._channel(given, "read", anywhere=True))}

    def _members(self, given: dict[str, str]) -> dict[str, Any]:
        channel = self._channel(given, "read")
        found = [one.id for one in self.members.values() if channel.user in {None, one.id} or one.is_bot]
        page, cursor = self._page(found, given, most=1000, default=100)
        return {"members": page, "response_metadata": {"next_cursor": cursor}}

    def _open(self, given: dict[str, str]) -> dict[str, Any]:
        user = given.get("users", "")
        if user not in self.members:
            raise SlackError("user_not_found")
        return {"channel": {"id": self.open_direct(user)}}

    def _history(self, given: dict[str, str]) -> dict[str, Any]:
        channel = self._channel(given, "history")
        wanted = self._between(given)
        found = [one for one in channel.messages if one.thread is None or one.subtype == "thread_broadcast"]
        found = [one for one in found if wanted(one) and (not one.deleted or self.replies_of(one))]
        page, cursor = self._page(sorted(found, key=_order, reverse=True), given)
        return {"messages": self._shown(page, given), "has_more": bool(cursor), "pin_count": 0,
                "channel_actions_ts": None, "channel_actions_count": 0,
                **({"response_metadata": {"next_cursor": cursor}} if cursor else {})}  # fmt: skip

    def _replies(self, given: dict[str, str]) -> dict[str, Any]:
        channel = self._channel(given, "history")
        parent = next((one for one in channel.messages if one.ts == given.get("ts")), None)
        if parent is None or (parent.deleted and not self.replies_of(parent)):
            raise SlackError("thread_not_found")
        wanted = self._between(given)
        page, cursor = self._page([one for one in self.replies_of(parent) if wanted(one)], given)
        return {"messages": self._shown([parent, *page], given), "has_more": bool(cursor),
                **({"response_metadata": {"next_cursor": cursor}} if cursor else {})}  # fmt: skip

    def _user_info(self, given: dict[str, str]) -> dict[str, Any]:
        member = self.members.get(given.get("user", ""))
        if member is None:
            raise SlackError("user_not_found")
        return {"user": self._user(member, locale=given.get("include_locale") == "true")}

    def _file_info(self, given: dict[str, str]) -> dict[str, Any]:
        if given.get("file") not in self.files:
            raise SlackError("file_not_found")
        return {"file": self.files[given["file"]][0], "comments": [], "response_metadata": {"next_cursor": ""}}

    def _post_message(self, given: dict[str, str]) -> dict[str, Any]:
        target = given.get("channel", "")
        channel = self.channels.get(self.open_direct(target) if target in self.members else target)
        if channel is None or (channel.private and not channel.bot_is_in):
            raise SlackError("channel_not_found")
        if not channel.bot_is_in:
            raise SlackError("not_in_channel")
        blocks = json.loads(given.get("blocks") or "[]")
        if not given.get("text") and not blocks:
            raise SlackError("no_text")
        if len(blocks) > 50:
            raise SlackError("invalid_blocks")
        metadata = json.loads(given["metadata"]) if given.get("metadata") else None
        if metadata is not None and not (
            metadata.get("event_type") and isinstance(metadata.get("event_payload"), dict)
        ):
            raise SlackError("invalid_metadata_format")
        ts = self.write(self.bot, channel.id, given.get("text", ""), thread=given.get("thread_ts") or None,
                        metadata=metadata, blocks=blocks)  # fmt: skip
        return {"channel": channel.id, "ts": ts, "message": self.show(self.message(channel.id, ts))}

    def _get_file(self, request: Request, file: str, name: str) -> Response:
        del name
        about, data = self.files.get(file.rpartition("-")[2], ({}, b""))
        if not about or request.headers.get("Authorization") != f"Bearer {self.access_token}":
            return Response(_LOGIN_PAGE, content_type="text/html; charset=utf-8")
        return Response(data, content_type=about["mimetype"])

    # -- parts of answers --

    def _channel(self, given: dict[str, str], what: str, *, anywhere: bool = False) -> Channel:
        channel = self.channels.get(given.get("channel", ""))
        if channel is None or (channel.private and not channel.bot_is_in):
            raise SlackError("channel_not_found")
        words = {"public_channel": "channels", "private_channel": "groups"}
        self._need(words.get(self._kind(channel), self._kind(channel)), what)
        if not channel.bot_is_in and not anywhere:
            raise SlackError("not_in_channel")
        return channel

    def _need(self, word: str, what: str) -> None:
        if f"{word}:{what}" not in self.scopes:
            raise SlackError("missing_scope", needed=f"{word}:{what}", provided=",".join(sorted(self.scopes)))

    @staticmethod
    def _between(given: dict[str, str]) -> Callable[[Message], bool]:
        """Whether a message lies between ``oldest`` and ``latest``, both excluded unless ``inclusive``."""
        bounds = []
        for name in ("oldest", "latest"):
            text = given.get(name) or ("0" if name == "oldest" else "9999999999")
            if not _TS.fullmatch(text):
                raise SlackError(f"invalid_ts_{name}")
            seconds, _, rest = text.partition(".")
            bounds.append((int(seconds), int(rest.ljust(6, "0"))))
        inclusive = given.get("inclusive") in {"true", "1"}
        oldest, latest = bounds
        return lambda one: oldest < _order(one) < latest or (inclusive and _order(one) in bounds)

    def _page(
        self, found: Sequence[Any], given: dict[str, str], *, most: int = 999, default: int = 100
    ) -> tuple[list[Any], str]:
        """The page that the cursor says, and the cursor of the next one (empty at the end)."""
        if self.restricted and most == 999:
            most, default = 15, 15
        text = given.get("limit") or str(default)
        if not text.isdecimal() or not 0 < int(text) <= max(most, 999):
            raise SlackError("invalid_limit")
        limit, start = min(int(text), most), 0
        if given.get("cursor"):
            try:
                start = int(base64.b64decode(given["cursor"], validate=True).decode().removeprefix("next:"))
            except ValueError:
                raise SlackError("invalid_cursor") from None
        end = start + limit
        return list(found[start:end]), base64.b64encode(f"next:{end}".encode()).decode() if end < len(found) else ""

    def _shown(self, messages: Iterable[Message], given: dict[str, str]) -> list[dict[str, Any]]:
        full = given.get("include_all_metadata") in {"true", "1"}
        return [self.show(one, full=full) for one in messages]

    @staticmethod
    def _kind(channel: Channel) -> str:
        return "im" if channel.user else "private_channel" if channel.private else "public_channel"

    def _conversation(self, channel: Channel) -> dict[str, Any]:
        if channel.user:
            return {"id": channel.id, "created": 1772000000, "is_im": True, "is_org_shared": False,
                    "user": channel.user, "is_user_deleted": False, "priority": 0}  # fmt: skip
        about = {"value": "", "creator": "", "last_set": 0}
        return {
            "id": channel.id, "name": channel.name, "is_channel": not channel.private, "is_group": channel.private,
            "is_im": False, "is_mpim": False, "is_private": channel.private, "created": 1772000000,
            "is_archived": False, "is_general": False, "unlinked": 0, "name_normalized": channel.name,
            "is_shared": channel.shared, "is_ext_shared": channel.shared, "is_org_shared": False,
            "is_pending_ext_shared": False, "pending_shared": [], "creator": self.bot, "is_member": channel.bot_is_in,
            "topic": about, "purpose": about, "previous_names": [],
        }  # fmt: skip

    def _user(self, member: Member, *, locale: bool) -> dict[str, Any]:
        external = member.team != self.team_id
        profile = {"real_name": member.real_name, "real_name_normalized": member.real_name,
                   "display_name": member.name, "display_name_normalized": member.name, "phone": member.phone,
                   "title": "", "skype": "", "avatar_hash": "g0123456789a", "status_text": "", "status_emoji": "",
                   "fields": {},
                   "image_72": "https://avatars.example/72.png", "team": member.team}  # fmt: skip
        if member.email and "users:read.email" in self.scopes and (self.email_access or not external):
            profile["email"] = member.email
        user = {"id": member.id, "team_id": member.team, "name": member.name, "deleted": False,
                "real_name": member.real_name, "profile": profile, "is_bot": member.is_bot, "is_app_user": False,
                "updated": 1772000000}  # fmt: skip
        if external:
            return {**user, "is_stranger": False}
        return {**user, **({"locale": "en-GB"} if locale else {})}

    # -- the demo --

    def environment(self, url: str) -> dict[str, str]:
        """The variables that connect tap and receiver to this stand-in under `url`."""
        self.public_url = url
        host = url.partition("://")[2]
        values = {
            "ACCESS_TOKEN": self.access_token, "SIGNING_SECRET": self.signing_secret, "API_URL": f"{url}/api",
            "TRUSTED_TEAMS": '["T0LUMEN001"]', "FILE_HOSTS": json.dumps([host.partition(":")[0]]),
            "MEDIA_PRIVATE_HOSTS": json.dumps([host]),
        }  # fmt: skip
        if self.refresh_token:
            values |= {"REFRESH_TOKEN": self.refresh_token, "CLIENT_ID": self.client_id,
                       "CLIENT_SECRET": self.client_secret}  # fmt: skip
        return {f"ONETHREAD_SLACK_{name}": value for name, value in values.items()}

    def play(self) -> None:
        """Three people of two companies and one of us, ten minutes ago: an event is lost, one comes twice, one late."""
        self.clock.advance(-600)
        sam = self.add_member("sam", "Sam Reed", email="sam@shop.example").id
        mara = self.add_member("mara", "Mara Quill", "T0LUMEN001", email="mara@lumen.example").id
        theo = self.add_member("theo", "Theo Park", "T0LUMEN001", email="theo@lumen.example").id
        ines = self.add_member("ines", "Ines Okafor", "T0ORCHARD1", email="ines@orchard.example").id
        lumen, orchard = self.add_channel("ext-lumen", shared=True), self.add_channel("ext-orchard", shared=True)
        ours = self.add_channel("support-internal")
        asked = self._next(mara, lumen, "Our order 4411 came without the cables.")
        self._next(sam, ours, "Who packs for Lumen?")
        self._next(sam, lumen, "Sorry for that! We send them today.", thread=asked)
        self._next(mara, lumen, "Great, thank you.", thread=asked, delivery=Delivery(delay_seconds=0.3))
        self._next(theo, lumen, "Is there an invoice for May?")
        self._next(theo, lumen, "I need it by Friday.", delivery=Delivery(drop=True))
        self.clock.advance(20)
        self.share_file(theo, lumen, "This is what we have")
        twice = self._next(ines, orchard, "Can we get 40 more of the blue ones?")
        self.tell_again(orchard, twice)
        changed = self._next(ines, orchard, "See htps://orchard.example/order")
        self.edit(orchard, changed, "See https://orchard.example/order")
        self.preview(orchard, changed, "https://orchard.example/order")
        self._next(sam, orchard, "Yes, in two weeks.")
        self.react(ines, orchard, twice, "tada")
        direct = self.open_direct(ines)
        gone = self._next(ines, direct, "My private number is on the card")
        self.delete(direct, gone)
        self._next(ines, direct, "STOP")
        self.clock.advance(600 - 20 * 11)

    def _next(self, user: str, channel: str, text: str, **more: Any) -> str:
        self.clock.advance(20)
        return self.write(user, channel, text, **more)


def _order(message: Message) -> tuple[int, int]:
    seconds, _, rest = message.ts.partition(".")
    return int(seconds), int(rest)
