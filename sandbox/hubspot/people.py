"""What people do in HubSpot's own pages: handles for the tests, and the same as routes for the demo."""

from __future__ import annotations

import threading

from werkzeug.wrappers import Request, Response

from sandbox.base import json_response
from sandbox.hubspot.crm import Crm
from sandbox.hubspot.objects import CONTACTS, Source
from sandbox.hubspot.refusals import not_found
from sandbox.hubspot.wire import Table, body_of

_MAY_SET = ("hs_additional_emails",)


class People:
    """Mixed into the app, which has the account's records."""

    crm: Crm
    lock: threading.RLock

    def people_table(self) -> Table:
        """The routes under ``/_sandbox/contacts``."""
        person = "/_sandbox/contacts"
        return [
            ("POST", person, self._person_creates),
            ("POST", f"{person}/merge", self._person_merges),
            ("POST", f"{person}/<record_id>/restore", self._person_restores),
            ("POST", f"{person}/<record_id>/activities", self._person_logs),
            ("PATCH", f"{person}/<record_id>", self._person_edits),
            ("DELETE", f"{person}/<record_id>", self._person_deletes),
        ]

    def create_contact_as_person(self, properties: dict[str, str], *, user_id: int = 9001) -> str:
        """A person adds a contact; returns its id."""
        with self.lock:
            return self.crm.create(CONTACTS, properties, _person(user_id), may_set=_MAY_SET).record_id

    def edit_contact_as_agent(self, contact_id: str, properties: dict[str, str], *, user_id: int = 9001) -> None:
        """An agent saves properties of a contact; all get one timestamp, and a history entry if they changed."""
        with self.lock:
            record = self.crm.current(CONTACTS, contact_id)
            if record is None:
                raise not_found()
            self.crm.update(record, properties, _person(user_id), may_set=_MAY_SET)

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
        body = body_of(request)
        contact_id = self.create_contact_as_person(body.get("properties") or {}, user_id=body.get("user_id", 9001))
        return json_response({"id": contact_id}, 201)

    def _person_edits(self, request: Request, record_id: str) -> Response:
        body = body_of(request)
        self.edit_contact_as_agent(record_id, body.get("properties") or {}, user_id=body.get("user_id", 9001))
        return json_response({})

    def _person_merges(self, request: Request) -> Response:
        body = body_of(request)
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
        activity_id = self.log_activity_as_agent(record_id, str(body_of(request).get("type", "notes")))
        return json_response({"id": activity_id}, 201)


def _person(user_id: int) -> Source:
    return Source("CRM_UI", f"userId:{user_id}", user_id)
