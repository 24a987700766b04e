"""What goes into Salesforce's calls and what its answers mean, row by row. Pure.

Sources: developer.salesforce.com/docs, REST API Developer Guide v67: "Composite" (25 subrequests, of which 5
collections; one call), "Upsert Records Using sObject Collections" (200 rows, `allOrNone`, results in the order of the
rows, HTTP 200 with row errors), "Status Codes and Error Responses"; read 2026-11, documented. That a row's code is
called `statusCode` in collections and `errorCode` elsewhere: documented there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import CredentialsError, OneThreadError, RejectedError, SettingsError, UnavailableError
from mappings.to_salesforce import CONTACT, CONVERSATION, Fact

COLLECTION_ROWS = 200
COMPOSITE_COLLECTIONS = 5
# A request can have 50 MB (documented for REST); a character can take six bytes of JSON.
_CALL_CHARACTERS = 6_000_000
LOCKED = "UNABLE_TO_LOCK_ROW"
DUPLICATES = "DUPLICATES_DETECTED"

# A record that a row names, or the row's own, is not there (any more): deleted, merged or never made.
_ABSENT = frozenset(
    {"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "NOT_FOUND", "MALFORMED_ID", "DELETED_RECORD",
     "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"}
)  # fmt: skip
# Assumed: the wording; the code alone (INVALID_FIELD) also stands for a field that does not exist.
_NO_PARENT = re.compile(r"foreign key external id", re.IGNORECASE)
_RETRY_LATER = frozenset(
    {LOCKED, "QUERY_TIMEOUT", "SERVER_UNAVAILABLE", "REQUEST_RUNNING_TOO_LONG", "UNKNOWN_EXCEPTION"}
)
_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,79}")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,79}")
_RECORD_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


@dataclass(frozen=True, slots=True)
class Row:
    """One record to be written.

    Attributes:
        key: ours, unique among the rows of one writing.
        kind: object.
        values: fields; `parents` are lookups by external id: relationship -> (field, value).
        record_id: of a record that is there: it is updated. Without it the row is upserted by `external_field`.
        group: rows of one group stay in one call, so that no two calls lock the same parent.
    """

    key: str
    kind: str
    values: Mapping[str, Fact]
    group: str
    record_id: str | None = None
    external_field: str | None = None
    parents: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def stage(self) -> int:
        """Parents before children; what is there already can go first or last."""
        if self.kind == CONTACT:
            return 0 if self.record_id else 1
        if self.record_id:
            return 4
        return 2 if self.kind == CONVERSATION else 3

    @property
    def characters(self) -> int:
        """About how large it is."""
        return sum(len(value) for value in self.values.values() if isinstance(value, str))

    def as_json(self) -> dict[str, Any]:
        """The row as an element of a collection."""
        record: dict[str, Any] = {"attributes": {"type": self.kind}, **self.values}
        if self.record_id:
            record["id"] = self.record_id
        for relationship, (name, value) in self.parents.items():
            record[relationship] = {name: value}
        return record


@dataclass(frozen=True, slots=True)
class Collection:
    """Up to 200 rows of one request: upserts of one object, or updates of any."""

    path: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one row was not written.

    Attributes:
        missing: the record, or one that it points to, is deleted, merged or was never made.
        no_parent: a lookup by external id found nothing: the parent's own row was refused.
        later: worth another try; `locked` by another writer.
        duplicates: ids of the records that a duplicate rule names, if it names them.
    """

    error: RejectedError
    missing: bool = False
    no_parent: bool = False
    later: bool = False
    duplicates: tuple[str, ...] = ()

    @property
    def code(self) -> str | None:
        """Salesforce's code."""
        return self.error.code


@dataclass(slots=True)
class Written:
    """What came of rows, by their keys: record ids, which of them are new, and refusals."""

    ids: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    refused: dict[str, Refused] = field(default_factory=dict)

    def add(self, other: Written) -> None:
        """Take over what another call came to."""
        self.ids |= other.ids
        self.created |= other.created
        self.refused |= other.refused


def plan_calls(rows: Sequence[Row], *, limit: int, collections: int = COMPOSITE_COLLECTIONS) -> list[list[Collection]]:
    """Rows as calls: whole groups together, parents before children, as few calls as it takes.

    Args:
        rows: in any order; those of one group end up in one call unless the group alone is too large.
        limit: most rows in one call.
        collections: most collections in one call; with 1 all parents go before all children.
    """
    if collections == 1:
        ordered = sorted(rows, key=lambda row: (row.stage, row.group))
        size = min(limit, COLLECTION_ROWS)
        heavy = sum(row.characters for row in ordered) > _CALL_CHARACTERS
        return [[one] for one in _collections(ordered, min(size, 40) if heavy else size)]
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda one: (one.group, one.stage)):
        groups.setdefault(row.group, []).append(row)
    calls = [_Room(limit, collections)]
    for group in groups.values():
        if calls[-1].takes(group):
            calls[-1].put(group)
            continue
        calls.append(_Room(limit, collections))
        if calls[-1].takes(group):
            calls[-1].put(group)
            continue
        # Too large for one call: its parents go first, so later parts find them.
        for row in group:
            if not calls[-1].takes([row]):
                calls.append(_Room(limit, collections))
            calls[-1].put([row])
    return [_collections(call.rows, COLLECTION_ROWS) for call in calls if call.rows]


class _Room:
    """What still fits into one call: rows, collections and characters. An empty one takes any row."""

    def __init__(self, limit: int, collections: int) -> None:
        self.rows: list[Row] = []
        self._limit = limit
        self._collections = collections
        self._characters = 0
        self._buckets: dict[tuple[int, str], int] = {}

    def takes(self, rows: Sequence[Row]) -> bool:
        """Whether all of these fit."""
        if len(self.rows) + len(rows) > self._limit:
            return False
        if self.rows and self._characters + sum(row.characters for row in rows) > _CALL_CHARACTERS:
            return False
        buckets = dict(self._buckets)
        for row in rows:
            buckets[_bucket(row)] = buckets.get(_bucket(row), 0) + 1
        return sum(-(-size // COLLECTION_ROWS) for size in buckets.values()) <= self._collections

    def put(self, rows: Sequence[Row]) -> None:
        """Put them in."""
        self.rows += rows
        self._characters += sum(row.characters for row in rows)
        for row in rows:
            self._buckets[_bucket(row)] = self._buckets.get(_bucket(row), 0) + 1


def _collections(rows: Sequence[Row], size: int) -> list[Collection]:
    """Rows as collections, parents first; rows of one bucket share collections."""
    buckets: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        buckets.setdefault(_bucket(row), []).append(row)
    return [
        Collection(path, tuple(members[start : start + size]))
        for (_, path), members in sorted(buckets.items())
        for start in range(0, len(members), size)
    ]


def _bucket(row: Row) -> tuple[int, str]:
    """When the row's turn is, and the path of its request: an update takes any object, an upsert one."""
    if row.record_id:
        return row.stage, "composite/sobjects"
    return row.stage, f"composite/sobjects/{row.kind}/{row.external_field}"


def collection_body(collection: Collection) -> dict[str, Any]:
    """The body of one collection request."""
    return {"allOrNone": False, "records": [row.as_json() for row in collection.rows]}


def composite_body(collections: Sequence[Collection], version: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The body of one Composite request; what fails in one collection does not undo the others."""
    return {
        "allOrNone": False,
        "compositeRequest": [
            {
                "method": "PATCH",
                "url": f"/services/data/v{version}/{one.path}",
                "referenceId": f"part{number}",
                "httpHeaders": dict(headers),
                "body": collection_body(one),
            }
            for number, one in enumerate(collections)
        ],
    }


def queries_body(queries: Sequence[str], version: str) -> dict[str, Any]:
    """Up to five queries as one Composite request; `queries` are paths with encoded parameters."""
    return {
        "allOrNone": False,
        "compositeRequest": [
            {"method": "GET", "url": f"/services/data/v{version}/{one}", "referenceId": f"part{number}"}
            for number, one in enumerate(queries)
        ],
    }


def composite_parts(body: Any, count: int) -> list[tuple[int, Any]]:
    """Status and body of each part of a Composite answer, in the order of the requests.

    Raises:
        UnavailableError: the answer does not say what became of each.
    """
    listed = body.get("compositeResponse") if isinstance(body, dict) else None
    parts: dict[Any, tuple[int, Any]] = {
        one.get("referenceId"): (one["httpStatusCode"], one.get("body"))
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and isinstance(one.get("httpStatusCode"), int)
    }
    if any(f"part{number}" not in parts for number in range(count)):
        msg = "Salesforce: POST composite answered in part only; trying again later"
        raise UnavailableError(msg)
    return [parts[f"part{number}"] for number in range(count)]


def rows_of(collection: Collection, status: int, body: Any) -> Written:
    """What became of each row of a collection: results stand in the order of the rows.

    Raises:
        UnavailableError: the answer has not one result for each row.
    """
    endpoint = f"PATCH {collection.path}"
    written = Written()
    if status >= 400:
        written.refused = {row.key: refusal(endpoint, status, body) for row in collection.rows}
        return written
    if not isinstance(body, list) or len(body) != len(collection.rows):
        msg = f"Salesforce: {endpoint} answered without a result for each row; trying again later"
        raise UnavailableError(msg)
    for row, result in zip(collection.rows, body, strict=True):
        if isinstance(result, dict) and result.get("success") is True and isinstance(result.get("id"), str):
            written.ids[row.key] = result["id"]
            if result.get("created") is True:
                written.created.add(row.key)
        else:
            errors = result.get("errors") if isinstance(result, dict) else None
            written.refused[row.key] = refusal(endpoint, status, errors)
    return written


def refusal(endpoint: str, status: int, body: Any) -> Refused:
    """Why a row was refused, from a row's `errors` or a whole answer."""
    errors = errors_in(body)
    codes = [error_code(one) for one in errors]
    texts = " ".join(str(one.get("message") or "") for one in errors)
    code = next((one for one in codes if one), None)
    no_parent = code == "INVALID_FIELD" and bool(_NO_PARENT.search(texts))
    return Refused(
        rejected(endpoint, status, errors),
        missing=bool(_ABSENT & set(codes)) or status == 404,
        no_parent=no_parent,
        later=bool(_RETRY_LATER & set(codes)) or status >= 500,
        duplicates=tuple(dict.fromkeys(_duplicates(errors))),
    )


def rejected(endpoint: str, status: int, errors: Sequence[Mapping[str, Any]]) -> RejectedError:
    """Salesforce's codes and the fields they name; never its words, which repeat values."""
    codes = [code for one in errors if (code := error_code(one))]
    names = [
        str(name)
        for one in errors
        for name in (one.get("fields") if isinstance(one.get("fields"), list) else [])  # type: ignore[union-attr]
        if _FIELD_NAME.fullmatch(str(name))
    ]
    said = ", ".join(dict.fromkeys([*codes, *names])) or "no reason given"
    msg = f"Salesforce: {endpoint} refused it ({status}: {said})"
    return RejectedError(msg, code=codes[0] if codes else None)


def error_for_answer(endpoint: str, status: int, body: Any) -> OneThreadError | None:
    """The error of a whole answer that is nobody's row; ``None`` where the caller has to judge (other 4xx).

    The day's limit (403 REQUEST_LIMIT_EXCEEDED) and an expired session (401) are the caller's business too.
    """
    codes = [code for one in errors_in(body) if (code := error_code(one))]
    what = f"Salesforce: {endpoint} answered {status}" + (f" ({', '.join(codes)})" if codes else "")
    if status == 401:
        return CredentialsError(f"{what}; the session was refused twice, check the External Client App")
    if status == 410:
        return SettingsError(f"{what}: this API version is retired; raise api_version")
    if status in {408, 429} or status >= 500 or (status == 403 and _concurrent(body)):
        return UnavailableError(f"{what}; trying again later")
    if status == 403:
        return CredentialsError(f"{what}; check the integration user's permission sets")
    return None


def is_day_limit(status: int, body: Any) -> bool:
    """Whether the org's calls of the last 24 hours are used up (documented: 403, never 429, no Retry-After)."""
    codes = {error_code(one) for one in errors_in(body)}
    return status in {403, 503} and "REQUEST_LIMIT_EXCEEDED" in codes and not _concurrent(body)


def _concurrent(body: Any) -> bool:
    """Too many calls of over 20 seconds at once have the same code; observed: the words name ConcurrentRequests."""
    return any(
        error_code(one) == "REQUEST_LIMIT_EXCEEDED" and "concurrent" in str(one.get("message") or "").lower()
        for one in errors_in(body)
    )


def errors_in(body: Any) -> list[dict[str, Any]]:
    """The errors of an answer: a list of objects, or one object."""
    listed = body if isinstance(body, list) else [body]
    return [one for one in listed if isinstance(one, dict)]


def error_code(error: Mapping[str, Any]) -> str | None:
    """The code of one error, wherever it stands."""
    for name in ("statusCode", "errorCode", "error"):
        code = error.get(name)
        if isinstance(code, str) and (_NAME.fullmatch(code) or name == "error"):
            return code[:80]
    return None


def _duplicates(errors: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for error in errors:
        result = error.get("duplicateResult")
        matches = result.get("matchResults") if isinstance(result, dict) else None
        for match in matches if isinstance(matches, list) else []:
            records = match.get("matchRecords") if isinstance(match, dict) else None
            for one in records if isinstance(records, list) else []:
                record = one.get("record") if isinstance(one, dict) else None
                record_id = record.get("Id") if isinstance(record, dict) else None
                if isinstance(record_id, str) and _RECORD_ID.fullmatch(record_id):
                    yield record_id


def api_usage(header: str | None) -> tuple[int, int] | None:
    """Used and allowed calls of ``Sforce-Limit-Info: api-usage=18/5000``, ``None`` when it says neither."""
    found = re.search(r"(?:^|[;, ])api-usage=(\d+)/(\d+)", header or "")
    return (int(found.group(1)), int(found.group(2))) if found else None
