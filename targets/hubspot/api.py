"""HubSpot's CRM API as this target uses it: records in batches told apart one by one, and associations.

How a call is made is in `targets.hubspot.connection`. Source: developers.hubspot.com/docs/api-reference, CRM objects,
properties and associations, read 2026-11, documented; what is otherwise is said where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mappings.errors import OutcomeUnknownError, RejectedError, UnavailableError
from targets.hubspot.answers import Answer, Input, Refused, Written, object_in, refusal, rejected, sort_out
from targets.hubspot.connection import Connection

CONTACTS = "contacts"
COMMUNICATIONS = "communications"
NOTES = "notes"
ACTIVITY_KINDS = (COMMUNICATIONS, NOTES)
TO_CONTACT = {
    kind: {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id}
    for kind, type_id in ((COMMUNICATIONS, 81), (NOTES, 202))
}
"""Documented: developers.hubspot.com/docs/api-reference/crm-associations-v4/guide, table of type ids."""

_READ_BATCH = 100
_READ_HISTORY_BATCH = 50
_ASSOCIATION_READ_BATCH = 1000


class HubSpotApi(Connection):
    """Reads and writes records of one HubSpot account; errors of every call: see `Connection`."""

    # What this target needs, by purpose

    def account_details(self) -> Answer:
        """Portal id, account type, time zone."""
        return self.call("GET", self.paths.account_details(), "account-info/details")

    def properties(self, kind: str) -> Answer:
        """All property definitions of an object type."""
        return self.call("GET", self.paths.properties(kind), f"properties/{kind}")

    def create_property(self, kind: str, body: Input) -> Answer:
        """Add a property."""
        return self.call("POST", self.paths.properties(kind), f"properties/{kind}", body=body)

    def update_property(self, kind: str, name: str, body: Input) -> Answer:
        """Change a property, for example its options."""
        return self.call("PATCH", self.paths.properties(kind, name), f"properties/{kind}/{name}", body=body)

    def property_groups(self, kind: str) -> Answer:
        """All property groups of an object type."""
        return self.call("GET", self.paths.properties(kind, "groups"), f"properties/{kind}/groups")

    def create_property_group(self, kind: str, body: Input) -> Answer:
        """Add a property group."""
        return self.call("POST", self.paths.properties(kind, "groups"), f"properties/{kind}/groups", body=body)

    def first_page(self, kind: str) -> Answer:
        """One record of an object type: shows whether the token may read it."""
        return self.call("GET", self.paths.objects(kind), kind, query={"limit": 1})

    def fetch(
        self, kind: str, record_id: str, properties: Sequence[str], history: Sequence[str] = ()
    ) -> dict[str, Any] | None:
        """One record; ``None`` when it was deleted. An id that was merged away gives the survivor, with its own id."""
        query = {"properties": ",".join(properties)}
        if history:
            query["propertiesWithHistory"] = ",".join(history)
        answer = self.call("GET", self.paths.objects(kind, record_id), f"{kind}/id", query=query)
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
        answer = self.call("POST", self.paths.objects(kind, "batch", "read"), f"{kind}/batch/read", body=body)
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
        path = self.paths.objects(kind, "batch", verb)
        try:
            answer = self.call(
                "POST", path, f"{kind}/batch/{verb}", body={"inputs": list(chunk)}, repeatable=repeatable
            )
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
            path = self.paths.objects(kind, "batch", "archive")
            answer = self.call("POST", path, f"{kind}/batch/archive", body={"inputs": [{"id": one} for one in chunk]})
            if not answer.ok and answer.status != 404:
                raise rejected(f"POST {kind}/batch/archive", answer.status, answer.body)

    def purge_contact(self, record_id: str) -> bool:
        """Delete a contact for good, as privacy law asks; whether it was there."""
        path = self.paths.objects(CONTACTS, "gdpr-delete")
        answer = self.call("POST", path, "contacts/gdpr-delete", body={"objectId": record_id})
        if not answer.ok and answer.status != 404:
            raise rejected("POST contacts/gdpr-delete", answer.status, answer.body)
        return answer.ok

    def associate(self, kind: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Put activities of one kind on contacts' timelines: (activity id, contact id). Again is harmless.

        Returns:
            The pairs that HubSpot did not take: one of the two does not exist under that id.
        """
        failed = []
        for chunk in _chunks(list(pairs), self._settings.association_batch_size):
            failed += self._associate_chunk(kind, chunk)
        return failed

    def _associate_chunk(self, kind: str, chunk: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        inputs = [{"from": {"id": one}, "to": {"id": other}, "types": [TO_CONTACT[kind]]} for one, other in chunk]
        answer = self._batch_of_associations(kind, CONTACTS, "create", inputs)
        if answer.ok:
            done = {(str(one.get("fromObjectId")), str(one.get("toObjectId"))) for one in answer.listed("results")}
            return [pair for pair in chunk if pair not in done]
        if len(chunk) == 1:
            return list(chunk)
        middle = len(chunk) // 2
        return self._associate_chunk(kind, chunk[:middle]) + self._associate_chunk(kind, chunk[middle:])

    def dissociate(self, kind: str, pairs: Sequence[tuple[str, str]]) -> None:
        """Take activities of one kind off contacts' timelines; what is not there is no error."""
        for chunk in _chunks(list(pairs), self._settings.association_batch_size):
            inputs = [{"from": {"id": one}, "to": [{"id": other}]} for one, other in chunk]
            answer = self._batch_of_associations(kind, CONTACTS, "archive", inputs)
            if not answer.ok and answer.status != 404:
                raise rejected("POST associations/batch/archive", answer.status, answer.body)

    def activities_of(self, kind: str, contact_ids: Iterable[str]) -> dict[str, list[str]]:
        """The activities of one kind on these contacts' timelines; contacts without any are left out."""
        found: dict[str, list[str]] = {}
        waiting: list[Input] = [{"id": contact_id} for contact_id in dict.fromkeys(contact_ids)]
        while waiting:
            chunk, waiting = waiting[:_ASSOCIATION_READ_BATCH], waiting[_ASSOCIATION_READ_BATCH:]
            answer = self._batch_of_associations(CONTACTS, kind, "read", chunk)
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

    def _batch_of_associations(self, kind: str, other: str, verb: str, inputs: Sequence[Input]) -> Answer:
        path = self.paths.associations(kind, other, verb)
        return self.call("POST", path, f"associations/batch/{verb}", body={"inputs": list(inputs)})

    def has_associated(self, contact_id: str, kind: str) -> bool:
        """Whether anything of that object type is on the contact; a type that the account does not have is not.

        Raises:
            CredentialsError: the token may not see that type.
        """
        path = self.paths.associated(CONTACTS, contact_id, kind)
        answer = self.call("GET", path, f"contacts/id/associations/{kind}", query={"limit": 1})
        return answer.ok and bool(answer.listed("results"))


def _check_complete(endpoint: str, answer: Answer) -> None:
    """What could not be read must not look like what is not there: it would be created again."""
    unread = [one for one in answer.listed("errors") if one.get("category") not in {None, "OBJECT_NOT_FOUND"}]
    if answer.ok and (unread or not isinstance(answer.body.get("results"), list)):
        msg = f"HubSpot: {endpoint} answered {answer.status} in part only"
        raise UnavailableError(msg)


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
