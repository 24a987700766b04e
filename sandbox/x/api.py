"""The calls of X's API v2 that the stand-in answers."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.x.account import DM_TYPES, TOKEN_SECONDS, Dm, iso
from sandbox.x.people import People

WINDOW_SECONDS = 900
LIMITS = {"dm_events": 15, "me": 75, "mentions": 300, "sends": 15, "webhooks": 450, "subscriptions": 500, "media": 900}
"""How often in 15 minutes, for each token. The one of media is our own."""

_KEPT_SECONDS = 30 * 86400
_PROBLEMS = "https://api.x.com/2/problems/"
_USER = frozenset(
    "confirmed_email connection_status created_at description entities id is_identity_verified location name parody "
    "profile_banner_url profile_image_url protected public_metrics receives_your_dm subscribes_to_you subscription "
    "subscription_type url username verified verified_followers_count verified_type withheld".split()
)
_MEDIA = frozenset(
    "alt_text duration_ms height media_key non_public_metrics organic_metrics preview_image_url promoted_metrics "
    "public_metrics type url variants width".split()
)
_POST = frozenset(
    "article article_title attachments card_uri community_id context_annotations conversation_id created_at "
    "display_text_range edit_controls entities geo id lang matched_media_notes media_metadata non_public_metrics "
    "note_post note_request_suggestions organic_metrics paid_partnership possibly_sensitive promoted_metrics "
    "public_metrics reply_settings scopes source suggested_source_links suggested_source_links_with_counts text "
    "withheld".split()
)
_DM = frozenset("attachments created_at dm_conversation_id entities event_type id text".split())
_DM_EXPANSIONS = frozenset("attachments.media_keys participant_ids referenced_posts sender_id".split())
_POST_EXPANSIONS = frozenset(
    "article.cover_media article.media_entities attachments.media_keys attachments.media_source_tweet "
    "attachments.poll_ids author_id edit_history_post_ids entities.mentions.username geo.place_id in_reply_to_user_id "
    "referenced_posts username".split()
)
_TYPES = ("MessageCreate", "ParticipantsJoin", "ParticipantsLeave")
_PAGE = {"max_results", "pagination_token"}
_ID = re.compile(r"[0-9]{1,19}")
_TOKEN = re.compile(r"[0-9a-v]{16,}")

Handler = Callable[..., Response]


class XApp(People):
    """The stand-in as a server: see `Account` for its options and `People` for what people can do."""

    def __init__(self, **options: Any) -> None:
        self.limits = dict(LIMITS)
        self._used: dict[tuple[str, str], tuple[float, int]] = {}
        super().__init__(**options)

    def routes(self) -> Iterable[Route]:
        """The calls that this stand-in answers."""
        user, app = self._user_call, self._app_call
        pair, group = "/2/dm_conversations/with/<participant>", "/2/dm_conversations/<conversation>"
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/2/oauth2/token", self._token),
            ("GET", "/2/users/me", user("me", self._me)),
            ("GET", "/2/users/<user_id>/mentions", user("mentions", self._mentions)),
            ("GET", "/2/dm_events", user("dm_events", self._dm_events, "dm.read")),
            ("GET", f"{pair}/dm_events", user("dm_events with", self._dm_events, "dm.read")),
            ("GET", f"{group}/dm_events", user("dm_events in", self._dm_events, "dm.read")),
            ("POST", f"{pair}/messages", user("sends", self._send, "dm.write")),
            ("POST", f"{group}/messages", user("sends", self._send, "dm.write")),
            ("GET", "/2/dm_conversations/media/<dm_id>/<media_id>/<name>", user("media", self._get_media, "dm.read")),
            ("GET", "/2/webhooks", app("webhooks", self._get_webhooks)),
            ("POST", "/2/webhooks", app("webhooks", self._post_webhook)),
            ("PUT", "/2/webhooks/<webhook_id>", app("webhooks", self._put_webhook)),
            ("DELETE", "/2/webhooks/<webhook_id>", app("webhooks", self._delete_webhook)),
            ("GET", "/2/activity/subscriptions", app("subscriptions", self._get_subscriptions)),
            ("POST", "/2/activity/subscriptions", app("subscriptions", self._post_subscription)),
            ("DELETE", "/2/activity/subscriptions/<subscription_id>", app("subscriptions", self._delete_subscription)),
        ]
        return [Route(path, endpoint=handler, methods=[method]) for method, path, handler in table]

    def refusal(self, error: HTTPException) -> Response:
        """What is no call at all."""
        return problem(error.code or 500, error.name)

    # -- who may, and how often --

    def _user_call(self, name: str, handler: Handler, scope: str = "users.read") -> Handler:
        def answer(request: Request, **arguments: str) -> Response:
            token = _bearer(request)
            if token != self.access_token or (self.expires and self.clock.epoch() >= self.token_until):
                return problem(401, "Unauthorized")
            if scope not in self.scopes:
                return problem(403, "Forbidden", detail="Your client app is not configured with the appropriate scopes")
            return self._counted(name, "user", handler, request, arguments)

        return answer

    def _app_call(self, name: str, handler: Handler) -> Handler:
        def answer(request: Request, **arguments: str) -> Response:
            if _bearer(request) != self.bearer_token:
                return problem(401, "Unauthorized")
            return self._counted(name, "app", handler, request, arguments)

        return answer

    def _counted(
        self, name: str, who: str, handler: Handler, request: Request, arguments: Mapping[str, str]
    ) -> Response:
        now = self.clock.epoch()
        limit = self.limits[name.partition(" ")[0]]
        began, used = self._used.get((who, name), (float(int(now)), 0))
        if now - began >= WINDOW_SECONDS:
            began, used = float(int(now)), 0
        self._used[who, name] = (began, used + 1)
        response = problem(429, "Too Many Requests") if used >= limit else handler(request, **arguments)
        response.headers["x-rate-limit-limit"] = str(limit)
        response.headers["x-rate-limit-remaining"] = str(max(0, limit - used - 1))
        response.headers["x-rate-limit-reset"] = str(int(began) + WINDOW_SECONDS)
        return response

    def _token(self, request: Request) -> Response:
        given = request.authorization
        confidential = given is not None and given.type == "basic"
        if not confidential or (given and (given.username, given.password) != (self.client_id, self.client_secret)):
            return json_response({"error": "unauthorized_client", "error_description": "Missing valid header"}, 401)
        if request.form.get("grant_type") != "refresh_token":
            return json_response({"error": "unsupported_grant_type"}, 400)
        if request.form.get("refresh_token") != self.refresh_token:
            told = "Value passed for the token was invalid."
            return json_response({"error": "invalid_request", "error_description": told}, 400)
        self.access_token, self.refresh_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.token_until, self.expires = self.clock.epoch() + TOKEN_SECONDS, True
        return json_response({
            "token_type": "bearer", "expires_in": TOKEN_SECONDS, "access_token": self.access_token,
            "scope": " ".join(sorted(self.scopes)), "refresh_token": self.refresh_token,
        })  # fmt: skip

    # -- reading --

    def _me(self, request: Request) -> Response:
        refused = _unknown(request, {"user.fields": _USER, "expansions": None, "post.fields": _POST})
        return refused or json_response({"data": _shown(self.face(self.user_id), request, "user.fields")})

    def _dm_events(self, request: Request, participant: str | None = None, conversation: str | None = None) -> Response:
        fields: frozenset[str] = _DM
        expansions: frozenset[str] = _DM_EXPANSIONS
        posts: dict[str, frozenset[str] | None] = {"post.fields": _POST}
        if self.old_names:
            fields |= {"sender_id", "participant_ids", "referenced_tweets"}
            expansions = (expansions - {"referenced_posts"}) | {"referenced_tweets.id"}
            posts = {"tweet.fields": None}
        refused = _unknown(request, {
            "dm_event.fields": fields, "expansions": expansions, "user.fields": _USER, "media.fields": _MEDIA,
            "event_types": frozenset(_TYPES),
            **posts,
        }, _PAGE)  # fmt: skip
        if refused:
            return refused
        wanted = _listed(request, "event_types") or set(_TYPES)
        where = conversation or (self.pair(participant) if participant else None)
        oldest = self.clock.epoch() - _KEPT_SECONDS
        found = [
            one for one in self.events
            if one.at >= oldest and one.event_type in wanted and where in {None, one.conversation}
        ]  # fmt: skip
        page, meta, wrong = _paged(request, sorted(found, key=lambda one: int(one.event_id), reverse=True), 100)
        if wrong:
            return wrong
        answer: dict[str, Any] = {"data": [self._shown_event(one, request) for one in page]} if page else {}
        includes = self._includes(page, request)
        return json_response({**answer, **({"includes": includes} if includes else {}), "meta": meta})

    def _shown_event(self, event: Dm, request: Request) -> dict[str, Any]:
        expansions, fields = _listed(request, "expansions"), _listed(request, "dm_event.fields")
        shown: dict[str, Any] = {"id": event.event_id, "event_type": event.event_type}
        if event.event_type == "MessageCreate":
            shown["text"] = self.written(event)
        else:
            shown["participant_ids"] = event.people
        if "dm_conversation_id" in fields:
            shown["dm_conversation_id"] = event.conversation
        if "created_at" in fields:
            shown["created_at"] = iso(event.at)
        if {"sender_id"} & (expansions | fields) and event.event_type != "ParticipantsLeave":
            shown["sender_id"] = event.sender
        if event.media and {"attachments", "attachments.media_keys"} & (expansions | fields):
            shown["attachments"] = {"media_keys": [f"3_{event.media[0]}"]}
        links = self.entities(event, "start")
        if "entities" in fields and links:
            shown["entities"] = {"urls": links}
        if event.post and {"referenced_posts", "referenced_tweets.id", "referenced_tweets"} & (expansions | fields):
            shown["referenced_tweets" if self.old_names else "referenced_posts"] = [{"id": event.post}]
        return shown

    def _includes(self, page: list[Dm], request: Request) -> dict[str, Any]:
        expansions = _listed(request, "expansions")
        people = [one.sender for one in page if "sender_id" in expansions]
        people += [who for one in page for who in one.people if "participant_ids" in expansions]
        media = [
            {"media_key": f"3_{one.media[0]}", "type": "photo", "url": self.ton_url(one), "width": 640, "height": 480}
            for one in page
            if one.media and "attachments.media_keys" in expansions
        ]
        posts = [
            {"id": one.post, "text": self.posts[one.post]}
            for one in page
            if one.post and {"referenced_posts", "referenced_tweets.id"} & expansions
        ]
        found = {
            "users": [_shown(self.face(one), request, "user.fields") for one in dict.fromkeys(people)],
            "media": [
                {
                    name: value
                    for name, value in one.items()
                    if name in {"media_key", "type", *_listed(request, "media.fields")}
                }
                for one in media
            ],
            "tweets" if self.old_names else "posts": posts,
        }
        return {name: rows for name, rows in found.items() if rows}

    def _mentions(self, request: Request, user_id: str) -> Response:
        if not self.mentions_allowed or user_id != self.user_id:
            return problem(403, "Client Forbidden", "client-forbidden")
        refused = _unknown(request, {
            "post.fields": _POST, "expansions": _POST_EXPANSIONS, "user.fields": _USER, "media.fields": _MEDIA,
            "poll.fields": None, "place.fields": None,
        }, _PAGE | {"start_time", "end_time", "since_id", "until_id"})  # fmt: skip
        since = request.args.get("since_id", "0")
        if refused or not _ID.fullmatch(since):
            return refused or invalid("since_id")
        rows = [one for one in self.mentions if int(one.post_id) > int(since)]
        rows = [one for one in rows if iso(one.at) >= request.args.get("start_time", "")]
        rows.sort(key=lambda one: int(one.post_id), reverse=True)
        page, meta, wrong = _paged(request, rows, 100, least=5, event_id=lambda one: one.post_id)
        if wrong:
            return wrong
        if not page:
            return json_response({"meta": meta})
        fields = frozenset(_listed(request, "post.fields") | _listed(request, "expansions"))
        users = [_shown(self.face(one), request, "user.fields") for one in dict.fromkeys(post.author for post in page)]
        includes = {"includes": {"users": users}} if "author_id" in fields else {}
        ends = {"newest_id": page[0].post_id, "oldest_id": page[-1].post_id}
        return json_response(
            {"data": [self.post_of(one, fields) for one in page], **includes, "meta": {**meta, **ends}}
        )

    def _get_media(self, request: Request, dm_id: str, media_id: str, name: str) -> Response:
        del request
        found = next((one for one in self.events if one.event_id == dm_id and one.media), None)
        if found is None or found.media is None or found.media[0] != media_id or name != "file.jpg":
            return problem(404, "Not Found Error", "resource-not-found")
        return Response(found.media[1], content_type="application/octet-stream")

    # -- sending --

    def _send(self, request: Request, participant: str | None = None, conversation: str | None = None) -> Response:
        body = request.get_json(force=True, silent=True)
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(body, dict) or set(body) - {"text", "attachments"} or not isinstance(text, str) or not text:
            return invalid("text")
        where = conversation or self.pair(str(participant))
        if participant is not None and participant not in self.users:
            return problem(404, "Not Found Error", "resource-not-found")
        people = self.people_of(where)
        if self.user_id not in people or any(one not in self.users for one in people):
            return problem(403, "Forbidden", "not-authorized-for-resource")
        if any(not self.users[one].receives_dm for one in people):
            return problem(403, "Forbidden", detail="You cannot send messages to this user.")
        event_id = self._write(where, self.user_id, text, source_app_id="29820954")
        return json_response({"data": {"dm_conversation_id": where, "dm_event_id": event_id}}, 201)

    # -- webhooks and subscriptions --

    def _get_webhooks(self, request: Request) -> Response:
        refused = _unknown(request, {"webhook_config.fields": frozenset({"created_at", "id", "url", "valid"})})
        rows = list(self.webhooks.values())
        return refused or json_response({"data": rows, "meta": {"result_count": len(rows)}})

    def _post_webhook(self, request: Request) -> Response:
        body = request.get_json(force=True, silent=True)
        url = body.get("url") if isinstance(body, dict) else None
        if not isinstance(url, str) or not 1 <= len(url) <= 200:
            return invalid("url")
        local = url.startswith("http://127.0.0.1:")  # the one address that X would refuse
        if not local and not re.fullmatch(r"https://[^/:]+(/.*)?", url):
            return invalid("url", "UrlValidationFailed")
        if any(one["url"] == url for one in self.webhooks.values()):
            return invalid("url", "DuplicateUrlFailed")
        made = self.add_webhook(url)
        return invalid("url", "CrcValidationFailed") if made is None else json_response({"data": made})

    def _put_webhook(self, request: Request, webhook_id: str) -> Response:
        del request
        webhook = self.webhooks.get(webhook_id)
        if webhook is None:
            return invalid("webhook_id", "WebhookIdInvalid")
        webhook["valid"] = self.check_crc(webhook["url"])
        return json_response({"data": {"valid": webhook["valid"]}})

    def _delete_webhook(self, request: Request, webhook_id: str) -> Response:
        del request
        if self.webhooks.pop(webhook_id, None) is None:
            return invalid("webhook_id", "WebhookIdInvalid")
        return json_response({"data": {"deleted": True}})

    def _get_subscriptions(self, request: Request) -> Response:
        return _unknown(request, {}, _PAGE) or json_response({"data": list(self.subscriptions.values())})

    def _post_subscription(self, request: Request) -> Response:
        body = request.get_json(force=True, silent=True)
        if not isinstance(body, dict) or set(body) - {"event_type", "filter", "tag", "webhook_id"}:
            return invalid("body")
        chosen, webhook_id = body.get("filter"), body.get("webhook_id")
        if body.get("event_type") not in {*DM_TYPES, "chat.sent", "chat.conversation_join"}:
            return invalid("event_type")
        if not isinstance(chosen, dict) or chosen.get("user_id") != self.user_id:
            return invalid("filter")
        if webhook_id is not None and webhook_id not in self.webhooks:
            return invalid("webhook_id")
        made = self.subscribe(str(body["event_type"]), self.user_id, webhook_id, body.get("tag"))
        return json_response({"data": {"subscription": made}})

    def _delete_subscription(self, request: Request, subscription_id: str) -> Response:
        del request
        if self.subscriptions.pop(subscription_id, None) is None:
            return problem(404, "Not Found Error", "resource-not-found")
        return json_response({"data": {"deleted": True}})


def problem(status: int, title: str, name: str | None = None, *, detail: str | None = None) -> Response:
    """An error as X words it."""
    kind = f"{_PROBLEMS}{name}" if name else "about:blank"
    response = json_response({"title": title, "detail": detail or title, "type": kind, "status": status}, status)
    response.content_type = "application/problem+json"
    return response


def invalid(parameter: str, detail: str = "One or more parameters to your request was invalid.") -> Response:
    """A request that X refuses for a parameter."""
    told = {"title": "Invalid Request", "detail": detail, "type": f"{_PROBLEMS}invalid-request", "status": 400}
    response = json_response({**told, "parameter": parameter}, 400)
    response.content_type = "application/problem+json"
    return response


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" else None


def _listed(request: Request, name: str) -> set[str]:
    return set(filter(None, request.args.get(name, "").split(",")))


def _unknown(
    request: Request, lists: Mapping[str, frozenset[str] | set[str] | None], others: Iterable[str] = ()
) -> Response | None:
    """A refusal when a parameter, or a value in a list, is not in the document."""
    for name in request.args:
        if name in others:
            continue
        allowed = lists.get(name, frozenset())
        if name not in lists or (allowed is not None and not _listed(request, name) <= allowed):
            return invalid(name)
    return None


def _shown(whole: dict[str, Any], request: Request, parameter: str) -> dict[str, Any]:
    """Those fields of a user that are always there, and those asked for."""
    return {
        name: value for name, value in whole.items() if name in {"id", "name", "username", *_listed(request, parameter)}
    }


def _paged(
    request: Request, rows: list[Any], most: int, *, least: int = 1,
    event_id: Callable[[Any], str] = lambda one: one.event_id,
) -> tuple[list[Any], dict[str, Any], Response | None]:  # fmt: skip
    """A page of `rows` (newest first), what ``meta`` says of it, or the refusal."""
    size, token = request.args.get("max_results", str(most)), request.args.get("pagination_token")
    if not size.isdecimal() or not least <= int(size) <= most:
        return [], {}, invalid("max_results")
    if token is not None:
        last = _token_value(token)
        if last is None:
            return [], {}, invalid("pagination_token")
        rows = [one for one in rows if int(event_id(one)) < last]
    page = rows[: int(size)]
    meta: dict[str, Any] = {"result_count": len(page)}
    if len(rows) > len(page):
        meta["next_token"] = base64.b32hexencode(event_id(page[-1]).encode()).decode().rstrip("=").lower()
    return page, meta, None


def _token_value(token: str) -> int | None:
    if not _TOKEN.fullmatch(token):
        return None
    try:
        text = base64.b32hexdecode(token.upper() + "=" * (-len(token) % 8)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return int(text) if _ID.fullmatch(text) else None
