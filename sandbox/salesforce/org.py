"""The org's records: created, changed, deleted, merged and found again, under the rules that every API shares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sandbox.base import Clock
from sandbox.salesforce.access import STANDARD_RIGHTS, PermissionSet, User
from sandbox.salesforce.duplicates import DuplicateHeader, DuplicateRule, duplicates_detected
from sandbox.salesforce.files import complete_version
from sandbox.salesforce.ids import make_id, read_id
from sandbox.salesforce.refusals import Refusal, no_such_column, not_found, too_few_rights, unreadable
from sandbox.salesforce.schema import Field, ObjectType, Schema
from sandbox.salesforce.values import read_value, stamp

Record = dict[str, Any]
KEPT_IN_REST = "attributes"
_RECORD_KILOBYTES = 2


@dataclass(slots=True)
class Caller:
    """One API call: who makes it, what its headers ask for, and the key under which it holds row locks."""

    user: User
    duplicates: DuplicateHeader = field(default_factory=DuplicateHeader)
    key: object = field(default_factory=object)


class Org:
    """Records by object type and id, each a dict of field values; deleted ones stay, with `IsDeleted`.

    Args:
        schema: the object types; a deploy replaces it.
        clock: the stand-in's time.
        duplicate_rules: the active ones.
        storage_limit_kilobytes: data storage; 2 KB a record.
    """

    def __init__(
        self,
        schema: Schema,
        clock: Clock,
        *,
        duplicate_rules: Iterable[DuplicateRule] = (),
        storage_limit_kilobytes: int = 10_000_000,
    ) -> None:
        self.schema = schema
        self.storage_limit_kilobytes = storage_limit_kilobytes
        self.duplicate_rules = list(duplicate_rules)
        self.permission_sets: dict[str, PermissionSet] = {}
        self.locks: dict[str, object] = {}
        self.clock = clock
        self._tables: dict[str, dict[str, Record]] = {}
        self._index: dict[tuple[str, ...], dict[Any, set[str]]] = {}
        self._live_rows = 0
        self._numbers: dict[str, int] = {}
        self._undo: list[tuple[str, str, Record | None]] | None = None

    def use(self, schema: Schema) -> None:
        """Take over a changed schema: old records get the new fields, and are found by them."""
        self.schema = schema
        self._index.clear()
        self._live_rows = 0
        for name, table in list(self._tables.items()):
            fields = schema.types[name].fields
            old, self._tables[name] = table, {}
            for record_id, record in old.items():
                self._keep(name, record_id, {one.name: record.get(one.name, one.default) for one in fields.values()})

    def now(self) -> str:
        """This moment as Salesforce writes it."""
        return stamp(self.clock.now())

    # -- reading

    def table(self, name: str) -> dict[str, Record]:
        """All records of an object type, deleted ones too, in the order of creation."""
        return self._tables.setdefault(name, {})

    def live(self, name: str) -> list[Record]:
        """The records that are not deleted."""
        return [one for one in self.table(name).values() if not one["IsDeleted"]]

    def used_kilobytes(self) -> int:
        """Data storage in use."""
        return _RECORD_KILOBYTES * self._live_rows

    def record(self, kind: ObjectType, text: str) -> Record:
        """The live record of this id.

        Raises:
            Refusal: MALFORMED_ID, NOT_FOUND or ENTITY_IS_DELETED.
        """
        record_id = read_id(text)
        if record_id is None or record_id[:3] != kind.prefix:
            raise Refusal("MALFORMED_ID", f"malformed id {text}", fields=["Id"])
        found = self.table(kind.name).get(record_id)
        if found is None:
            raise not_found("Provided external ID field does not exist or is not accessible: " + text)
        if found["IsDeleted"]:
            raise Refusal("ENTITY_IS_DELETED", "entity is deleted", status=404, fields=())
        return found

    def holders(self, kind: ObjectType, key: Field, value: Any) -> list[Record]:
        """The live records whose external id (or id) is `value`."""
        if key.type == "id":
            found = self.table(kind.name).get(read_id(str(value)) or "")
            return [found] if found and not found["IsDeleted"] else []
        found_ids = self._index.get((kind.name, key.name), {}).get(_folded(key, value), ())
        return [self.table(kind.name)[one] for one in sorted(found_ids)]

    # -- rights

    def sets_of(self, user: User) -> list[PermissionSet]:
        """The permission sets assigned to a user."""
        names = {record["Id"]: record["Name"] for record in self.live("PermissionSet")}
        given = [one for one in self.live("PermissionSetAssignment") if one["AssigneeId"] == user.user_id]
        return [self.permission_sets[names[one["PermissionSetId"]]] for one in given if one["PermissionSetId"] in names]

    def may(self, user: User, kind: ObjectType, verb: str) -> bool:
        """Whether the user may read, create, edit or delete records of an object type."""
        if kind.name == "PermissionSetAssignment" and verb != "read":
            return user.everything or user.may_deploy
        if user.everything or (not kind.custom and kind.name in STANDARD_RIGHTS):
            return True
        return any(verb in one.objects.get(kind.name, ()) for one in self.sets_of(user))

    def _assigned(self, record: Record) -> bool:
        pair = (record["AssigneeId"], record["PermissionSetId"])
        return any((one["AssigneeId"], one["PermissionSetId"]) == pair for one in self.live("PermissionSetAssignment"))

    def sees(self, user: User, kind: ObjectType, one: Field, *, editing: bool = False) -> bool:
        """Whether a field is readable (or editable) for the user."""
        if user.everything or not one.permissionable:
            return True
        opened = [given.fields.get((kind.name, one.name)) for given in self.sets_of(user)]
        return any(opened) if editing else any(given is not None for given in opened)

    def field(self, user: User, kind: ObjectType, name: str) -> Field:
        """The field that the user means.

        Raises:
            Refusal: INVALID_FIELD, also when the field is there but hidden.
        """
        found = kind.find(name)
        if found is None or not self.sees(user, kind, found):
            raise no_such_column(kind.name, name)
        return found

    def key_field(self, user: User, kind: ObjectType, name: str) -> Field:
        """The external id field (or Id) that an address names.

        Raises:
            Refusal: NOT_FOUND.
        """
        found = kind.find(name)
        if found is None or not (found.external_id or found.type == "id") or not self.sees(user, kind, found):
            raise not_found(f"Provided external ID field does not exist or is not accessible: {name}")
        return found

    def object_type(self, user: User, name: str) -> ObjectType:
        """The object type that a path names.

        Raises:
            Refusal: NOT_FOUND, also when the user has no right to see it.
        """
        found = self.schema.find(name)
        if found is None or not self.may(user, found, "read"):
            raise not_found()
        return found

    # -- writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: an exception inside takes every change back. May be nested."""
        outer, self._undo = self._undo, []
        try:
            yield
        except BaseException:
            for name, record_id, before in reversed(self._undo):
                self._keep(name, record_id, before)
            self._undo = outer
            raise
        else:
            if outer is not None:
                outer.extend(self._undo)
            self._undo = outer

    def create(self, caller: Caller, kind: ObjectType, row: Record, *, csv: bool = False) -> str:
        """A new record; its id.

        Raises:
            Refusal: for the reason that Salesforce would give; then nothing has changed.
        """
        if not kind.createable or not self.may(caller.user, kind, "create"):
            raise Refusal("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", f"entity type {kind.name} does not support create")
        values = self.read_row(caller, kind, row, creating=True, csv=csv)
        missing = [one.name for one in kind.fields.values() if one.required and values.get(one.name) is None]
        if missing:
            message = f"Required fields are missing: [{', '.join(missing)}]"
            raise Refusal("REQUIRED_FIELD_MISSING", message, fields=missing)
        if kind.name not in STANDARD_SETUP and self.used_kilobytes() + _RECORD_KILOBYTES > self.storage_limit_kilobytes:
            raise Refusal("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", fields=())
        record = {name: values.get(name, one.default) for name, one in kind.fields.items()}
        record.update(self._made(kind, caller.user), Id=make_id(kind.prefix, self._next_number(kind.name)))
        if record.get("OwnerId", "") is None:
            record["OwnerId"] = caller.user.user_id
        _fill_names(kind, record, self._numbers[kind.name])
        self._check_unique(kind, record, set(values))
        self._check_duplicates(caller, kind, record, set(values))
        self._lock(caller, kind, record, set(values))
        if kind.name == "ContentVersion":
            complete_version(self, caller.user, record)
        if kind.name == "PermissionSetAssignment" and self._assigned(record):
            raise Refusal(
                "DUPLICATE_VALUE", "duplicate PermissionSetAssignment. Assignee: " + record["AssigneeId"], fields=()
            )
        self.put(kind.name, record)
        return str(record["Id"])

    def update(self, caller: Caller, kind: ObjectType, record: Record, row: Record, *, csv: bool = False) -> None:
        """Change a record.

        Raises:
            Refusal: for the reason that Salesforce would give; then nothing has changed.
        """
        if not kind.updateable or not self.may(caller.user, kind, "edit"):
            raise too_few_rights()
        values = self.read_row(caller, kind, row, creating=False, csv=csv)
        changed = {**record, **values, **self._touched(caller.user)}
        _fill_names(kind, changed, self._numbers[kind.name])
        self._check_unique(kind, changed, set(values))
        self._check_duplicates(caller, kind, changed, set(values))
        self._lock(caller, kind, changed, set(values))
        self.put(kind.name, changed)

    def upsert(
        self, caller: Caller, kind: ObjectType, key: Field, value: Any, row: Record, *, csv: bool = False
    ) -> tuple[str, bool]:
        """Change the record whose external id is `value`, or make one; its id, and whether it is new.

        Raises:
            Refusal: MULTIPLE_CHOICES (300) when several have it, else as in `create` and `update`.
        """
        wanted = read_value(key, value, csv=csv)
        if wanted is None:
            raise Refusal("MISSING_ARGUMENT", f"{key.name} not specified", fields=())
        found = self.holders(kind, key, wanted)
        if len(found) > 1:
            raise Refusal("DUPLICATE_EXTERNAL_ID", f"{key.name}: more than one record found for external id field: "
                          f"[{', '.join(one['Id'] for one in found)}]", status=300, fields=[key.name],
                          more={"ids": [one["Id"] for one in found]})  # fmt: skip
        if found:
            self.update(caller, kind, found[0], row, csv=csv)
            return str(found[0]["Id"]), False
        if key.type == "id":
            raise not_found()
        return self.create(caller, kind, {**row, key.name: value}, csv=csv), True

    def delete(self, caller: Caller, kind: ObjectType, record: Record) -> None:
        """Put a record into the recycle bin, with what hangs on it by a cascading lookup.

        Raises:
            Refusal: no right, a lock, or a lookup that forbids it.
        """
        if not kind.deletable or not self.may(caller.user, kind, "delete"):
            raise too_few_rights()
        self._take_lock(caller, record["Id"])
        for child, one in self.schema.lookups_to(kind.name):
            pointing = [row for row in self.live(child.name) if row.get(one.name) == record["Id"]]
            if pointing and one.delete_constraint == "Restrict":
                message = f"Your attempt to delete {record['Id']} could not be completed because it is associated with "
                raise Refusal("DELETE_FAILED", f"{message}the following {child.plural}", fields=())
            for row in pointing:
                if one.delete_constraint == "Cascade":
                    self.delete(Caller(caller.user, key=caller.key), child, row)
                elif one.nillable:
                    self.put(child.name, {**row, one.name: None})
        self.put(kind.name, {**record, "IsDeleted": True, **self._touched(caller.user)})

    def undelete(self, caller: Caller, kind: ObjectType, record_id: str) -> None:
        """Bring a record back from the recycle bin.

        Raises:
            Refusal: it is not there, or its unique value was taken in the meantime.
        """
        record = self.table(kind.name).get(record_id)
        if record is None or not record["IsDeleted"]:
            raise Refusal("UNDELETE_FAILED", "Entity is not in the recycle bin", fields=())
        self._check_unique(kind, record, set(record))
        self.put(kind.name, {**record, "IsDeleted": False, **self._touched(caller.user)})

    def purge(self, caller: Caller, text: str) -> None:
        """Remove a record from the recycle bin for good.

        Raises:
            Refusal: it is not in the bin, or the user has no right.
        """
        kind = self.schema.of_id(text)
        record = self.table(kind.name).get(read_id(text) or "") if kind else None
        if kind is None or record is None:
            raise Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=())
        if not self.may(caller.user, kind, "delete"):
            raise too_few_rights()
        if not record["IsDeleted"]:
            raise Refusal("INVALID_ID_FIELD", "entity is not in the recycle bin", fields=())
        self._keep(kind.name, record["Id"], None)

    def merge(self, caller: Caller, kind: ObjectType, master: Record, victims: list[Record], row: Record) -> list[str]:
        """Merge `victims` into `master`, setting the fields of `row` on it; the ids of what was re-parented.

        A unique value of a victim cannot be given to the master in the same call: assumed, the careful reading.
        """
        if not self.may(caller.user, kind, "edit") or not self.may(caller.user, kind, "delete"):
            raise too_few_rights()
        for one in (master, *victims):
            self._take_lock(caller, one["Id"])
        if row:
            self.update(caller, kind, master, row, csv=True)
        gone = {one["Id"] for one in victims}
        moved: list[str] = []
        for child, lookup in self.schema.lookups_to(kind.name):
            for record in [one for one in self.live(child.name) if one.get(lookup.name) in gone]:
                if child.name == kind.name and (record["Id"] in gone or lookup.name == "MasterRecordId"):
                    continue
                self.put(child.name, {**record, lookup.name: master["Id"], "SystemModstamp": self.now()})
                moved.append(record["Id"])
        for one in victims:
            self.put(
                kind.name, {**one, "IsDeleted": True, "MasterRecordId": master["Id"], **self._touched(caller.user)}
            )
        current = self.table(kind.name)[master["Id"]]
        self.put(kind.name, {**current, **self._touched(caller.user)})
        return moved

    def put(self, name: str, record: Record) -> None:
        """Keep a record as it is given, without any rule."""
        before = self.table(name).get(record["Id"])
        if self._undo is not None:
            self._undo.append((name, record["Id"], before))
        self._keep(name, record["Id"], record)

    def make(self, name: str, user: User, **values: Any) -> str:
        """A record of the org's own (a user, a permission set, a document), without any rule; its id."""
        kind = self.schema.get(name)
        record = {one.name: values.get(one.name, one.default) for one in kind.fields.values()}
        record_id = values.get("Id") or make_id(kind.prefix, self._next_number(name))
        self.put(name, {**record, **self._made(kind, user), "Id": record_id})
        return str(record_id)

    def release(self, caller: Caller) -> None:
        """Give back the row locks of a finished call."""
        self.locks = {one: key for one, key in self.locks.items() if key is not caller.key}

    # -- one row of a request

    def read_row(self, caller: Caller, kind: ObjectType, row: Record, *, creating: bool, csv: bool) -> Record:
        """The field values that a row sets, checked.

        Raises:
            Refusal: for the first field that does not fit.
        """
        values: Record = {}
        refused: list[str] = []
        for name, value in row.items():
            if name == KEPT_IN_REST:
                continue
            one, value = self._parent(caller, kind, name, value) if _is_parent(kind, name, value) else (
                self.field(caller.user, kind, name), value
            )  # fmt: skip
            if not (one.createable if creating else one.updateable) or not self.sees(
                caller.user, kind, one, editing=True
            ):
                refused.append(one.name)
                continue
            values[one.name] = read_value(one, value, csv=csv)
            if one.filled and values[one.name] is None:
                del values[one.name]
        if refused:
            message = (
                f"Unable to create/update fields: {', '.join(refused)}. Please check the security settings of this "
                "field and verify that it is read/write for your profile or permission set."
            )
            raise Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, fields=refused)
        for name, value in values.items():
            if kind.fields[name].type == "reference" and value is not None:
                self._check_parent(kind.fields[name], value)
        return values

    def unknown_columns(self, caller: Caller, kind: ObjectType, row: Record) -> None:
        """Refuse a row that names a field that is not there: a request is read as a whole before any row is done."""
        for name, value in row.items():
            if name != KEPT_IN_REST and not _is_parent(kind, name, value):
                self.field(caller.user, kind, name)

    def _parent(self, caller: Caller, kind: ObjectType, name: str, value: Any) -> tuple[Field, Any]:
        """A parent named by its external id: the lookup, and the parent's id."""
        lookup = kind.relationship(name.partition(".")[0])
        if lookup is None or not self.sees(caller.user, kind, lookup):
            raise no_such_column(kind.name, name)
        if value is None or value == "":
            return lookup, None
        told = {name.partition(".")[2]: value} if "." in name else value
        named = {one: told[one] for one in told if one != KEPT_IN_REST}
        typed = (told.get(KEPT_IN_REST) or {}).get("type") if "." not in name else None
        if len(named) != 1:
            raise unreadable(f"The relationship {name} must name its parent by exactly one external id")
        [(key_name, key_value)] = named.items()
        for target in [typed] if typed else lookup.reference_to:
            parent = self.schema.get(target)
            key = parent.find(key_name)
            if key is None or not (key.external_id or key.type == "id") or not self.sees(caller.user, parent, key):
                continue
            found = self.holders(parent, key, key_value)
            if len(found) == 1:
                return lookup, found[0]["Id"]
            message = f"Foreign key external ID: {key_value} not found for field {key.name} in entity {parent.name}"
            raise Refusal("INVALID_FIELD", message, fields=())
        raise no_such_column("/".join(lookup.reference_to), key_name)

    def _check_parent(self, lookup: Field, record_id: str) -> None:
        kind = self.schema.of_id(record_id)
        if kind is None or kind.name not in lookup.reference_to:
            message = f"{lookup.label}: id value of incorrect type: {record_id}"
            raise Refusal("FIELD_INTEGRITY_EXCEPTION", message, fields=[lookup.name])
        found = self.table(kind.name).get(record_id)
        if found is None:
            raise Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=())
        if found["IsDeleted"]:
            raise Refusal("ENTITY_IS_DELETED", "entity is deleted", fields=())

    def _check_unique(self, kind: ObjectType, record: Record, changed: set[str]) -> None:
        for one in kind.fields.values():
            if not one.unique or one.name not in changed or record.get(one.name) is None:
                continue
            others = [found for found in self.holders(kind, one, record[one.name]) if found["Id"] != record["Id"]]
            if others:
                message = (
                    f"duplicate value found: {one.name} duplicates value on record with id: {others[0]['Id'][:15]}"
                )
                raise Refusal("DUPLICATE_VALUE", message, fields=())

    def _check_duplicates(self, caller: Caller, kind: ObjectType, record: Record, changed: set[str]) -> None:
        for rule in self.duplicate_rules:
            if rule.object_name != kind.name or not rule.touched(changed):
                continue
            if caller.duplicates.allow_save and not rule.blocks:
                continue
            found_ids = {
                one for name, key in rule.keys(record) for one in self._index.get(name, {}).get(key, ())
            } - {record["Id"]}  # fmt: skip
            if found_ids:
                shown = [
                    {"attributes": {"type": kind.name, "url": f"/services/data/sobjects/{kind.name}/{one}"},
                     **self.table(kind.name)[one]}
                    for one in sorted(found_ids)
                ]  # fmt: skip
                raise duplicates_detected(rule, shown, caller.duplicates)

    def _lock(self, caller: Caller, kind: ObjectType, record: Record, changed: set[str]) -> None:
        """Lock the row and each parent that the call names; that a lookup always locks its parent: the worst case."""
        self._take_lock(caller, record["Id"])
        for name in sorted(changed):
            parent = record.get(name)
            if kind.fields[name].type == "reference" and kind.fields[name].reference_to != ("User",) and parent:
                self._take_lock(caller, parent)

    def _take_lock(self, caller: Caller, record_id: str) -> None:
        if self.locks.setdefault(record_id, caller.key) is not caller.key:
            message = f"unable to obtain exclusive access to this record or 1 records: {record_id}"
            raise Refusal("UNABLE_TO_LOCK_ROW", message, fields=())

    def _made(self, kind: ObjectType, user: User) -> Record:
        made = {"IsDeleted": False, "CreatedDate": self.now(), "CreatedById": user.user_id, **self._touched(user)}
        return {name: value for name, value in made.items() if name in kind.fields}

    def _touched(self, user: User) -> Record:
        now = self.now()
        return {"LastModifiedDate": now, "LastModifiedById": user.user_id, "SystemModstamp": now}

    def _next_number(self, name: str) -> int:
        self._numbers[name] = self._numbers.get(name, 0) + 1
        return self._numbers[name]

    def _keep(self, name: str, record_id: str, record: Record | None) -> None:
        """Put `record` (or nothing) in the place of what was there, and keep the index and the count right."""
        counted = name not in STANDARD_SETUP
        before = self.table(name).get(record_id)
        if before is not None and not before["IsDeleted"]:
            self._live_rows -= counted
            for index, key in self._keys(name, before):
                self._index[index][key].discard(record_id)
        if record is None:
            self.table(name).pop(record_id, None)
            return
        self.table(name)[record_id] = record
        if not record["IsDeleted"]:
            self._live_rows += counted
            for index, key in self._keys(name, record):
                self._index.setdefault(index, {}).setdefault(key, set()).add(record_id)

    def _keys(self, name: str, record: Record) -> Iterator[tuple[tuple[str, ...], Any]]:
        for one in self.schema.types[name].fields.values():
            if (one.unique or one.external_id) and record.get(one.name) is not None:
                yield (name, one.name), _folded(one, record[one.name])
        for rule in self.duplicate_rules:
            if rule.object_name == name:
                yield from rule.keys(record)


STANDARD_SETUP = frozenset({"User", "Organization", "PermissionSet", "PermissionSetAssignment"})


def _folded(key: Field, value: Any) -> str:
    text = str(value).strip()
    return text if key.case_sensitive else text.lower()


def _is_parent(kind: ObjectType, name: str, value: Any) -> bool:
    return isinstance(value, dict) or "." in name or (kind.find(name) is None and kind.relationship(name) is not None)


def _fill_names(kind: ObjectType, record: Record, made: int) -> None:
    """Names that the org makes: a person's from its parts, an AutoNumber, an id where a Text name was left out."""
    if "LastName" in kind.fields:
        record["Name"] = " ".join(part for part in (record["FirstName"], record["LastName"]) if part)
    elif kind.custom and "Name" in kind.fields and record["Name"] is None:
        digits = re.search(r"\{(0+)\}", kind.name_format or "")
        number = str(made).zfill(len(digits.group(1))) if digits else ""
        record["Name"] = str(kind.name_format).replace(digits.group(), number) if digits else record["Id"][:15]
