"""The web page: who waits for an answer, one person's thread over all channels, what was joined and why.

Server-rendered (Jinja2), no build step; htmx only makes the search feel quick, and all works without it. It shows what
customers wrote, so it listens on loopback and refuses requests for another host name (a page elsewhere must not read it
through the visitor's browser). It only shows, except that who is who can be decided on the review page: such a request
must come from that page itself, by its origin and by a token that no other page can read.
"""

from __future__ import annotations

import getpass
import hmac
import logging
import mimetypes
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from console.review_page import ReviewPage
from identity.rules import Rules, load_rules
from mappings.crm_words import channel_name
from mappings.errors import OneThreadError
from mappings.platforms import load_platforms
from mappings.records import ArchivedMessage, Conversation, Person, PersonChange
from stores.archive import Archive
from stores.database import Stores
from stores.graph import Graph
from stores.items import Items
from stores.media import Media
from stores.outbox import Outbox
from stores.parked import Parked

logger = logging.getLogger(__name__)

_PAGE = 60
_MOST_BYTES = 16_384
"""Of a form; it holds an action, a handle and the token."""
_THREAD = 400
_STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HANDLE_NAMES = {
    "email": "E-mail", "phone": "Phone", "whatsapp_user": "WhatsApp id", "messenger_psid": "Messenger id",
    "hubspot_contact": "HubSpot contact",
    "salesforce_contact": "Salesforce contact",
    "tryton_contact": "Tryton party", "login": "Login", "instagram_igsid": "Instagram id", "x_user": "X id",
    "line_user": "LINE id", "viber_user": "Viber id", "wechat_openid": "WeChat id", "wechat_unionid": "WeChat union id",
    "wecom_external_user": "WeCom id", "apple_opaque": "Apple Messages id", "slack_user": "Slack id",
    "telegram_user": "Telegram id", "chatwoot_contact": "Web chat id",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Day:
    """The messages of one day, in time order."""

    date: str
    messages: list[ArchivedMessage]


class ConsoleApp:
    """The WSGI application.

    Args:
        hosts: host names under which the page may be asked for.
        now: the clock, aware UTC.
        rules: of who is who, the same as map-identity's.
        actor: who decides on the review page; by default whoever runs the console.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        hosts: Iterable[str] = (),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rules: Rules | None = None,
        actor: str | None = None,
    ) -> None:
        self._stores = stores
        self._review = ReviewPage(stores, rules or load_rules(), actor or "console")
        self._token = secrets.token_hex(32)
        self._hosts = {"localhost", "127.0.0.1", "[::1]", *hosts}
        self._now = now
        self._templates = Environment(
            loader=PackageLoader("console"), autoescape=select_autoescape(), undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        platforms = load_platforms()
        self._templates.globals["channel_name"] = lambda slug: (
            platforms[slug].name if slug in platforms else channel_name(slug)
        )
        self._templates.globals["handle_name"] = lambda kind: HANDLE_NAMES.get(kind, kind)
        self._templates.filters |= {
            "ago": self._ago, "left": self._left, "clock": _clock, "moment": _moment, "initials": _initials,
            "message_text": _message_text, "size": _size, "is_picture": _PICTURES.__contains__,
        }  # fmt: skip
        self._map = Map([
            Rule("/", endpoint=self._waiting),
            Rule("/people", endpoint=self._people),
            Rule("/person/<person_id>", endpoint=self._person),
            Rule("/stuck", endpoint=self._stuck),
            Rule("/review", endpoint=self._review_item, methods=["GET"]),
            Rule("/review/<item_id>", endpoint=self._review_item, methods=["GET"]),
            Rule("/review/<item_id>", endpoint=self._decide, methods=["POST"]),
            Rule("/review/undo/<int:number>", endpoint=self._undo, methods=["POST"]),
            Rule("/static/<name>", endpoint=self._static),
            Rule("/media/<media_key>", endpoint=self._media),
        ])  # fmt: skip

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """The WSGI entry."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = Response(f"{error.code} {error.name}\n", status=error.code, content_type="text/plain")
        except OneThreadError as error:
            response = Response(f"{error}\n", status=409, content_type="text/plain; charset=utf-8")
        except Exception:
            logger.exception("the page %s could not be made", request.path.partition("/person/")[1] or request.path)
            response = Response("This page could not be made; the log says why.\n", 500, content_type="text/plain")
        for name, value in _HEADERS.items():
            if name == "Content-Security-Policy" or name not in response.headers:
                response.headers.add(name, value)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if request.host.rpartition(":")[0] not in self._hosts and request.host not in self._hosts:
            return Response("Unknown host name.\n", 421, content_type="text/plain")
        if request.method not in {"GET", "HEAD"}:
            if request.method != "POST" or not request.path.startswith("/review/"):
                return Response("This page only shows.\n", 405, content_type="text/plain")
            self._check_sender(request)
        endpoint, arguments = self._map.bind_to_environ(request.environ).match()
        return endpoint(request, **arguments)  # type: ignore[no-any-return]

    def _check_sender(self, request: Request) -> None:
        """A decision comes from our own page: the browser says so (Origin), and only our page knows the token."""
        request.max_content_length = _MOST_BYTES
        origin = urlsplit(request.headers.get("Origin", ""))
        ours = origin.scheme in {"http", "https"} and origin.netloc == request.host
        elsewhere = request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        if (
            not ours
            or elsewhere
            or not hmac.compare_digest(request.form.get("token", "").encode(), self._token.encode())
        ):
            raise Forbidden

    def _listed(self, archive: Archive, search: str = "", offset: int = 0) -> dict[str, Any]:
        """A page of people, and where the next one begins."""
        people = archive.people(search or None, unanswered_first=True, limit=_PAGE + 1, offset=offset)
        more = offset + _PAGE if len(people) > _PAGE else None
        return {"people": people[:_PAGE], "search": search, "more": more}

    def _waiting(self, request: Request) -> Response:
        del request
        archive = Archive(self._stores)
        return self._page("waiting.html", chosen=None, **self._listed(archive), **self._figures(archive))

    def _people(self, request: Request) -> Response:
        archive = Archive(self._stores)
        search = request.args.get("q", "").strip()[:200]
        offset = min(max(0, request.args.get("from", 0, type=int)), 1_000_000)
        listed = self._listed(archive, search, offset)
        if request.headers.get("HX-Target") == "people":
            return self._page("people.html", chosen=None, **listed)
        return self._page("waiting.html", chosen=None, **listed, **self._figures(archive))

    def _person(self, request: Request, person_id: str) -> Response:
        archive, graph = Archive(self._stores), Graph(self._stores)
        current = graph.current(person_id)
        if current != person_id:
            return Response("", 302, {"Location": f"/person/{current}"})
        person = archive.person(person_id)
        if person is None:
            raise NotFound
        search = request.args.get("q", "").strip()[:200]
        messages = archive.thread(person_id, _THREAD)
        known = {one.message_key: one for one in messages}
        return self._page(
            "person.html",
            person=person,
            chosen=person_id,
            **self._listed(archive, search),
            days=_by_day(messages),
            known=known,
            conversations=archive.conversations_of(person_id),
            consents=self._consents(archive, person, archive.conversations_of(person_id)),
            evidence=[one for one in graph.why(person_id) if len(one["handles"]) > 1],
            changes=_changes_of(graph, person_id),
            **self._figures(archive),
        )

    def _stuck(self, request: Request) -> Response:
        del request
        archive = Archive(self._stores)
        replies = Outbox(self._stores).listing(("unknown", "refused", "failed", "queued"))
        parked = Parked(self._stores).list()
        missed = Items(self._stores).missed()
        return self._page("stuck.html", replies=replies, parked=parked, missed=missed, **self._figures(archive))

    def _review_item(self, request: Request, item_id: str | None = None, problem: str | None = None) -> Response:
        del request
        found = self._review.look(item_id)
        if item_id is not None and problem is None and found["item"] is None:
            return Response("", 303, {"Location": "/review"})  # decided meanwhile, here or elsewhere
        response = self._page(
            "review.html", token=self._token, problem=problem, **found, **self._figures(Archive(self._stores))
        )
        # With no-referrer a browser says `Origin: null` even to ourselves; others learn nothing from this either.
        response.headers["Referrer-Policy"] = "same-origin"
        response.status_code = 409 if problem else 200
        return response

    def _decide(self, request: Request, item_id: str) -> Response:
        try:
            following = self._review.decide(item_id, request.form.get("action", ""), request.form.get("handle"))
        except OneThreadError as error:
            return self._review_item(request, item_id, str(error))
        return Response("", 303, {"Location": f"/review/{following}" if following else "/review"})

    def _undo(self, request: Request, number: int) -> Response:
        try:
            self._review.undo(number)
        except OneThreadError as error:
            return self._review_item(request, None, str(error))
        return Response("", 303, {"Location": "/review"})

    def _static(self, request: Request, name: str) -> Response:
        del request
        path = _STATIC / Path(name).name
        if path.suffix not in _TYPES or not path.is_file():
            raise NotFound
        return Response(path.read_bytes(), content_type=_TYPES[path.suffix])

    def _media(self, request: Request, media_key: str) -> Response:
        """A file that somebody sent: shown when it is a picture, else only to be saved, and nothing in it may run."""
        del request
        media = Media(self._stores)
        facts = media.facts(media_key)
        if facts is None:
            raise NotFound
        response = Response(media.open(media_key), content_type=facts.mime_type)
        response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
        if facts.mime_type not in _PICTURES:
            name = f"{media_key}{mimetypes.guess_extension(facts.mime_type) or ''}"
            response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    def _page(self, template: str, **values: Any) -> Response:
        text = self._templates.get_template(template).render(**values)
        return Response(text, content_type="text/html; charset=utf-8")

    def _figures(self, archive: Archive) -> dict[str, Any]:
        """What the header shows on every page."""
        waiting = [one for one in archive.people(unanswered_first=True, limit=1_000) if one.unanswered_since]
        counts = Outbox(self._stores).counts()
        return {
            "waiting_count": len(waiting),
            "longest": waiting[0].unanswered_since if waiting else None,
            "stuck_count": Parked(self._stores).count() + counts.get("unknown", 0) + counts.get("failed", 0),
        }

    @staticmethod
    def _consents(archive: Archive, person: Person, conversations: list[Conversation]) -> list[Any]:
        found = []
        for conversation in conversations:
            for handle in person.handles:
                for purpose in ("service", "promotional"):
                    one = archive.consent(handle.key, conversation.channel, conversation.account, purpose)
                    if one is not None and one not in found:
                        found.append(one)
        return found

    def _ago(self, moment: datetime | None) -> str:
        """How long ago, in the largest fitting unit."""
        return _span(self._now() - moment) if moment else ""

    def _left(self, moment: datetime | None) -> str:
        """How long until, or that it is over."""
        if moment is None:
            return ""
        left = moment - self._now()
        return f"{_span(left)} left" if left > timedelta(0) else "closed"


def _span(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 86400} days"


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M")


def _moment(moment: datetime | str | None) -> str:
    if moment is None:
        return ""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _initials(name: str | None) -> str:
    words = (name or "?").split()
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper()


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1024:.0f} kB" if size_bytes >= 1024 else f"{size_bytes} B"


def _message_text(message: ArchivedMessage) -> str:
    """What to show for a message: its text, or in words what it is."""
    if message.unsent_at:
        return ""
    if message.text_stripped or message.text:
        return (message.text_stripped or message.text or "").strip()
    content = message.content or {}
    if message.kind == "location":
        return " ".join(
            str(content[name]) for name in ("name", "address", "latitude", "longitude") if content.get(name)
        )
    return ""


def _by_day(messages: list[ArchivedMessage]) -> list[Day]:
    days: list[Day] = []
    for message in messages:
        date = message.sent_at.strftime("%A, %-d %B %Y")
        if not days or days[-1].date != date:
            days.append(Day(date, []))
        days[-1].messages.append(message)
    return days


def _changes_of(graph: Graph, person_id: str) -> list[PersonChange]:
    """The merges and splits that concern a person, newest first."""
    found: list[PersonChange] = []
    after = 0
    while page := graph.changes_since(after, 1_000):
        found += [one for one in page if one.into_person_id == person_id or person_id in one.from_person_ids]
        after = page[-1].sequence
    return found[::-1]


def serve_console(stores: Stores, *, host: str, port: int) -> None:
    """Serve the page until stopped."""
    from waitress.server import create_server

    rules = load_rules(os.environ.get("ONETHREAD_IDENTITY_RULES_FILE") or None)
    app = ConsoleApp(stores, hosts=[host], rules=rules, actor=os.environ.get("USER") or getpass.getuser())
    server = create_server(app, host=host, port=port, threads=1, ident=None)
    logger.warning("console: http://%s:%s/", host, server.effective_port)
    server.run()
