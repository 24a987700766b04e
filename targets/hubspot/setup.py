"""Makes a HubSpot account ready: checks the token, creates our properties, finds out what the account allows.

Safe to run twice: it creates what is missing and changes nothing else, except that new choices are added to lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mappings.errors import CredentialsError, RejectedError, SettingsError
from mappings.to_hubspot import (
    DEFAULT_CHANNEL_TYPES,
    MESSAGE_KEY,
    PROPERTY_GROUP,
    message_key_definition,
    property_definitions,
)
from stores.control import Facts
from stores.database import Stores
from targets.hubspot.answers import Answer, rejected
from targets.hubspot.api import COMMUNICATIONS, CONTACTS, HubSpotApi
from targets.hubspot.settings import HubSpotTargetSettings

_GROUP_LABEL = "onethread"


def communication_key_fact(portal_id: str) -> str:
    """Under which name `stores.control.Facts` keeps whether communications take a unique property."""
    return f"hubspot:{portal_id}:communication_key"


def setup_hubspot(
    settings: HubSpotTargetSettings,
    stores: Stores,
    *,
    dry_run: bool = False,
    channels: Sequence[str] = tuple(DEFAULT_CHANNEL_TYPES),
) -> list[str]:
    """Set the account up (with `dry_run`: only say what would be done), one line for each thing done.

    Args:
        settings: of the account.
        stores: where it is noted what the account allows.
        dry_run: read only.
        channels: slugs that an agent can choose for a reply.

    Raises:
        CredentialsError: the token is refused, or may not do something that is needed.
        SettingsError: the token belongs to another account, or a property of ours exists in another shape.
    """
    api = HubSpotApi(settings, stores)
    lines = [_check_account(api, settings.portal_id), *_check_access(api)]
    lines += _ensure_group(api, CONTACTS, dry_run=dry_run)
    lines += _ensure_properties(api, property_definitions(channels), dry_run=dry_run)
    mode, found = _probe_message_key(api, dry_run=dry_run)
    lines += found
    if mode is not None and not dry_run:
        Facts(stores).save(communication_key_fact(settings.portal_id), mode)
    return lines


def _check_account(api: HubSpotApi, portal_id: str) -> str:
    answer = _carried_out("GET account-info/details", api.account_details())
    found = str(answer.body.get("portalId"))
    if found != portal_id:
        msg = f"HubSpot: the access token belongs to account {found}, the setting portal_id says {portal_id}"
        raise SettingsError(msg)
    return f"token: works, account {found} ({answer.body.get('accountType') or 'type not told'})"


def _check_access(api: HubSpotApi) -> list[str]:
    lines = []
    for kind in (CONTACTS, COMMUNICATIONS):
        try:
            _carried_out(f"GET {kind}", api.first_page(kind))
        except CredentialsError as error:
            msg = f"{error} (crm.objects.contacts.read and .write, crm.schemas.contacts.read and .write)"
            raise CredentialsError(msg) from None
        lines.append(f"access: {kind} can be read")
    return lines


def _ensure_group(api: HubSpotApi, kind: str, *, dry_run: bool) -> list[str]:
    groups = _carried_out(f"GET properties/{kind}/groups", api.property_groups(kind)).listed("results")
    if any(group.get("name") == PROPERTY_GROUP for group in groups):
        return [f"property group {PROPERTY_GROUP} of {kind}: is there"]
    if dry_run:
        return [f"property group {PROPERTY_GROUP} of {kind}: would be created"]
    body = {"name": PROPERTY_GROUP, "label": _GROUP_LABEL, "displayOrder": -1}
    _carried_out(f"POST properties/{kind}/groups", api.create_property_group(kind, body))
    return [f"property group {PROPERTY_GROUP} of {kind}: created"]


def _ensure_properties(api: HubSpotApi, wanted: Iterable[dict[str, Any]], *, dry_run: bool) -> list[str]:
    found = _carried_out("GET properties/contacts", api.properties(CONTACTS)).listed("results")
    there = {str(one.get("name")): one for one in found}
    return [_ensure_property(api, definition, there.get(definition["name"]), dry_run=dry_run) for definition in wanted]


def _ensure_property(
    api: HubSpotApi, definition: dict[str, Any], there: Mapping[str, Any] | None, *, dry_run: bool
) -> str:
    name = definition["name"]
    if there is None:
        if dry_run:
            return f"contact property {name}: would be created"
        _carried_out("POST properties/contacts", api.create_property(CONTACTS, definition))
        return f"contact property {name}: created"
    if there.get("type") != definition["type"] or bool(there.get("hasUniqueValue")) != definition["hasUniqueValue"]:
        msg = (
            f"HubSpot: contact property {name} exists, but not as {definition['type']}"
            f"{' with unique values' if definition['hasUniqueValue'] else ''}. HubSpot cannot change that; archive the"
            " property in HubSpot (Settings, Properties) and run the set-up again"
        )
        raise SettingsError(msg)
    present = [one for one in there.get("options") or [] if isinstance(one, dict)]
    missing = [one for one in definition["options"] if one["value"] not in {other.get("value") for other in present}]
    if definition["type"] != "enumeration" or not missing:
        return f"contact property {name}: is there"
    values = ", ".join(one["value"] for one in missing)
    if dry_run:
        return f"contact property {name}: would get the choices {values}"
    _carried_out("PATCH properties/contacts", api.update_property(CONTACTS, name, {"options": [*present, *missing]}))
    return f"contact property {name}: got the choices {values}"


def _probe_message_key(api: HubSpotApi, *, dry_run: bool) -> tuple[str | None, list[str]]:
    """Whether communications take a property with unique values: HubSpot's pages do not say (read 2026-11)."""
    found = _carried_out("GET properties/communications", api.properties(COMMUNICATIONS)).listed("results")
    there = next((one for one in found if one.get("name") == MESSAGE_KEY), None)
    by_property = f"communication property {MESSAGE_KEY}: {{}}; messages are written by their key"
    by_reading = "communications take no property with unique values here ({}); messages are read back after a failure"
    if there is not None:
        if there.get("hasUniqueValue"):
            return "property", [by_property.format("is there")]
        return "readback", [by_reading.format("the property exists without them")]
    if dry_run:
        return None, [f"communication property {MESSAGE_KEY}: would be tried; an account may refuse it"]
    try:
        lines = _ensure_group(api, COMMUNICATIONS, dry_run=False)
        answer = _carried_out(
            "POST properties/communications", api.create_property(COMMUNICATIONS, message_key_definition())
        )
    except RejectedError as error:
        return "readback", [by_reading.format(error.code or "refused")]
    if answer.body.get("hasUniqueValue") is False:
        return "readback", [*lines, by_reading.format("the property was created without them")]
    return "property", [*lines, by_property.format("created")]


def _carried_out(endpoint: str, answer: Answer) -> Answer:
    if not answer.ok:
        raise rejected(endpoint, answer.status, answer.body)
    return answer
