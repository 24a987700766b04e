"""HubSpot's CRM API as this target uses it: a timeout on every call, bounded retries, a batch told apart by record.

Built on hubspot-api-client 12 (v3 objects, v4 associations), whose models are passed by: answers are plain dicts in
which every field may be missing, as HubSpot asks clients to read them.

Sources: developers.hubspot.com/docs/api-reference/error-handling and /docs/developer-tooling/platform/usage-guidelines,
read 2026-11, documented; what is otherwise is said where it is used.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import backoff
import urllib3

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    UnavailableError,
)
from mappings.http import redact, retry_after_seconds
from stores.control import Pauses
from stores.database import Stores
from targets.hubspot.answers import (
    Answer,
    Input,
    Refused,
    Written,
    needed_scopes,
    object_in,
    refusal,
    rejected,
    sort_out,
)
from targets.hubspot.settings import HubSpotTargetSettings

CONTACTS = "contacts"
COMMUNICATIONS = "communications"
COMMUNICATION_TO_CONTACT = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 81}
"""Documented: developers.hubspot.com/docs/api-reference/crm-associations-v4/guide, table of type ids."""

_READ_BATCH = 100
_READ_HISTORY_BATCH = 50
_ASSOCIATION_READ_BATCH = 1000


class HubSpotApi:
    """Calls one HubSpot account.

    Errors of a call: `CredentialsError`, `RateLimitedError` (the day's calls are used up, or the pause is too long),
    `UnavailableError` after the last try, `OutcomeUnknownError` only where `repeatable` is false.
    """

    def __init__(self, settings: HubSpotTargetSettings, stores: Stores) -> None:
        self._settings = settings
        self._account = f"hubspot:{settings.portal_id}"
        self._pauses = Pauses(stores)
        self.calls = 0
        # The client logs bodies at DEBUG; they hold messages.
        logging.getLogger("hubspot").setLevel(logging.INFO)
        waiting = backoff.on_exception(
            backoff.runtime,
            RateLimitedError,
            value=_asked_seconds,
            jitter=None,
            giveup=self._is_too_long,
            max_tries=settings.max_tries,
            max_time=settings.max_retry_seconds,
            logger=None,
        )
        retrying = backoff.on_exception(
            backoff.expo,
            UnavailableError,
            factor=settings.retry_wait_seconds,
            max_value=60,
            jitter=lambda seconds: seconds * random.uniform(0.5, 1.0),  # noqa: S311  # spreads load, guards nothing
            max_tries=settings.max_tries,
            max_time=settings.max_retry_seconds,
            logger=None,
        )
        self._persist = waiting(retrying(self._call_once))

    # What this target needs, by purpose

    def account_details(self) -> Answer:
        """``GET /account-info/v3/details``: portal id, account type, time zone."""
        client = self._objects.api_client
        return self.call(
            "GET account-info/details",
            lambda **options: client.call_api(
                "/account-info/v3/details",
                "GET",
                header_params={"Accept": "application/json"},
                auth_settings=["oauth2"],
                **options,
            ),
        )

    def properties(self, kind: str) -> Answer:
        """All property definitions of an object type."""
        return self.call(f"GET properties/{kind}", self._properties.get_all, kind)

    def create_property(self, kind: str, body: Input) -> Answer:
        """Add a property."""
        return self.call(f"POST properties/{kind}", self._properties.create, kind, body)

    def update_property(self, kind: str, name: str, body: Input) -> Answer:
        """Change a property, for example its options."""
        return self.call(f"PATCH properties/{kind}/{name}", self._properties.update, kind, name, body)

    def property_groups(self, kind: str) -> Answer:
        """All property groups of an object type."""
        return self.call(f"GET properties/{kind}/groups", self._groups.get_all, kind)

    def create_property_group(self, kind: str, body: Input) -> Answer:
        """Add a property group."""
        return self.call(f"POST properties/{kind}/groups", self._groups.create, kind, body)

    def first_page(self, kind: str) -> Answer:
        """One record of an object type: shows whether the token may read it."""
        return self.call(f"GET {kind}", self._objects.get_page, kind, limit=1)

    def fetch(
        self, kind: str, record_id: str, properties: Sequence[str], history: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        """One record; ``None`` when it was deleted. An id that was merged away gives the survivor, with its own id."""
        # One value with commas, as the pages show it; the client would repeat the parameter.
        options: dict[str, Any] = {"properties": [",".join(properties)]}
        if history:
            options["properties_with_history"] = [",".join(history)]
        answer = self.call(f"GET {kind}/id", self._objects.get_by_id, kind, record_id, **options)
        if answer.ok:
            return answer.body
        if answer.status == 404:
            return None
        raise rejected(f"GET {kind}/id", answer.status, answer.body)

    def read_batch(
        self,
        kind: str,
        keys: Iterable[str],
        properties: Sequence[str],
        *,
        id_property: str | None = None,
        history: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Those of the records that exist, in no order, each once; which key gave which is not told."""
        found: dict[str, dict[str, Any]] = {}
        rest: Input = {"properties": list(properties), "propertiesWithHistory": list(history)}
        if id_property:
            rest["idProperty"] = id_property
        for chunk in _chunks(list(dict.fromkeys(keys)), _READ_HISTORY_BATCH if history else _READ_BATCH):
            for answer in self._read_chunk(kind, chunk, rest):
                found |= {str(one["id"]): one for one in answer.listed("results") if "id" in one}
        return list(found.values())

    def _read_chunk(self, kind: str, chunk: Sequence[str], rest: Input) -> Iterator[Answer]:
        endpoint = f"POST {kind}/batch/read"
        body = {**rest, "inputs": [{"id": key} for key in chunk]}
        answer = self.call(endpoint, self._batches.read, kind, body)
        if answer.ok:
            _check_complete(endpoint, answer)
            yield answer
        elif answer.status == 404:
            yield answer
        elif rest.get("idProperty") != "email":
            raise rejected(endpoint, answer.status, answer.body)
        elif len(chunk) > 1:
            # One address that HubSpot does not take for one must not hide the others. Alone, nobody has it.
            middle = len(chunk) // 2
            for half in (chunk[:middle], chunk[middle:]):
                yield from self._read_chunk(kind, half, rest)

    def write_batch(
        self,
        kind: str,
        verb: str,
        inputs: Sequence[Input],
        *,
        size: int,
        id_property: str | None = None,
        repeatable: bool = True,
        recognise: Callable[[dict[str, Any]], str | None] = lambda _: None,
        written_so_far: Callable[[Written], None] = lambda _: None,
    ) -> Written:
        """Write records in batches; each is a result, a refusal or (only if not `repeatable`) unknown.

        Args:
            kind: object type.
            verb: ``create``, ``update`` or ``upsert``.
            inputs: each with its own ``objectWriteTraceId``.
            size: of a batch.
            id_property: of an upsert.
            repeatable: whether the same batch can be sent again when nobody knows what came of it.
            recognise: the trace id of a result that came without one.
            written_so_far: told after each call that settled something.

        A batch that is refused as a whole is halved until the records that are to blame stand alone: HubSpot carries
        out nothing of a batch that it answers with 4xx (assumed for all verbs; documented for create).
        """
        whole = Written()
        for chunk in _distinct_chunks(inputs, size):
            for part in self._write_chunk(kind, verb, chunk, id_property, repeatable, recognise):
                written_so_far(part)
                whole.add(part)
        return whole

    def _write_chunk(
        self,
        kind: str,
        verb: str,
        chunk: Sequence[Input],
        id_property: str | None,
        repeatable: bool,
        recognise: Callable[[dict[str, Any]], str | None],
        last_try: bool = False,
    ) -> Iterator[Written]:
        endpoint = f"POST {kind}/batch/{verb}"
        function, body = getattr(self._batches, verb), {"inputs": list(chunk)}
        try:
            answer = self.call(endpoint, function, kind, body, repeatable=repeatable)
        except OutcomeUnknownError as error:
            yield Written(unknown={one["objectWriteTraceId"]: error for one in chunk})
            return
        if not answer.ok and len(chunk) == 1:
            yield Written(refused={chunk[0]["objectWriteTraceId"]: refusal(endpoint, answer.status, answer.body)})
            return
        if not answer.ok:
            middle = len(chunk) // 2
            for half in (chunk[:middle], chunk[middle:]):
                yield from self._write_chunk(kind, verb, half, id_property, repeatable, recognise)
            return
        written = sort_out(endpoint, chunk, answer, id_property, recognise)
        unnamed = [one for one in chunk if one["objectWriteTraceId"] not in written.results | written.refused]
        msg = f"HubSpot: {endpoint} answered {answer.status} and said nothing of one of its records"
        if not repeatable:
            written.unknown = {one["objectWriteTraceId"]: OutcomeUnknownError(msg) for one in unnamed}
        elif last_try:
            written.refused |= {one["objectWriteTraceId"]: Refused(RejectedError(msg)) for one in unnamed}
        yield written
        if repeatable and not last_try:
            for one in unnamed:
                yield from self._write_chunk(kind, verb, [one], id_property, repeatable, recognise, last_try=True)

    def archive(self, kind: str, record_ids: Iterable[str]) -> None:
        """Archive records; those that are archived already are no error."""
        for chunk in _chunks(list(record_ids), _READ_BATCH):
            body = {"inputs": [{"id": one} for one in chunk]}
            answer = self.call(f"POST {kind}/batch/archive", self._batches.archive, kind, body)
            if not answer.ok and answer.status != 404:
                raise rejected(f"POST {kind}/batch/archive", answer.status, answer.body)

    def purge_contact(self, record_id: str) -> None:
        """Delete a contact for good, as privacy law asks; one that is gone already is no error."""
        answer = self.call("POST contacts/gdpr-delete", self._contacts.purge, {"objectId": record_id})
        if not answer.ok and answer.status != 404:
            raise rejected("POST contacts/gdpr-delete", answer.status, answer.body)

    def associate(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Put communications on contacts' timelines: (communication id, contact id). Again is harmless.

        Returns:
            The pairs that HubSpot did not take: one of the two does not exist under that id.
        """
        failed = []
        for chunk in _chunks(list(pairs), self._settings.association_batch_size):
            failed += self._associate_chunk(chunk)
        return failed

    def _associate_chunk(self, chunk: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        inputs = [
            {"from": {"id": one}, "to": {"id": other}, "types": [COMMUNICATION_TO_CONTACT]} for one, other in chunk
        ]
        answer = self.call(
            "POST associations/batch/create", self._associations.create, COMMUNICATIONS, CONTACTS, {"inputs": inputs}
        )
        if answer.ok:
            done = {(str(one.get("fromObjectId")), str(one.get("toObjectId"))) for one in answer.listed("results")}
            return [pair for pair in chunk if pair not in done]
        if len(chunk) == 1:
            return list(chunk)
        middle = len(chunk) // 2
        return self._associate_chunk(chunk[:middle]) + self._associate_chunk(chunk[middle:])

    def dissociate(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Take communications off contacts' timelines; what is not there is no error."""
        for chunk in _chunks(list(pairs), self._settings.association_batch_size):
            inputs = [{"from": {"id": one}, "to": [{"id": other}]} for one, other in chunk]
            answer = self.call(
                "POST associations/batch/archive",
                self._associations.archive,
                COMMUNICATIONS,
                CONTACTS,
                {"inputs": inputs},
            )
            if not answer.ok and answer.status != 404:
                raise rejected("POST associations/batch/archive", answer.status, answer.body)

    def communications_of(self, contact_ids: Iterable[str]) -> dict[str, list[str]]:
        """The communications on these contacts' timelines; contacts without any are left out."""
        found: dict[str, list[str]] = {}
        waiting: list[Input] = [{"id": contact_id} for contact_id in dict.fromkeys(contact_ids)]
        while waiting:
            chunk, waiting = waiting[:_ASSOCIATION_READ_BATCH], waiting[_ASSOCIATION_READ_BATCH:]
            answer = self.call(
                "POST associations/batch/read", self._associations.get_page, CONTACTS, COMMUNICATIONS, {"inputs": chunk}
            )
            if not answer.ok and answer.status != 404:
                raise rejected("POST associations/batch/read", answer.status, answer.body)
            _check_complete("POST associations/batch/read", answer)
            for one in answer.listed("results"):
                contact_id = str(object_in(one.get("from")).get("id"))
                to = one.get("to")
                found.setdefault(contact_id, []).extend(
                    str(other["toObjectId"]) for other in (to if isinstance(to, list) else []) if "toObjectId" in other
                )
                after = object_in(object_in(one.get("paging")).get("next")).get("after")
                if after:
                    waiting.append({"id": contact_id, "after": str(after)})
        return found

    def has_associated(self, contact_id: str, kind: str) -> bool:
        """Whether anything of that object type is on the contact; a type that the account does not have is not.

        Raises:
            CredentialsError: the token may not see that type.
        """
        answer = self.call(
            f"GET contacts/id/associations/{kind}", self._links.get_page, CONTACTS, contact_id, kind, limit=1
        )
        return answer.ok and bool(answer.listed("results"))

    # How a call is made

    def call(
        self,
        endpoint: str,
        function: Callable[..., Any],
        *arguments: Any,
        repeatable: bool = True,
        **options: Any,
    ) -> Answer:
        """Call one function of the client and wait, retry or raise as its answer asks."""
        answer: Answer = self._persist(endpoint, function, arguments, options, repeatable)
        return answer

    def _call_once(
        self,
        endpoint: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        options: Mapping[str, Any],
        repeatable: bool,
    ) -> Answer:
        left = self._pauses.seconds_left(self._account)
        if left:
            msg = f"HubSpot: account paused for {left:.0f} more seconds"
            raise RateLimitedError(msg, retry_after_seconds=left)
        self.calls += 1
        try:
            response = function(
                *arguments, **options, _preload_content=False, _request_timeout=self._settings.timeout_seconds
            )
            status, headers, raw = response.status, response.headers, response.data
        except self._api_exception as error:
            failed: Any = error
            status, headers, raw = failed.status or 0, failed.headers or {}, failed.body
        except urllib3.exceptions.HTTPError as error:
            raise self._without_answer(endpoint, error, repeatable) from None
        body = _parsed(raw)
        self._slow_down(headers)
        if 200 <= status < 300 and (body or not raw):
            return Answer(status, body)
        return self._judge(endpoint, status, headers, body, repeatable)

    def _judge(
        self, endpoint: str, status: int, headers: Mapping[str, str], body: dict[str, Any], repeatable: bool
    ) -> Answer:
        """Refusals of this request are for the caller; the rest is raised."""
        what = f"HubSpot: {endpoint} answered {status}"
        asked = retry_after_seconds(headers.get("Retry-After"), datetime.now(UTC))
        if status in {401, 403}:
            scopes = needed_scopes(body)
            hint = f"; the token needs {', '.join(scopes)}" if scopes else "; check the access token and its scopes"
            raise CredentialsError(what + hint)
        if status == 429 and body.get("policyName") == "DAILY":
            msg = f"{what}: the account's calls for today are used up. Nothing is lost; run again after midnight"
            raise RateLimitedError(msg)
        if status in {423, 429, 477}:
            # 423: locked, wait at least 2 s; 477: the account is being moved, Retry-After says how long (documented).
            default = 2.0 if status == 423 else _interval_seconds(headers)
            seconds = asked if asked is not None else default
            self._pauses.pause(self._account, seconds)
            msg = f"{what}; waiting {seconds:.0f} s"
            raise RateLimitedError(msg, retry_after_seconds=seconds)
        if status == 408 or status >= 500 or status < 400:  # a success without JSON was cut short on its way
            if repeatable:
                raise UnavailableError(f"{what}; trying again later")
            raise OutcomeUnknownError(f"{what}; reading back what came of it")
        return Answer(status, body)

    def _without_answer(self, endpoint: str, error: Exception, repeatable: bool) -> OneThreadError:
        reason = getattr(error, "reason", None)
        cause = reason if isinstance(reason, Exception) else error
        msg = redact(f"HubSpot: {endpoint} gave no answer ({type(cause).__name__})")
        never_sent = isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
        if repeatable or never_sent:
            return UnavailableError(msg)
        return OutcomeUnknownError(msg)

    def _is_too_long(self, error: Exception) -> bool:
        asked = getattr(error, "retry_after_seconds", None)
        return asked is None or asked > self._settings.max_retry_seconds

    def _slow_down(self, headers: Mapping[str, str]) -> None:
        """Rather a short pause for every process than a refusal: refusals over 5 % cost an app its listing."""
        remaining = headers.get("X-HubSpot-RateLimit-Remaining")
        if remaining is not None and remaining.isdigit() and int(remaining) <= 2:
            self._pauses.pause(self._account, _interval_seconds(headers) / 10)

    # The client; each access to its parts would build a new connection pool, so they are kept

    @cached_property
    def _client(self) -> Any:
        import hubspot

        # Everything is retried here, by meaning; the client itself must not, or a create could go out twice.
        retry = urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0)
        return hubspot.Client.create(
            access_token=self._settings.access_token.get_secret_value(),
            retry=retry,
            host=self._settings.api_url.rstrip("/"),
        )

    @cached_property
    def _api_exception(self) -> tuple[type[Exception], ...]:
        from hubspot.crm.associations.v4.exceptions import ApiException as AssociationsError
        from hubspot.crm.contacts.exceptions import ApiException as ContactsError
        from hubspot.crm.objects.exceptions import ApiException as ObjectsError
        from hubspot.crm.properties.exceptions import ApiException as PropertiesError

        return (AssociationsError, ContactsError, ObjectsError, PropertiesError)

    @cached_property
    def _objects(self) -> Any:
        return self._client.crm.objects.basic_api

    @cached_property
    def _batches(self) -> Any:
        return self._client.crm.objects.batch_api

    @cached_property
    def _contacts(self) -> Any:
        return self._client.crm.contacts.basic_api

    @cached_property
    def _associations(self) -> Any:
        return self._client.crm.associations.v4.batch_api

    @cached_property
    def _links(self) -> Any:
        return self._client.crm.associations.v4.basic_api

    @cached_property
    def _properties(self) -> Any:
        return self._client.crm.properties.core_api

    @cached_property
    def _groups(self) -> Any:
        return self._client.crm.properties.groups_api


def _check_complete(endpoint: str, answer: Answer) -> None:
    """What could not be read must not look like what is not there: it would be created again."""
    unread = [one for one in answer.listed("errors") if one.get("category") not in {None, "OBJECT_NOT_FOUND"}]
    if answer.ok and (unread or not isinstance(answer.body.get("results"), list)):
        msg = f"HubSpot: {endpoint} answered {answer.status} in part only"
        raise UnavailableError(msg)


def _asked_seconds(error: RateLimitedError) -> float:
    return error.retry_after_seconds or 0.0


def _interval_seconds(headers: Mapping[str, str]) -> float:
    text = headers.get("X-HubSpot-RateLimit-Interval-Milliseconds") or ""
    return int(text) / 1000 if text.isdigit() else 10.0


def _parsed(raw: Any) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    return body if isinstance(body, dict) else {}


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _distinct_chunks(inputs: Sequence[Input], size: int) -> Iterator[list[Input]]:
    """Batches in which no id occurs twice: HubSpot refuses those (observed: hubspot-api-client threads on upsert)."""
    chunk: list[Input] = []
    ids: set[str] = set()
    for one in inputs:
        if len(chunk) == size or one.get("id") in ids:
            yield chunk
            chunk, ids = [], set()
        chunk.append(one)
        if "id" in one:
            ids.add(one["id"])
    if chunk:
        yield chunk
