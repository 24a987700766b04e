"""Which fact goes into which field of this org, checked against the org before the first write."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mappings.errors import SettingsError
from mappings.to_salesforce import CONTACT, CONVERSATION, MESSAGE, TASK, Fact
from targets.field_map import DescribedField, Facts, Kind, check_field_map, fitted, load_field_map
from targets.salesforce.api import SalesforceApi
from targets.salesforce.settings import SalesforceTargetSettings

_T: Kind = "text"
_D: Kind = "datetime"

FACTS: Facts = {
    "contact": {
        "person_id": _T, "made_by_onethread": "boolean", "channels": _T, "preferred_channel": _T,
        "last_message_in": _D, "last_message_out": _D, "unanswered_since": _D, "window_closes_at": _D,
        "opted_in": "choices", "opted_out": "choices", "first_name": _T, "last_name": _T, "email": _T, "phone": _T,
    },
    "conversation": {
        "external_id": _T, "contact": "reference", "name": _T, "channel": _T, "account": _T, "customer_handle": _T,
        "subject": _T, "first_message_at": _D, "last_message_in": _D, "last_message_out": _D, "unanswered_since": _D,
        "window_closes_at": _D, "message_count": "number",
    },
    "message": {
        "external_id": _T, "contact": "reference", "conversation": "reference", "channel": _T, "direction": _T,
        "kind": _T, "body": _T, "preview": _T, "sent_at": _D, "author": _T, "author_kind": _T, "status": _T,
        "error": _T, "attachments": _T, "in_reply_to": _T, "edited_at": _D, "removed_at": _D, "reactions": _T,
        "origin": _T,
    },
    "task": {
        "external_id": _T, "contact": "reference", "subject": _T, "body": _T, "day": "date", "status": _T,
        "priority": _T,
    },
}  # fmt: skip
"""What can be written: object -> fact -> its kind."""

NEEDED = {
    "contact": ("person_id", "last_name"),
    "conversation": ("external_id", "contact"),
    "message": ("external_id", "contact", "conversation"),
    "task": ("external_id", "contact"),
}
KEYS = {"contact": "person_id", "conversation": "external_id", "message": "external_id", "task": "external_id"}
OBJECTS = {"contact": CONTACT, "conversation": CONVERSATION, "message": MESSAGE, "task": TASK}
PACKAGED = Path(__file__).with_name("fields.yml")


class Fields:
    """The field map of one org."""

    def __init__(self, api: SalesforceApi, settings: SalesforceTargetSettings) -> None:
        self._api = api
        self._settings = settings
        self.map = load_field_map(settings.fields_file, PACKAGED, FACTS, NEEDED)

    @property
    def kinds(self) -> dict[str, str]:
        """Our name -> object, of what this org is given."""
        names = ("contact", "task") if self._settings.mode == "tasks" else ("contact", "conversation", "message")
        return {name: OBJECTS[name] for name in names}

    @property
    def message_kind(self) -> str:
        """What a message becomes."""
        return "task" if self._settings.mode == "tasks" else "message"

    def field(self, kind: str, fact: str) -> str:
        """The field of a fact that always has one."""
        return self.map.field(kind, fact)

    def key_field(self, kind: str) -> str:
        """The external id by which records are upserted."""
        return self.map.field(kind, KEYS[kind])

    def relationship(self, kind: str, fact: str) -> str:
        """The name by which a lookup's parent is reached: ``Contact__c`` -> ``Contact__r``."""
        return self.field(kind, fact).removesuffix("__c") + "__r"

    def fit(self, kind: str, values: Mapping[str, Fact]) -> dict[str, Any]:
        """Values as this org's fields take them. The first call asks the org.

        Raises:
            SettingsError: it is another org, it has not been set up, or a field of the map does not fit.
        """
        return fitted(values, self._described[kind])

    def check(self) -> None:
        """Ask the org once; raises as `fit` does."""
        _ = self._described

    @cached_property
    def _described(self) -> dict[str, dict[str, DescribedField]]:
        kinds = self.kinds
        described, org_id = self._api.described(kinds)
        if org_id != self._settings.org_id:
            msg = f"target-salesforce: the app logs in to org {org_id}, org_id says {self._settings.org_id}"
            raise SettingsError(msg)
        there = {name: fields for name, fields in described.items() if fields is not None}
        missing = [kinds[name] for name in kinds if name not in there]
        if missing:
            msg = (
                f"target-salesforce: {', '.join(missing)} cannot be seen in org {org_id}; run `onethread setup"
                " salesforce` first, and give the integration user the permission set onethread_Integration"
            )
            raise SettingsError(msg)
        check_field_map(self.map, there, FACTS, KEYS)
        return there
