"""Which fact goes into which property of a contact, checked against the account before the first write."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mappings.errors import SettingsError
from mappings.to_hubspot import CONTACT_PROPERTIES, PERSON_ID, PROJECTION
from stores.control import Facts as Found
from stores.database import Stores
from targets.field_map import DescribedField, Facts, Kind, check_field_map, load_field_map
from targets.hubspot.answers import object_in, rejected
from targets.hubspot.api import CONTACTS, HubSpotApi
from targets.hubspot.settings import HubSpotTargetSettings

_T: Kind = "text"
_D: Kind = "datetime"

FACTS: Facts = {
    "contact": {
        "channels": _T, "preferred_channel": _T, "last_message_in": _D, "last_message_out": _D,
        "unanswered_since": _D, "window_closes_at": _D, "opted_in": "choices", "opted_out": "choices",
        "first_name": _T, "last_name": _T, "email": _T, "phone": _T,
    },
}  # fmt: skip
"""What can be written into a property of the admin's choice."""
PACKAGED = Path(__file__).with_name("fields.yml")
RESERVED = frozenset({PERSON_ID, PROJECTION, *(name for name, *_ in CONTACT_PROPERTIES if "_reply_" in name)})
"""Properties that no fact of the file can go into: contacts and replies are found again by them."""
_CHECK_EVERY_SECONDS = 24 * 3600.0

# HubSpot's types (documented: crm-properties-v3 guide). A choice can be made with a text: its value.
_KINDS: Mapping[str, Kind] = {
    "string": "text", "enumeration": "choices", "datetime": "datetime", "date": "date", "bool": "boolean",
    "number": "number", "phone_number": "text",
}  # fmt: skip


class Fields:
    """The field map of one account."""

    def __init__(self, settings: HubSpotTargetSettings) -> None:
        self.map = load_field_map(settings.fields_file, PACKAGED, FACTS, {})
        taken = sorted(RESERVED & set(self.map.names("contact")))
        if taken:
            msg = f"{self.map.where}, contact: {', '.join(taken)} is written by onethread itself; name another property"
            raise SettingsError(msg)
        self._portal_id = settings.portal_id

    def properties(self, facts: Mapping[str, str], owner: str | None = None) -> dict[str, str]:
        """Facts as properties; with `owner` only those."""
        return {name: str(value or "") for name, value in self.map.fields("contact", facts, owner).items()}

    @property
    def ours(self) -> list[str]:
        """The properties that onethread owns, besides `RESERVED`."""
        return self.map.names("contact", "onethread")

    @property
    def peoples(self) -> list[str]:
        """The properties that people own."""
        return self.map.names("contact", "people")

    def check(self, api: HubSpotApi, stores: Stores, *, now: bool = False) -> None:
        """Hold the map against the account: after a change of the map, and once a day (with `now`: in any case).

        Raises:
            SettingsError: names every property that is unknown, of another type or read-only.
        """
        told = Found(stores)
        fact = f"hubspot:{self._portal_id}:fields"
        text = json.dumps({k: one.model_dump() for k, one in self.map.rules["contact"].items()}, sort_keys=True)
        print_of_map = hashlib.sha256(text.encode()).hexdigest()
        before = told.load(fact) or {}
        fresh = before.get("map") == print_of_map and time.time() - before.get("at", 0) < _CHECK_EVERY_SECONDS
        if fresh and not now:
            return
        answer = api.properties(CONTACTS)
        if not answer.ok:
            raise rejected("GET properties/contacts", answer.status, answer.body)
        described = {str(one.get("name")): _described(one) for one in answer.listed("results")}
        try:
            check_field_map(self.map, {"contact": described}, FACTS, {})
        except SettingsError as error:
            msg = f"{error}. `onethread setup hubspot` creates those whose names begin with onethread_"
            raise SettingsError(msg) from None
        told.save(fact, {"map": print_of_map, "at": time.time()})


def _described(definition: Mapping[str, Any]) -> DescribedField:
    """A property's definition; what it does not say about being read-only is taken for a yes to writing."""
    read_only = object_in(definition.get("modificationMetadata")).get("readOnlyValue") is True
    writeable = not (read_only or definition.get("calculated") is True)
    return DescribedField(
        kind=_KINDS.get(str(definition.get("type"))),
        createable=writeable,
        updateable=writeable,
        key=definition.get("hasUniqueValue") is True,
    )
