"""What people do in the org's own pages, and what goes wrong on demand: handles for tests and the demo.

People see and edit everything, and save past duplicate alerts. None of this counts as an API call.
"""

from __future__ import annotations

import base64
import threading
from typing import Any

from sandbox.base import Clock, Fault
from sandbox.salesforce.access import Sessions, User
from sandbox.salesforce.deploys import Deploy, Deploys
from sandbox.salesforce.duplicates import DuplicateHeader, DuplicateRule
from sandbox.salesforce.limits import Quota
from sandbox.salesforce.org import Caller, Org, Record
from sandbox.salesforce.refusals import Refusal, not_found

CONVERSATION, MESSAGE = "Conversation__c", "Message__c"
_PERSON = object()  # the key under which a person holds a row
_ALERTS_IGNORED = DuplicateHeader(allow_save=True)


class People:
    """Mixed into the app, which has the org, its users, its sessions and its quota."""

    org: Org
    users: dict[str, User]
    lock: threading.RLock
    clock: Clock
    faults: list[Fault]
    sessions: Sessions
    quota: Quota
    deploys: Deploys
    waiting: threading.Semaphore
    _slow_seconds: float
    _released: threading.Event

    def create_as_person(self, type_name: str, values: Record, *, username: str = "ada.agent@shop.example") -> str:
        """A person adds a record; its id."""
        with self.lock:
            caller = self._person(username)
            record_id = self.org.create(caller, self.org.schema.get(type_name), values)
            self.org.release(caller)
            return record_id

    def create_contact_as_person(self, **values: Any) -> str:
        """A person adds a Contact; its id."""
        return self.create_as_person("Contact", values)

    def edit_as_person(self, record_id: str, values: Record, *, username: str = "ada.agent@shop.example") -> None:
        """A person saves fields of a record."""
        with self.lock:
            caller, (kind, record) = self._person(username), self._record(record_id)
            self.org.update(caller, kind, record, values)
            self.org.release(caller)

    def write_reply_as_agent(
        self, conversation_id: str, text: str, *, username: str = "ada.agent@shop.example", **values: Any
    ) -> str:
        """An agent writes a reply on a conversation: an outbound message that waits to be sent; its id."""
        reply = {"Conversation__c": conversation_id, "Direction__c": "Outbound", "Status__c": "Queued", "Body__c": text}
        return self.create_as_person(MESSAGE, {**reply, **values}, username=username)

    def merge_contacts_as_admin(self, master_id: str, *other_ids: str) -> str:
        """An admin merges Contacts; empty fields of the master are filled from the others. The master's id."""
        with self.lock:
            kind, caller = self.org.schema.get("Contact"), self._person("admin@shop.example")
            master, others = self.org.record(kind, master_id), [self.org.record(kind, one) for one in other_ids]
            with self.org.transaction():
                self.org.merge(caller, kind, master, others, {})
                fields = [one for one in kind.fields.values() if one.updateable and master.get(one.name) is None]
                filled = {
                    one.name: next((other[one.name] for other in others if other.get(one.name) is not None), None)
                    for one in fields
                }  # fmt: skip
                taken = {name: value for name, value in filled.items() if value is not None}
                self.org.update(caller, kind, self.org.record(kind, master_id), taken)
            self.org.release(caller)
            return str(master["Id"])

    def delete_as_admin(self, record_id: str) -> None:
        """An admin deletes a record; it goes to the recycle bin."""
        with self.lock:
            caller, (kind, record) = self._person("admin@shop.example"), self._record(record_id)
            with self.org.transaction():
                self.org.delete(caller, kind, record)
            self.org.release(caller)

    def restore_as_admin(self, record_id: str) -> None:
        """An admin brings a record back from the recycle bin."""
        with self.lock:
            kind = self.org.schema.of_id(record_id)
            if kind is None:
                raise not_found()
            self.org.undelete(self._person("admin@shop.example"), kind, record_id)

    def install_package_as_admin(self, data: bytes, *, assign: bool = True) -> list[str]:
        """An admin deploys a zip of metadata and gives its permission sets to the integration user; their names.

        Raises:
            Refusal: with the first problem, when a component does not fit.
        """
        with self.lock:
            admin = self.users["admin@shop.example"]
            before = set(self.org.permission_sets)
            deploy = Deploy("", admin, self.org.now(), check_only=False, rollback=True, polls_left=0)
            self.deploys.install(data, deploy)
            if deploy.failures:
                first = deploy.failures[0]
                raise Refusal("DEPLOY_FAILED", f"{first.type_name} {first.full_name}: {first.problem}")
            made = [one for one in self.org.permission_sets if one not in before]
            for record in self.org.live("PermissionSet"):
                if assign and record["Name"] in made:
                    self.assign_permission_set(record["Name"])
            return made

    def assign_permission_set(self, name: str, *, username: str = "integration@shop.example") -> None:
        """An admin gives a user a permission set."""
        with self.lock:
            found = next(one for one in self.org.live("PermissionSet") if one["Name"] == name)
            values = {"AssigneeId": self.users[username].user_id, "PermissionSetId": found["Id"]}
            self.create_as_person("PermissionSetAssignment", values, username="admin@shop.example")

    def withdraw_permission_set(self, name: str, *, username: str = "integration@shop.example") -> None:
        """An admin takes a permission set away from a user."""
        with self.lock:
            found = next(one for one in self.org.live("PermissionSet") if one["Name"] == name)
            for one in self.org.live("PermissionSetAssignment"):
                if (one["AssigneeId"], one["PermissionSetId"]) == (self.users[username].user_id, found["Id"]):
                    self.delete_as_admin(one["Id"])

    def use_duplicate_rules(self, *rules: DuplicateRule) -> None:
        """An admin changes the active duplicate rules."""
        with self.lock:
            self.org.duplicate_rules = list(rules)
            self.org.use(self.org.schema)

    # -- what goes wrong

    def lock_row(self, record_id: str) -> None:
        """Somebody holds a record until `unlock_row`: UNABLE_TO_LOCK_ROW for it and for children that name it."""
        with self.lock:
            self.org.locks[record_id] = _PERSON

    def unlock_row(self, record_id: str) -> None:
        """The record is free again."""
        with self.lock:
            self.org.locks.pop(record_id, None)

    def exhaust_quota(self, *, remaining: int = 0) -> None:
        """Other integrations have used the day's API calls but for `remaining`."""
        with self.lock:
            now = self.clock.epoch()
            self.quota.limit = self.quota.used(now) + remaining

    def expire_sessions(self) -> None:
        """Every access token is dead: INVALID_SESSION_ID until a new login."""
        with self.lock:
            self.sessions.close()

    def fill_storage(self, *, kilobytes_left: int = 0) -> None:
        """Data storage is full but for so much: STORAGE_LIMIT_EXCEEDED."""
        with self.lock:
            self.org.storage_limit_kilobytes = self.org.used_kilobytes() + kilobytes_left

    def slow_down(self, seconds: float) -> None:
        """Every writing call takes so long and keeps its row locks meanwhile, until `speed_up`.

        Each call that has done its work and waits releases `waiting` once, so that a test can know that it is there.
        """
        with self.lock:
            self._released.clear()
            self._slow_seconds = seconds

    def speed_up(self) -> None:
        """Calls answer at once again, those that wait now too."""
        with self.lock:
            self._slow_seconds = 0.0
        self._released.set()

    def be_unavailable(self, *, times: int = 1, path: str = "/services/", done: bool = False) -> None:
        """The next calls are 503 SERVER_UNAVAILABLE; with `done` the work is done all the same."""
        body = [{"message": "The server is temporarily unavailable", "errorCode": "SERVER_UNAVAILABLE"}]
        with self.lock:
            self.faults.append(Fault(path, 503, times, "after" if done else "before", body))

    def time_out(self, *, times: int = 1, path: str = "/services/data/", seconds: float = 600.0) -> None:
        """The next calls do their work but answer only after `seconds` (Salesforce ends calls after ten minutes)."""
        with self.lock:
            self.faults.append(Fault(path, times=times, when="hang", delay_seconds=seconds))

    # -- shared by the handles

    def _person(self, username: str) -> Caller:
        return Caller(self.users[username], _ALERTS_IGNORED)

    def _record(self, record_id: str) -> tuple[Any, Record]:
        kind = self.org.schema.of_id(record_id)
        if kind is None:
            raise not_found()
        return kind, self.org.record(kind, record_id)


def run_handle(people: People, name: str, arguments: dict[str, Any]) -> Any:
    """One handle by its name, with JSON arguments; a zip comes as base64 in ``data``.

    Raises:
        Refusal: there is no such handle.
    """
    if name not in HANDLES:
        raise not_found(f"no handle named {name}")
    if "data" in arguments:
        arguments = {**arguments, "data": base64.b64decode(arguments["data"])}
    others = arguments.pop("other_ids", ())
    if name == "merge_contacts_as_admin":
        return people.merge_contacts_as_admin(arguments["master_id"], *others)
    return getattr(people, name)(**arguments)


HANDLES = frozenset({
    "create_as_person", "create_contact_as_person", "edit_as_person", "write_reply_as_agent", "merge_contacts_as_admin",
    "delete_as_admin", "restore_as_admin", "install_package_as_admin", "assign_permission_set",
    "withdraw_permission_set", "lock_row", "unlock_row", "exhaust_quota", "expire_sessions", "fill_storage",
    "slow_down", "speed_up", "be_unavailable", "time_out",
})  # fmt: skip
