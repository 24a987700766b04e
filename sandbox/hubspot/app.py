"""The stand-in's HTTP side: authentication, limits, the account and its owners; each part brings its own routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import SandboxApp, json_response
from sandbox.hubspot.channels import Channels
from sandbox.hubspot.crm import Crm
from sandbox.hubspot.crm_endpoints import CrmEndpoints
from sandbox.hubspot.files import Files
from sandbox.hubspot.limits import Limits
from sandbox.hubspot.oauth import OAuthApp
from sandbox.hubspot.objects import COMMUNICATIONS, CONTACTS, NOTES, OBJECT_TYPES, ObjectType
from sandbox.hubspot.people import People
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.refusals import Refusal, not_found
from sandbox.hubspot.rules import RULES
from sandbox.hubspot.wire import Table, dated

DATED_VERSIONS = ("2026-03", "2026-09")
_MADE_AT = "2026-01-01T09:00:00.000Z"
OWNERS = (
    {"id": "70001", "email": "ada.agent@shop.example", "firstName": "Ada", "lastName": "Agent", "userId": 9001},
    {"id": "70002", "email": "ben.agent@shop.example", "firstName": "Ben", "lastName": "Agent", "userId": 9002},
)
_TOKEN_PATHS = frozenset(f"/oauth/{version}/token" for version in ("v1", "v3", *DATED_VERSIONS))
_SCOPES = (("/files/", "files"), ("/conversations/", "conversations.custom_channels.write"))
"""The beginning of a path -> a scope that it needs; only those that a token can be made to lack here."""


class HubSpotApp(People, SandboxApp):
    """One HubSpot account.

    Args:
        access_token: the Bearer token that is accepted.
        portal_id: the account's id.
        search_lag_seconds: how long a change stays invisible to search.
        daily_limit: requests per day (UTC).
        ten_second_limit: requests per ten seconds, search and associations v4 not counted.
        associations_limit: associations v4 requests per ten seconds.
        unique_communication_property: whether communications may have properties with unique values; HubSpot's pages
            do not say, so a client must cope with both.
        batch_results_reversed: answer batches in another order than they were asked.
        inbox_text_limit: longer texts of inbox messages are cut; HubSpot documents no limit.
        inbox_tells_own: post our own outgoing inbox messages to our address as well; the pages do not say.
        file_limit: larger files are refused.
        file_duplicates_by: what makes two files the same; the pages do not say.
        communication_files: whether communications can have files; the pages do not say.
        missing_scopes: those that the token lacks.
        oauth: the app whose tokens are accepted, too.
    """

    name = "hubspot"
    rules = RULES

    def __init__(
        self,
        *,
        access_token: str = "sandbox-token",  # noqa: S107  # a stand-in's token protects nothing
        portal_id: str = "8800001",
        search_lag_seconds: float = 2.0,
        daily_limit: int = 625_000,
        ten_second_limit: int = 190,
        associations_limit: int = 150,
        unique_communication_property: bool = True,
        batch_results_reversed: bool = False,
        inbox_text_limit: int = 10_000,
        inbox_tells_own: bool = True,
        file_limit: int = 20_000_000,
        file_duplicates_by: Literal["name", "content"] = "content",
        communication_files: bool = False,
        missing_scopes: Iterable[str] = (),
        oauth: OAuthApp | None = None,
    ) -> None:
        super().__init__()
        self.files = Files(self.clock.now, most_bytes=file_limit, duplicates_by=file_duplicates_by)
        self.oauth = oauth or OAuthApp()
        self.missing_scopes = frozenset(missing_scopes)
        self._access_token = access_token
        self._portal_id = portal_id
        self._limits = Limits(ten_second_limit, associations_limit, search_limit=5, daily_limit=daily_limit)
        self._properties = Properties(
            owner_ids=[owner["id"] for owner in OWNERS if isinstance(owner["id"], str)],
            unique_communication_property=unique_communication_property,
            communication_files=communication_files,
        )
        self.crm = Crm(self.clock, self._properties, portal_id=portal_id, search_lag_seconds=search_lag_seconds)
        self.channels = Channels(
            self.clock, self.files, self._has_contact, portal_id=portal_id, text_limit=inbox_text_limit,
            tells_own=inbox_tells_own,
        )  # fmt: skip
        self._calls: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._correlations = 0
        self.endpoints = CrmEndpoints(self.crm, self._properties, results_reversed=batch_results_reversed)
        parts = (self.endpoints, self.channels, self.files)
        for table in (self._own_table(), *(one.table() for one in parts), self.people_table()):
            self._add(table)

    def _own_table(self) -> Table:
        return [
            ("GET", "/account-info/v3/details", self._account),
            ("GET", "/crm/v3/owners", self._list_owners),
            ("GET", "/crm/v3/owners/<owner_id>", self._get_owner),
            ("POST", "/oauth/v1/token", self._token),
            ("POST", "/oauth/v3/token", self._token),
        ]

    def _add(self, table: Table) -> None:
        """Routes in all their spellings."""
        for method, path, handler in table:
            for spelling in dict.fromkeys([path, *(dated(path, version) for version in DATED_VERSIONS)]):
                endpoint = self._answering(method, path, handler)
                self._map.add(Route(spelling, endpoint=endpoint, methods=[method]))

    def state(self) -> dict[str, Any]:
        """Contacts, what is on timelines, the inbox, merged ids, own properties, counters of calls.

        ``communications`` holds notes, too, with their body under the same name: who counts messages on timelines need
        not know what each became. ``notes`` has them as HubSpot does.
        """
        state = self._state()
        for note_id, note in state["notes"].items():
            properties = {**note["properties"], "hs_communication_body": note["properties"].get("hs_note_body", "")}
            state["communications"][note_id] = {**note, "properties": properties}
            for contact_id in note["contacts"]:
                state["contacts"][contact_id]["communications"].append(note_id)
        return state

    def _state(self) -> dict[str, Any]:
        return {
            "contacts": self._state_of(CONTACTS, "communications"),
            "archived_contacts": [one.record_id for one in self.crm.records(CONTACTS, archived=True)],
            "merged": dict(self.crm.merged),
            "communications": self._state_of(COMMUNICATIONS, "contacts"),
            "notes": self._state_of(NOTES, "contacts"),
            "inbox": self.channels.state(),
            "files": self.files.state(),
            "archived_communications": [one.record_id for one in self.crm.records(COMMUNICATIONS, archived=True)],
            "blocked_emails": sorted(self.crm.blocked_emails),
            "properties": {
                kind.name: [one.as_json() for one in self._properties.all(kind) if one.custom] for kind in OBJECT_TYPES
            },
            "calls": dict(self._calls),
            "refused": dict(self._refused),
        }

    def refusal(self, error: HTTPException) -> Response:
        """A path or method that HubSpot does not have, in its words."""
        category = "OBJECT_NOT_FOUND" if error.code == 404 else "VALIDATION_ERROR"
        return self._refused_answer(Refusal(error.code or 500, category, error.name))

    def guard(self, request: Request) -> Response | None:
        """The token first, then its scopes, then the limits."""
        if request.path in _TOKEN_PATHS:
            return None
        try:
            self._check_token(request)
        except Refusal as refusal:
            return self._refused_answer(refusal)
        policy = self._limits.refuse(request.path, self.clock.now())
        if policy is None:
            return None
        self._refused["429"] += 1
        body = {
            "status": "error", "message": f"You have reached your {policy.lower()} limit.", "errorType": "RATE_LIMIT",
            "correlationId": self._correlation_id(), "policyName": policy, "requestId": self._correlation_id(),
        }  # fmt: skip
        return json_response(body, 429, self._limits.headers(request.path, self.clock.now()))

    def _has_contact(self, contact_id: str) -> bool:
        return self.crm.live(CONTACTS, contact_id) is not None

    def _token(self, request: Request) -> Response:
        return self.oauth.answer(request, self.clock, self._portal_id)

    def _check_token(self, request: Request) -> None:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or (given != self._access_token and not self.oauth.check(given, self.clock)):
            message = "Authentication credentials not found. This API supports OAuth 2.0 authentication."
            raise Refusal(401, "INVALID_AUTHENTICATION", message)
        for beginning, scope in _SCOPES:
            if request.path.startswith(beginning) and scope in self.missing_scopes:
                context = {"requiredGranularScopes": [scope]}
                detail = {"message": "One or more of the following scopes are required.", "context": context}
                message = "This app hasn't been granted all required scopes to make this call."
                raise Refusal(403, "MISSING_SCOPES", message, errors=[detail])

    # -- account and owners

    def _account(self, request: Request) -> Response:
        del request
        account = {
            "portalId": int(self._portal_id), "accountType": "DEVELOPER_TEST", "timeZone": "UTC",
            "companyCurrency": "EUR", "additionalCurrencies": [], "utcOffset": "+00:00", "utcOffsetMilliseconds": 0,
            "uiDomain": "app.hubspot.com", "dataHostingLocation": "eu1",
        }  # fmt: skip
        return json_response(account)

    def _list_owners(self, request: Request) -> Response:
        email = request.args.get("email")
        return json_response({"results": [_owner(one) for one in OWNERS if email in {None, one["email"]}]})

    def _get_owner(self, request: Request, owner_id: str) -> Response:
        key = "userId" if request.args.get("idProperty") == "userId" else "id"
        found = [one for one in OWNERS if str(one[key]) == owner_id]
        if not found:
            raise not_found()
        return json_response(_owner(found[0]))

    # -- shared by the handlers

    def _answering(self, method: str, path: str, handler: Callable[..., Response]) -> Callable[..., Response]:
        """`handler` with refusals turned into answers, calls counted and rate headers added."""

        def answer(request: Request, **arguments: Any) -> Response:
            if path.startswith("/_sandbox/"):
                try:
                    return handler(request, **arguments)
                except Refusal as refusal:
                    return self._refused_answer(refusal)
            told = {f"<{name}>": arguments[name] for name in ("object_type_name", "verb") if name in arguments}
            called = path
            for placeholder, value in told.items():
                called = called.replace(placeholder, value)
            self._calls[f"{method} {called}"] += 1
            try:
                response = handler(request, **arguments)
            except Refusal as refusal:
                response = self._refused_answer(refusal)
            response.headers.update(self._limits.headers(request.path, self.clock.now()))
            return response

        return answer

    def _refused_answer(self, refusal: Refusal) -> Response:
        self._refused[str(refusal.code)] += 1
        return json_response(refusal.body(self._correlation_id()), refusal.code or 500)

    def _correlation_id(self) -> str:
        self._correlations += 1
        return f"00000000-0000-4000-8000-{self._correlations:012d}"

    def _state_of(self, kind: ObjectType, other: str) -> dict[str, Any]:
        return {
            one.record_id: {"properties": one.present(), other: self.crm.linked(kind, one.record_id)}
            for one in self.crm.records(kind)
        }


def _owner(owner: dict[str, Any]) -> dict[str, Any]:
    return {**owner, "type": "PERSON", "archived": False, "createdAt": _MADE_AT, "updatedAt": _MADE_AT, "teams": []}
