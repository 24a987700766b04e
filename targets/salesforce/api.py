"""What target-salesforce asks of an org: reads by SOQL, writes told apart by row, merges, deletions, files.

Every write can be repeated: rows are upserted by our external ids or updated by their own, so a call whose answer was
lost is simply made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from simple_salesforce.format import format_soql

from mappings.errors import RejectedError, UnavailableError
from mappings.to_salesforce import salesforce_id
from stores.database import Stores
from targets.field_map import DescribedField, Kind
from targets.salesforce.answers import (
    COLLECTION_ROWS,
    COMPOSITE_COLLECTIONS,
    Collection,
    Refused,
    Row,
    Written,
    collection_body,
    composite_body,
    composite_parts,
    errors_in,
    plan_calls,
    queries_body,
    refusal,
    rejected,
    rows_of,
)
from targets.salesforce.bulk import bulk_upsert, goes_by_bulk
from targets.salesforce.connection import Answer, Connection, duplicate_rule_header, wait_before_retry
from targets.salesforce.settings import SalesforceTargetSettings
from targets.salesforce.soap import (
    IDS_PER_CALL,
    MERGES_PER_CALL,
    SoapResult,
    empty_bin_call,
    merge_call,
    soap_results,
)

_LEAST_ROWS = 25
_GROW_ROWS = 200
_IN_VALUES = 200
_QUERIES_PER_CALL = 5
_ORGANIZATION = "query/?q=SELECT%20Id%20FROM%20Organization"

# The `type` of a describe -> what it takes (documented: SOAP API Developer Guide, DescribeSObjectResult, read 2026-11).
_KINDS: Mapping[str, Kind] = {
    "string": "text", "textarea": "text", "email": "text", "phone": "text", "url": "text", "encryptedstring": "text",
    "picklist": "text", "combobox": "text", "multipicklist": "choices", "datetime": "datetime", "date": "date",
    "boolean": "boolean",
    "double": "number", "int": "number", "currency": "number", "reference": "reference",
}  # fmt: skip


class SalesforceApi(Connection):
    """One org's API. Errors of a call: see `Connection`."""

    def __init__(self, settings: SalesforceTargetSettings, stores: Stores) -> None:
        super().__init__(settings, stores)
        self._rows_per_call = settings.rows_per_call

    # Reading

    def query(self, soql: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        """All records of a query; `deleted`: also those in the recycle bin and those merged away."""
        resource = "queryAll" if deleted else "query"
        answer = self.call("GET", f"{resource}/", params={"q": soql})
        return self._all_pages(f"GET {resource}", answer)

    def query_together(self, queries: Sequence[str], *, deleted: bool = False) -> list[list[dict[str, Any]]]:
        """The records of several queries, five to a call; one that is refused ends the run."""
        found = []
        for answer in self.query_each(queries, deleted=deleted):
            if not answer.ok:
                raise rejected("GET query", answer.status, errors_in(answer.body))
            found.append(self._all_pages("GET query", answer))
        return found

    def query_each(self, queries: Sequence[str], *, deleted: bool = False) -> Iterator[Answer]:
        """The first page of each query, or its refusal; five to a call."""
        resource = "queryAll" if deleted else "query"
        paths = [f"{resource}/?q={quote(soql, safe='')}" for soql in queries]
        size = _QUERIES_PER_CALL if self._settings.composite else 1
        for start in range(0, len(paths), size):
            yield from self.get_together(paths[start : start + size])

    def get_together(self, paths: Sequence[str]) -> list[Answer]:
        """Several GETs in one call; one by one where Composite is off."""
        if len(paths) == 1 or not self._settings.composite:
            return [self.call("GET", path) for path in paths]
        answer = self.call("POST", "composite", json=queries_body(paths, self._settings.api_version))
        if not answer.ok:
            raise rejected("POST composite", answer.status, errors_in(answer.body))
        parts = composite_parts(answer.body, len(paths))
        for status, body in parts:
            self.stop_at_day_limit(status, body)
            if status >= 500:
                raise UnavailableError(f"Salesforce: a part of POST composite answered {status}; trying again later")
        return [Answer(status, body) for status, body in parts]

    def described(self, kinds: Mapping[str, str]) -> tuple[dict[str, dict[str, DescribedField] | None], str]:
        """The fields of at most four objects (our name -> object) and the org's id, in one call.

        An object that does not exist, or may not be seen, is ``None``.
        """
        paths = [f"sobjects/{name}/describe" for name in kinds.values()]
        *answers, org = self.get_together([*paths, _ORGANIZATION])
        (record,) = self._all_pages("GET query Organization", org)
        fields = {kind: _described(answer) for kind, answer in zip(kinds, answers, strict=True)}
        return fields, salesforce_id(str(record.get("Id")))

    def _all_pages(self, endpoint: str, answer: Answer) -> list[dict[str, Any]]:
        """A page can be short of its size; only a missing ``nextRecordsUrl`` is the end (documented: REST, Query)."""
        records: list[dict[str, Any]] = []
        while True:
            if not answer.ok:
                raise rejected(endpoint, answer.status, errors_in(answer.body))
            page = answer.body if isinstance(answer.body, dict) else {}
            listed = page.get("records")
            if not isinstance(listed, list):
                msg = f"Salesforce: {endpoint} answered without records; trying again later"
                raise UnavailableError(msg)
            records += [one for one in listed if isinstance(one, dict)]
            following = page.get("nextRecordsUrl")
            if not isinstance(following, str):
                return records
            answer = self.call("GET", following)

    # Writing

    def write(self, rows: Sequence[Row], written_so_far: Callable[[Written], None] = lambda _: None) -> Written:
        """Write rows; each is a result or a refusal.

        Args:
            rows: keys are unique; parents that others name by external id may be among them.
            written_so_far: told after each call.

        Calls shrink after slow or unavailable answers and grow again. Locked rows are tried again, those of one parent
        together.
        """
        whole = Written()
        waiting = list(rows)
        for number in range(self._settings.lock_tries):
            later: list[Row] = []
            for part in self._write_all(waiting, smaller=number > 0):
                locked = {key for key, why in part.refused.items() if why.later}
                if number + 1 < self._settings.lock_tries:
                    later += [row for row in waiting if row.key in locked]
                    part.refused = {key: why for key, why in part.refused.items() if key not in locked}
                written_so_far(part)
                whole.add(part)
            waiting = later + [row for row in waiting if _lost_its_parent(row, whole, later)]
            for row in waiting:
                whole.refused.pop(row.key, None)
            if not waiting:
                break
            wait_before_retry(self._settings, number)
        return whole

    def _write_all(self, rows: Sequence[Row], *, smaller: bool) -> Iterator[Written]:
        by_bulk, others = goes_by_bulk(rows, self._settings.bulk_threshold_rows)
        yield from self._write_calls(others, smaller=smaller)
        if by_bulk:
            part, unprocessed = bulk_upsert(self, self._settings, by_bulk)
            yield part
            yield from self._write_calls(unprocessed, smaller=smaller)

    def _write_calls(self, rows: Sequence[Row], *, smaller: bool) -> Iterator[Written]:
        waiting = list(rows)
        failures = 0
        began = time.monotonic()
        collections = COMPOSITE_COLLECTIONS if self._settings.composite else 1
        while waiting:
            limit = min(self._rows_per_call, COLLECTION_ROWS) if smaller else self._rows_per_call
            done: set[str] = set()
            for call in plan_calls(waiting, limit=limit, collections=collections):
                before, sent_at = self._rows_per_call, time.monotonic()
                try:
                    part, spoiled = self._write_call(call)
                except UnavailableError:
                    failures += 1
                    self._shrink()
                    too_long = time.monotonic() - began > self._settings.max_retry_seconds
                    if failures >= self._settings.max_tries or too_long:
                        raise
                    wait_before_retry(self._settings, failures - 1)
                    break
                failures = 0
                self._adapt(time.monotonic() - sent_at)
                for one in spoiled:
                    part.add(self._write_halves(one))
                done |= {row.key for one in call for row in one.rows}
                yield part
                if self._rows_per_call != before:
                    break
            waiting = [row for row in waiting if row.key not in done]

    def _write_call(self, call: Sequence[Collection]) -> tuple[Written, list[Collection]]:
        """One call: what came of its rows, and the collections that were refused as a whole for one of theirs."""
        if len(call) == 1:
            one = call[0]
            answer = self.call_once("PATCH", one.path, json=collection_body(one))
            parts = [(answer.status, answer.body)]
        else:
            headers = {"Sforce-Duplicate-Rule-Header": duplicate_rule_header(self._settings)}
            answer = self.call_once("POST", "composite", json=composite_body(call, self._settings.api_version, headers))
            if not answer.ok:
                return Written(), list(call)
            parts = composite_parts(answer.body, len(call))
        written, spoiled = Written(), []
        for one, (status, part) in zip(call, parts, strict=True):
            self.stop_at_day_limit(status, part)
            if 400 <= status < 500 and len(one.rows) > 1:
                spoiled.append(one)
            else:
                written.add(rows_of(one, status, part))
        return written, spoiled

    def _write_halves(self, collection: Collection) -> Written:
        """A value that Salesforce cannot read spoils its collection: halved until the row to blame stands alone."""
        middle = (len(collection.rows) + 1) // 2
        written = Written()
        for rows in (collection.rows[:middle], collection.rows[middle:]):
            half = Collection(collection.path, rows)
            if not rows:
                continue
            answer = self.call("PATCH", half.path, json=collection_body(half))
            if not answer.ok and len(rows) > 1:
                written.add(self._write_halves(half))
            else:
                written.add(rows_of(half, answer.status, answer.body))
        return written

    def _adapt(self, seconds: float) -> None:
        if seconds > self._settings.slow_call_seconds:
            self._shrink()
        else:
            self._rows_per_call = min(self._settings.rows_per_call, self._rows_per_call + _GROW_ROWS)

    def _shrink(self) -> None:
        self._rows_per_call = max(min(_LEAST_ROWS, self._settings.rows_per_call), self._rows_per_call // 2)

    def write_one(self, row: Row) -> str | Refused:
        """One row alone: the answer names the records that a duplicate rule found; its id or its refusal."""
        endpoint = f"sobjects/{row.kind}/{row.external_field}"
        values = {name: value for name, value in row.as_json().items() if name != "attributes"}
        key = str(values.pop(row.external_field or "", ""))
        answer = self.call("PATCH", f"{endpoint}/{quote(key, safe='')}", json=values)
        if answer.ok and isinstance(answer.body, dict) and isinstance(answer.body.get("id"), str):
            record_id: str = answer.body["id"]
            return record_id
        return refusal(f"PATCH {endpoint}", answer.status, answer.body)

    def create(self, kind: str, values: Mapping[str, Any]) -> str | Refused:
        """A new record of an object that has no external id; its id or its refusal. A lost answer may make two."""
        answer = self.call("POST", f"sobjects/{kind}", json=dict(values))
        if answer.ok and isinstance(answer.body, dict) and isinstance(answer.body.get("id"), str):
            record_id: str = answer.body["id"]
            return record_id
        return refusal(f"POST sobjects/{kind}", answer.status, answer.body)

    # Removing and merging

    def delete(self, record_ids: Iterable[str]) -> dict[str, Refused]:
        """Put records into the recycle bin; those that are gone already are no error. Why others stay."""
        wanted = list(dict.fromkeys(record_ids))
        failed: dict[str, Refused] = {}
        for start in range(0, len(wanted), COLLECTION_ROWS):
            chunk = wanted[start : start + COLLECTION_ROWS]
            answer = self.call("DELETE", "composite/sobjects", params={"ids": ",".join(chunk), "allOrNone": "false"})
            rows = tuple(Row(one, "", {}, one, one) for one in chunk)
            written = rows_of(Collection("composite/sobjects", rows), answer.status, answer.body)
            failed |= {one: why for one, why in written.refused.items() if not why.missing}
        return failed

    def empty_bin(self, record_ids: Sequence[str]) -> None:
        """Remove records from the recycle bin for good; what cannot be removed leaves it after 15 days (documented)."""
        for start in range(0, len(record_ids), IDS_PER_CALL):
            chunk = record_ids[start : start + IDS_PER_CALL]
            self.call_soap(lambda session_id, chunk=chunk: empty_bin_call(chunk, session_id))  # type: ignore[misc]

    def merge(self, pairs: Sequence[tuple[str, str]]) -> list[SoapResult]:
        """Merge contacts: (survivor, merged into it). Cannot be undone."""
        results: list[SoapResult] = []
        for start in range(0, len(pairs), MERGES_PER_CALL):
            chunk = pairs[start : start + MERGES_PER_CALL]
            text = self.call_soap(lambda session_id, chunk=chunk: merge_call(chunk, session_id))  # type: ignore[misc]
            results += soap_results(text, len(chunk))
        return results


def in_queries(kind: str, columns: Iterable[str], by: str, values: Iterable[str], more: str = "") -> list[str]:
    """Queries for the records whose `by` is one of `values`, as many as the values need.

    Args:
        kind: object.
        columns: fields; `by` too they are names of our own or checked by the field map.
        by: field.
        values: anything; quoted by the library.
        more: what follows, e.g. a limit.
    """
    wanted = list(dict.fromkeys(values))
    select = f"SELECT {', '.join(dict.fromkeys(columns))} FROM {kind} WHERE {by} "  # noqa: S608  # names, see above
    return [
        select + format_soql("IN {}", wanted[start : start + _IN_VALUES]) + more
        for start in range(0, len(wanted), _IN_VALUES)
    ]


def _lost_its_parent(row: Row, whole: Written, later: Sequence[Row]) -> bool:
    """Whether a row was refused only because its parent's row, of the same group, is tried again."""
    why = whole.refused.get(row.key)
    return why is not None and why.no_parent and any(one.group == row.group and one.stage < row.stage for one in later)


def _described(answer: Answer) -> dict[str, DescribedField] | None:
    if not answer.ok:
        if answer.status in {400, 403, 404}:
            return None
        raise RejectedError(f"Salesforce: GET describe answered {answer.status}")
    listed = answer.body.get("fields") if isinstance(answer.body, dict) else None
    if not isinstance(listed, list):
        msg = "Salesforce: GET describe answered without fields; trying again later"
        raise UnavailableError(msg)
    return {str(one["name"]): _field(one) for one in listed if isinstance(one, dict) and "name" in one}


def _field(described: Mapping[str, Any]) -> DescribedField:
    kind = str(described.get("type"))
    return DescribedField(
        kind=_KINDS.get(kind),
        length=described.get("length") or None,
        createable=described.get("createable") is True,
        updateable=described.get("updateable") is True,
        key=described.get("externalId") is True and described.get("unique") is True,
        html=described.get("htmlFormatted") is True,
    )
