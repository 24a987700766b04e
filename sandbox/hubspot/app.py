"""The stand-in's HTTP side: routes, authentication, limits, and the people who work in the CRM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import SandboxApp, json_response
from sandbox.hubspot.associations import CREATE_LIMIT, READ_LIMIT, Associations, paging
from sandbox.hubspot.batches import Batches, Outcome, inputs_of, names, shown
from sandbox.hubspot.channels import Channels
from sandbox.hubspot.crm import Crm, association_type_id
from sandbox.hubspot.files import Files
from sandbox.hubspot.limits import Limits
from sandbox.hubspot.oauth import OAuthApp
from sandbox.hubspot.objects import (
    ACTIVITY_TYPE_IDS,
    API,
    COMMUNICATIONS,
    CONTACTS,
    NOTES,
    OBJECT_TYPES,
    ObjectType,
    Record,
    Source,
    iso,
    object_type,
)
from sandbox.hubspot.properties import Properties
from sandbox.hubspot.refusals import Refusal, invalid, not_found
from sandbox.hubspot.rules import RULES
from sandbox.hubspot.search import search

LIST_LIMIT = 100
DATED_VERSIONS = ("2026-03", "2026-09")
_MADE_AT = "2026-01-01T09:00:00.000Z"
OWNERS = (
    {"id": "70001", "email": "ada.agent@shop.example", "firstName": "Ada", "lastName": "Agent", "userId": 9001},
    {"id": "70002", "email": "ben.agent@shop.example", "firstName": "Ben", "lastName": "Agent", "userId": 9002},
)
_PERSON_MAY_SET = ("hs_additional_emails",)
_TOKEN_PATHS = frozenset(f"/oauth/{version}/token" for version in ("v1", "v3", *DATED_VERSIONS))
_SCOPES = (("/files/", "files"), ("/conversations/", "conversations.custom_channels.write"))
"""The beginning of a path -> a scope that it needs; only those that a token can be made to lack here."""


class HubSpotApp(SandboxApp):
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
        self.files = Files(self._now, most_bytes=file_limit, duplicates_by=file_duplicates_by)
        super().__init__()
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
        self._batches = Batches(self.crm)
        self._associations = Associations(self.crm)
        self.channels = Channels(
            self.clock, self.files, portal_id=portal_id, text_limit=inbox_text_limit, tells_own=inbox_tells_own
        )
        self._reversed = batch_results_reversed
        self._calls: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._correlations = 0

    def routes(self) -> Iterable[Route]:
        """HubSpot's routes, and those of the people who use its pages."""
        objects = "/crm/v3/objects/<object_type_name>"
        properties = "/crm/v3/properties/<object_type_name>"
        associations = "/crm/v4/associations/<from_type>/<to_type>/batch"
        linked = "/crm/v4/objects/<from_type>/<from_id>/associations"
        channels = "/conversations/v3/custom-channels"
        files, person = "/files/v3/files", "/_sandbox/contacts"
        table: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/account-info/v3/details", self._account),
            ("GET", "/crm/v3/owners", self._list_owners),
            ("GET", "/crm/v3/owners/<owner_id>", self._get_owner),
            ("GET", properties, self._list_properties),
            ("POST", properties, self._create_property),
            ("POST", f"{properties}/batch/create", self._create_properties),
            ("GET", f"{properties}/groups", self._list_groups),
            ("POST", f"{properties}/groups", self._create_group),
            ("GET", f"{properties}/<name>", self._get_property),
            ("PATCH", f"{properties}/<name>", self._update_property),
            ("DELETE", f"{properties}/<name>", self._remove_property),
            ("POST", "/crm/v3/objects/contacts/merge", self._merge),
            ("POST", "/crm/v3/objects/contacts/gdpr-delete", self._purge),
            ("GET", objects, self._list_objects),
            ("POST", objects, self._create_object),
            ("POST", f"{objects}/search", self._search),
            ("POST", f"{objects}/batch/<verb>", self._batch),
            ("GET", f"{objects}/<record_id>", self._get_object),
            ("PATCH", f"{objects}/<record_id>", self._update_object),
            ("DELETE", f"{objects}/<record_id>", self._archive_object),
            ("POST", f"{associations}/create", self._create_associations),
            ("POST", f"{associations}/associate/default", self._create_default_associations),
            ("POST", f"{associations}/archive", self._archive_associations),
            ("POST", f"{associations}/read", self._read_associations),
            ("GET", f"{linked}/<to_type>", self._list_associations),
            ("PUT", f"{linked}/default/<to_type>/<to_id>", self._associate_default),
            ("DELETE", f"{linked}/<to_type>/<to_id>", self._dissociate),
            ("POST", "/conversations/custom-channels/v3", self._register_channel),
            ("GET", channels, self._list_channels),
            ("GET", f"{channels}/<channel_id>", self._get_channel),
            ("PATCH", f"{channels}/<channel_id>", self._change_channel),
            ("GET", f"{channels}/<channel_id>/channel-accounts", self._list_channel_accounts),
            ("POST", f"{channels}/<channel_id>/channel-accounts", self._add_channel_account),
            ("POST", f"{channels}/<channel_id>/messages", self._publish),
            ("GET", f"{channels}/<channel_id>/messages/<message_id>", self._get_message),
            ("PATCH", f"{channels}/<channel_id>/messages/<message_id>", self._set_message_status),
            ("DELETE", "/conversations/v3/conversations/threads/<thread_id>", self._archive_thread),
            ("POST", "/oauth/v1/token", self._token),
            ("POST", "/oauth/v3/token", self._token),
            ("POST", files, self.files.answer_upload),
            ("GET", f"{files}/search", self.files.answer_list),
            ("GET", f"{files}/<file_id>", self.files.answer_get),
            ("DELETE", f"{files}/<file_id>/gdpr-delete", self.files.answer_delete),
            ("GET", f"{files}/<file_id>/signed-url", self.files.answer_link),
            ("GET", "/_sandbox/files/<file_id>", self.files.answer_bytes),
            ("POST", person, self._person_creates),
            ("POST", f"{person}/merge", self._person_merges),
            ("POST", f"{person}/<record_id>/restore", self._person_restores),
            ("POST", f"{person}/<record_id>/activities", self._person_logs),
            ("PATCH", f"{person}/<record_id>", self._person_edits),
            ("DELETE", f"{person}/<record_id>", self._person_deletes),
        ]
        return [
            Route(spelling, endpoint=self._answering(m, path, h), methods=[m])
            for m, path, h in table
            for spelling in dict.fromkeys([path, *(_dated(path, version) for version in DATED_VERSIONS)])
        ]

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

    def _now(self) -> datetime:
        return self.clock.now()

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

    # -- what people do in HubSpot's own pages; also as routes under /_sandbox/contacts

    def create_contact_as_person(self, properties: dict[str, str], *, user_id: int = 9001) -> str:
        """A person adds a contact; returns its id."""
        with self.lock:
            return self.crm.create(CONTACTS, properties, _person(user_id), may_set=_PERSON_MAY_SET).record_id

    def edit_contact_as_agent(self, contact_id: str, properties: dict[str, str], *, user_id: int = 9001) -> None:
        """An agent saves properties of a contact; all get one timestamp, and a history entry if they changed."""
        with self.lock:
            record = self.crm.current(CONTACTS, contact_id)
            if record is None:
                raise not_found()
            self.crm.update(record, properties, _person(user_id), may_set=_PERSON_MAY_SET)

    def merge_contacts_as_admin(self, primary_id: str, other_id: str) -> str:
        """An admin merges two contacts; returns the survivor's new id."""
        with self.lock:
            return self.crm.merge(primary_id, other_id).record_id

    def delete_contact_as_admin(self, contact_id: str) -> None:
        """An admin deletes a contact."""
        with self.lock:
            self.crm.archive(CONTACTS, contact_id)

    def restore_contact_as_admin(self, contact_id: str) -> None:
        """An admin brings a deleted contact back; its messages do not come with it."""
        with self.lock:
            record = self.crm.archived(CONTACTS, contact_id)
            if record is None:
                raise not_found()
            self.crm.restore(record)

    def log_activity_as_agent(self, contact_id: str, activity_type: str = "notes") -> str:
        """An agent writes a note (or logs an e-mail, call, meeting, task) on a contact; returns its id."""
        with self.lock:
            return self.crm.add_activity(contact_id, activity_type)

    def _person_creates(self, request: Request) -> Response:
        body = _body(request)
        contact_id = self.create_contact_as_person(body.get("properties") or {}, user_id=body.get("user_id", 9001))
        return json_response({"id": contact_id}, 201)

    def _person_edits(self, request: Request, record_id: str) -> Response:
        body = _body(request)
        self.edit_contact_as_agent(record_id, body.get("properties") or {}, user_id=body.get("user_id", 9001))
        return json_response({})

    def _person_merges(self, request: Request) -> Response:
        body = _body(request)
        return json_response({"id": self.merge_contacts_as_admin(str(body.get("primary")), str(body.get("other")))})

    def _person_deletes(self, request: Request, record_id: str) -> Response:
        del request
        self.delete_contact_as_admin(record_id)
        return json_response({})

    def _person_restores(self, request: Request, record_id: str) -> Response:
        del request
        self.restore_contact_as_admin(record_id)
        return json_response({})

    def _person_logs(self, request: Request, record_id: str) -> Response:
        activity_id = self.log_activity_as_agent(record_id, str(_body(request).get("type", "notes")))
        return json_response({"id": activity_id}, 201)

    # -- account, owners, properties

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

    def _list_properties(self, request: Request, object_type_name: str) -> Response:
        del request
        return json_response(
            {"results": [one.as_json() for one in self._properties.all(object_type(object_type_name))]}
        )

    def _get_property(self, request: Request, object_type_name: str, name: str) -> Response:
        del request
        return json_response(self._properties.get(object_type(object_type_name), name).as_json())

    def _create_property(self, request: Request, object_type_name: str) -> Response:
        created = self._properties.create(object_type(object_type_name), _body(request), self.crm.now())
        return json_response(created.as_json(), 201)

    def _create_properties(self, request: Request, object_type_name: str) -> Response:
        inputs = inputs_of(_body(request), needs=())
        created = self._properties.create_all(object_type(object_type_name), inputs, self.crm.now())  # type: ignore[arg-type]
        return self._batch_answer(Outcome([one.as_json() for one in created]), 201)

    def _update_property(self, request: Request, object_type_name: str, name: str) -> Response:
        return json_response(self._properties.update(object_type(object_type_name), name, _body(request)).as_json())

    def _remove_property(self, request: Request, object_type_name: str, name: str) -> Response:
        del request
        self._properties.remove(object_type(object_type_name), name)
        return Response(status=204)

    def _list_groups(self, request: Request, object_type_name: str) -> Response:
        del request
        return json_response({"results": self._properties.groups(object_type(object_type_name))})

    def _create_group(self, request: Request, object_type_name: str) -> Response:
        return json_response(self._properties.create_group(object_type(object_type_name), _body(request)), 201)

    # -- objects

    def _list_objects(self, request: Request, object_type_name: str) -> Response:
        kind = object_type(object_type_name)
        history = names(request.args.get("propertiesWithHistory"))
        limit, after = _number(request, "limit", 10), _number(request, "after", 0)
        most = LIST_LIMIT // 2 if history else LIST_LIMIT
        if not 1 <= limit <= most:
            raise invalid(f"limit must be between 1 and {most}")
        records = self.crm.records(kind, archived=_archived(request))
        rest = [one for one in records if int(one.record_id) > after]
        body: dict[str, Any] = {"results": [self._shown(request, one) for one in rest[:limit]]}
        if len(rest) > limit:
            body["paging"] = paging(rest[limit - 1].record_id)
        return json_response(body)

    def _create_object(self, request: Request, object_type_name: str) -> Response:
        one = _body(request)
        inputs_of({"inputs": [one]}, needs=("properties",))
        return json_response(self._batches.created(object_type(object_type_name), one), 201)

    def _get_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        kind = object_type(object_type_name)
        find = self.crm.archived if _archived(request) else self._finder(request)
        record = find(kind, record_id)
        if record is None:
            raise not_found()
        return json_response(self._shown(request, record))

    def _update_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        one = _body(request)
        inputs_of({"inputs": [one]}, needs=("properties",))
        record = self._finder(request)(object_type(object_type_name), record_id)
        if record is None:
            raise not_found()
        return json_response(shown(self.crm.update(record, one["properties"], API), one["properties"], one))

    def _archive_object(self, request: Request, object_type_name: str, record_id: str) -> Response:
        del request
        self.crm.archive(object_type(object_type_name), record_id)
        return Response(status=204)

    def _batch(self, request: Request, object_type_name: str, verb: str) -> Response:
        kind, body = object_type(object_type_name), _body(request)
        if verb == "create":
            return self._batch_answer(self._batches.create(kind, inputs_of(body, needs=("properties",))), 201)
        if verb == "update":
            return self._batch_answer(self._batches.update(kind, inputs_of(body, needs=("id", "properties"))))
        if verb == "upsert":
            return self._batch_answer(self._batches.upsert(kind, inputs_of(body, needs=("id", "properties"))))
        inputs = inputs_of(body, needs=("id",))
        if verb == "read":
            archived = _archived(request)
            return self._batch_answer(self._batches.read(kind, body, inputs, archived=archived))
        if verb == "archive":
            self._batches.archive(kind, inputs)
            return Response(status=204)
        raise not_found()

    def _search(self, request: Request, object_type_name: str) -> Response:
        kind, body = object_type(object_type_name), _body(request)
        page = search(kind, self._properties, self.crm.indexed(kind), body)
        wanted = self._batches.known(kind, names(body.get("properties"))) or list(kind.default_properties)
        always = ["hs_object_id", kind.created_property, kind.modified_property]
        answer: dict[str, Any] = {
            "total": page.total,
            "results": [one.as_json([*wanted, *always]) for one in page.records],
        }
        if page.next_after is not None:
            answer["paging"] = paging(str(page.next_after))
        return json_response(answer)

    def _merge(self, request: Request) -> Response:
        body = _body(request)
        survivor = self.crm.merge(str(body.get("primaryObjectId")), str(body.get("objectIdToMerge")))
        return json_response(survivor.as_json([*CONTACTS.default_properties, "hs_merged_object_ids"]))

    def _purge(self, request: Request) -> Response:
        body = _body(request)
        key = str(body.get("objectId") or "")
        by_email = body.get("idProperty") == "email"
        record = self.crm.holder(CONTACTS, "email", key) if by_email else self.crm.current(CONTACTS, key)
        if record is not None:
            self.crm.purge(record)
        elif by_email:
            self.crm.blocked_emails.add(key.lower())
        else:
            raise not_found()
        return Response(status=204)

    # -- associations v4

    def _create_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(_body(request), limit=CREATE_LIMIT, needs=("from", "to", "types"))
        return self._batch_answer(self._associations.create(kind, other, inputs), 201)

    def _create_default_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(_body(request), limit=CREATE_LIMIT, needs=("from", "to"))
        return self._batch_answer(self._associations.create_default(kind, other, inputs), error_status=200)

    def _archive_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        inputs = inputs_of(_body(request), limit=CREATE_LIMIT, needs=("from", "to"))
        self._associations.archive(object_type(from_type), object_type(to_type), inputs)
        return Response(status=204)

    def _read_associations(self, request: Request, from_type: str, to_type: str) -> Response:
        kind, other = object_type(from_type), object_type(to_type)
        inputs = inputs_of(_body(request), limit=READ_LIMIT, needs=("id",))
        return self._batch_answer(self._associations.read(kind, other, inputs))

    def _list_associations(self, request: Request, from_type: str, from_id: str, to_type: str) -> Response:
        kind = object_type(from_type)
        record = self.crm.current(kind, from_id)
        if record is None:
            raise not_found()
        after, limit = request.args.get("after", ""), _number(request, "limit", 500)
        if kind is CONTACTS and to_type in ACTIVITY_TYPE_IDS:
            return json_response(self._associations.activities(record.record_id, to_type, after, limit))
        return json_response(self._associations.page(kind, object_type(to_type), record.record_id, after, limit))

    def _associate_default(self, request: Request, from_type: str, from_id: str, to_type: str, to_id: str) -> Response:
        del request
        pair = {"from": {"id": from_id}, "to": {"id": to_id}}
        outcome = self._associations.create_default(object_type(from_type), object_type(to_type), [pair])
        return self._batch_answer(outcome, error_status=200)

    def _dissociate(self, request: Request, from_type: str, from_id: str, to_type: str, to_id: str) -> Response:
        del request
        pair = {"from": {"id": from_id}, "to": {"id": to_id}}
        self._associations.archive(object_type(from_type), object_type(to_type), [pair])
        return Response(status=204)

    # -- custom channels of the inbox

    def _register_channel(self, request: Request) -> Response:
        if request.path.endswith("/v3") and not (request.args.get("hapikey") and request.args.get("appId")):
            raise invalid("hapikey and appId are required")
        return json_response(self.channels.register(_body(request)), 201)

    def _list_channels(self, request: Request) -> Response:
        return _listed(request, self.channels.channels.values())

    def _get_channel(self, request: Request, channel_id: str) -> Response:
        del request
        return json_response(self.channels.channel(channel_id))

    def _change_channel(self, request: Request, channel_id: str) -> Response:
        return json_response(self.channels.change(channel_id, _body(request)))

    def _list_channel_accounts(self, request: Request, channel_id: str) -> Response:
        self.channels.channel(channel_id)
        return _listed(request, [one for one in self.channels.accounts.values() if one["channelId"] == channel_id])

    def _add_channel_account(self, request: Request, channel_id: str) -> Response:
        return json_response(self.channels.add_account(channel_id, _body(request)), 201)

    def _publish(self, request: Request, channel_id: str) -> Response:
        def live(contact_id: str) -> Record | None:
            return self.crm.live(CONTACTS, contact_id)

        return json_response(self.channels.publish(channel_id, _body(request), live), 201)

    def _get_message(self, request: Request, channel_id: str, message_id: str) -> Response:
        del request
        return json_response(self.channels.message(channel_id, message_id))

    def _set_message_status(self, request: Request, channel_id: str, message_id: str) -> Response:
        return json_response(self.channels.set_status(channel_id, message_id, _body(request)))

    def _archive_thread(self, request: Request, thread_id: str) -> Response:
        del request
        self.channels.archive_thread(thread_id)
        return Response(status=204)

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

    def _batch_answer(self, outcome: Outcome, status: int = 200, *, error_status: int = 207) -> Response:
        now = iso(self.crm.now())
        results = outcome.results[::-1] if self._reversed else outcome.results
        body: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": now, "completedAt": now}
        if not outcome.errors:
            return json_response(body, status)
        return json_response({**body, "numErrors": len(outcome.errors), "errors": outcome.errors}, error_status)

    def _correlation_id(self) -> str:
        self._correlations += 1
        return f"00000000-0000-4000-8000-{self._correlations:012d}"

    def _finder(self, request: Request) -> Callable[[ObjectType, str], Record | None]:
        """How the request names a record: by a unique property, or by id."""
        id_property = request.args.get("idProperty")
        return (lambda kind, key: self.crm.holder(kind, id_property, key)) if id_property else self.crm.current

    def _shown(self, request: Request, record: Record) -> dict[str, Any]:
        kind = record.kind
        wanted = self._batches.known(kind, names(request.args.get("properties"))) or list(kind.default_properties)
        history = self._batches.known(kind, names(request.args.get("propertiesWithHistory")))
        always = ["hs_object_id", kind.created_property, kind.modified_property]
        body = record.as_json([*wanted, *always], history)
        for text in names(request.args.get("associations")):
            other = object_type(text)
            association_type_id(kind, other)
            linked = self.crm.linked(kind, record.record_id)
            label = f"{kind.singular}_to_{other.singular}"
            if linked:
                results = [{"id": one, "type": label} for one in linked]
                body.setdefault("associations", {})[other.name] = {"results": results}
        return body

    def _state_of(self, kind: ObjectType, other: str) -> dict[str, Any]:
        return {
            one.record_id: {"properties": one.present(), other: self.crm.linked(kind, one.record_id)}
            for one in self.crm.records(kind)
        }


def _dated(path: str, version: str) -> str:
    """A path of v3 or v4 as a dated version has it; what has no version stays.

    Source: the paths of hubspot-sdk 0.1.0a9 for 2026-03, documented; that 2026-09 has the same ones: assumed.
    """
    for old, new in (
        ("/crm/v3/", "/crm/{}/<V>"), ("/crm/v4/", "/crm/{}/<V>"), ("/account-info/v3", "/account-info/<V>"),
        ("/conversations/custom-channels/v3", "/conversations/custom-channels/<V>"),
        ("/conversations/v3/custom-channels", "/conversations/custom-channels/<V>"),
        ("/conversations/v3/conversations", "/conversations/conversations/<V>"), ("/files/v3", "/files/<V>"),
        ("/oauth/v3", "/oauth/<V>"),
    ):  # fmt: skip
        if path.startswith(old):
            rest = path.removeprefix(old)
            if "{}" in new:
                family, _, rest = rest.partition("/")
                return "/".join(filter(None, (new.format(family).replace("<V>", version), rest)))
            return new.replace("<V>", version) + rest
    return path


def _listed(request: Request, rows: Iterable[dict[str, Any]]) -> Response:
    """One page of a list, in the order of the ids."""
    limit, after = _number(request, "limit", 100), _number(request, "after", 0)
    ordered = sorted(rows, key=lambda one: int(one["id"]))
    rest = [one for one in ordered if int(one["id"]) > after]
    body: dict[str, Any] = {"total": len(ordered), "results": rest[:limit]}
    if len(rest) > limit:
        body["paging"] = paging(rest[limit - 1]["id"])
    return json_response(body)


def _person(user_id: int) -> Source:
    return Source("CRM_UI", f"userId:{user_id}", user_id)


def _owner(owner: dict[str, Any]) -> dict[str, Any]:
    return {**owner, "type": "PERSON", "archived": False, "createdAt": _MADE_AT, "updatedAt": _MADE_AT, "teams": []}


def _body(request: Request) -> dict[str, Any]:
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise invalid("Invalid input JSON on line 1, column 0")
    return body


def _archived(request: Request) -> bool:
    return request.args.get("archived", "").lower() == "true"  # HubSpot's Python client sends "True"


def _number(request: Request, name: str, default: int) -> int:
    text = request.args.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise invalid(f"{name} must be a whole number")
    return int(text)
