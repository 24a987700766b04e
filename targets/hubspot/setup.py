"""Makes a HubSpot account ready: checks the token, creates properties and channels, finds out what the account allows.

Safe to run twice: it creates what is missing and changes nothing else, except that new choices are added to lists and
channels are told anew where we are and what we can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mappings.crm_words import channel_name
from mappings.errors import CredentialsError, RejectedError, SettingsError
from mappings.hubspot_files import ATTACHMENT_IDS
from mappings.policy import LIMITS
from mappings.to_hubspot import (
    INBOX_CAPABILITIES,
    MESSAGE_KEY,
    PERSON_ID,
    PROPERTY_GROUP,
    message_key_definition,
    property_definitions,
)
from stores.control import Facts
from stores.database import Stores
from stores.ledger import Ledger
from targets.hubspot.answers import Answer, object_in, rejected
from targets.hubspot.api import ACTIVITY_KINDS, COMMUNICATIONS, CONTACTS, HubSpotApi
from targets.hubspot.contacts import note_new_account
from targets.hubspot.fields import Fields
from targets.hubspot.files import communication_files_fact
from targets.hubspot.inbox import all_pages, channel_fact, ensure_account
from targets.hubspot.settings import HubSpotTargetSettings

_GROUP_LABEL = "onethread"
_CHANNEL_TEXTS = ("name", "channelAccountConnectionRedirectUrl", "channelDescription", "channelLogoUrl")


def message_key_fact(portal_id: str, kind: str) -> str:
    """Under which name `stores.control.Facts` keeps whether an activity type takes a unique property."""
    return f"hubspot:{portal_id}:{'communication' if kind == COMMUNICATIONS else kind}_key"


def setup_hubspot(
    settings: HubSpotTargetSettings,
    stores: Stores,
    *,
    dry_run: bool = False,
    channels: Sequence[str] = tuple(LIMITS),
) -> list[str]:
    """Set the account up (with `dry_run`: only say what would be done), one line for each thing done.

    Args:
        settings: of the account.
        stores: where it is noted what the account allows.
        dry_run: read only.
        channels: slugs that an agent can choose for a reply.

    Raises:
        CredentialsError: the token is refused, or may not do something that is needed.
        SettingsError: the token belongs to another account, a property of ours exists in another shape, the field map
            does not fit the account, or a setting of the inbox is missing.
    """
    api = HubSpotApi(settings, stores)
    fields = Fields(settings)
    lines = [_check_account(api, settings.portal_id), *_check_access(api)]
    lines += _ensure_group(api, CONTACTS, dry_run=dry_run)
    there = _definitions(api, CONTACTS)
    lines += [
        _ensure_property(api, one, there.get(one["name"]), dry_run=dry_run) for one in property_definitions(channels)
    ]
    for kind in ACTIVITY_KINDS:
        mode, found = _probe_message_key(api, kind, dry_run=dry_run)
        lines += found
        if mode is not None and not dry_run:
            Facts(stores).save(message_key_fact(settings.portal_id, kind), mode)
    if settings.attachments == "upload":
        possible, found = _check_files(api, settings)
        lines += found
        if not dry_run:
            Facts(stores).save(communication_files_fact(settings.portal_id), possible)
    if not dry_run:
        if PERSON_ID not in there:
            note_new_account(Ledger(stores, "hubspot", settings.portal_id))
        fields.check(api, stores, now=True)
        lines.append(f"properties: {fields.map.where} fits the account")
    return lines + _ensure_inbox(api, settings, stores, dry_run=dry_run)


def _ensure_inbox(api: HubSpotApi, settings: HubSpotTargetSettings, stores: Stores, *, dry_run: bool) -> list[str]:
    """A custom channel for each channel of the inbox, and its accounts."""
    if not settings.inbox_channels:
        return []
    if settings.inbox_webhook_url is None or settings.webhook_token is None:
        msg = "inbox_channels needs inbox_webhook_url and webhook_token: HubSpot posts agents' answers there"
        raise SettingsError(msg)
    hook = f"{settings.inbox_webhook_url}?token={quote(settings.webhook_token.get_secret_value(), safe='')}"
    there = {str(one.get("name")): one for one in all_pages(api, api.paths.channels(), "custom-channels")}
    facts, lines = Facts(stores), []
    for channel in settings.inbox_channels:
        name = f"{channel_name(channel)} (onethread)"
        found = there.get(name)
        if dry_run:
            lines.append(f"inbox channel {name}: {'is there' if found else 'would be registered'}")
            continue
        if found is None:
            found = _carried_out("POST custom-channels", _register(api, settings, name, hook)).body
            lines.append(f"inbox channel {name}: registered")
        elif found.get("webhookUrl") != hook or not _can_as_we_say(found):
            path = api.paths.channels(str(found["id"]))
            # All of them must be told (documented: hubspot-sdk 0.1.0a9); what is not set is empty (assumed).
            body = {name: found.get(name) or "" for name in _CHANNEL_TEXTS}
            capabilities = {**object_in(found.get("capabilities")), **INBOX_CAPABILITIES}
            body |= {"capabilities": capabilities, "webhookUrl": hook}
            answer = api.call("PATCH", path, "custom-channels/id", body=body)
            _carried_out("PATCH custom-channels/id", answer)
            lines.append(f"inbox channel {name}: got our address and what it can do")
        else:
            lines.append(f"inbox channel {name}: is there")
        channel_id = str(found["id"])
        facts.save(channel_fact(settings.portal_id, channel), channel_id)
        for account in _accounts_of(settings, channel):
            account_id, new = ensure_account(api, settings, channel_id, channel, account)
            facts.save(channel_fact(settings.portal_id, channel, account), account_id)
            lines.append(f"inbox account {channel}:{account}: {'added' if new else 'is there'}")
    return lines


def _can_as_we_say(channel: Mapping[str, Any]) -> bool:
    told = object_in(channel.get("capabilities"))
    return all(told.get(name) == value for name, value in INBOX_CAPABILITIES.items())


def _register(api: HubSpotApi, settings: HubSpotTargetSettings, name: str, hook: str) -> Answer:
    """v3 wants the developer's key and the app in the address; dated versions know the app by its token."""
    query: dict[str, str] = {}
    if settings.api_version == "v3":
        if settings.developer_api_key is None or settings.app_id is None:
            msg = "registering an inbox channel by v3 needs developer_api_key and app_id (or set api_version 2026-03)"
            raise SettingsError(msg)
        query = {"hapikey": settings.developer_api_key.get_secret_value(), "appId": settings.app_id}
    body = {"name": name, "capabilities": dict(INBOX_CAPABILITIES), "webhookUrl": hook}
    return api.call("POST", api.paths.new_channel(), "custom-channels", body=body, query=query)


def _accounts_of(settings: HubSpotTargetSettings, channel: str) -> list[str]:
    pairs = [name.partition(":") for name in settings.inbox_accounts]
    return [account for slug, _, account in pairs if slug == channel and account]


def _check_account(api: HubSpotApi, portal_id: str) -> str:
    answer = _carried_out("GET account-info/details", api.account_details())
    found = str(answer.body.get("portalId"))
    if found != portal_id:
        msg = f"HubSpot: the access token belongs to account {found}, the setting portal_id says {portal_id}"
        raise SettingsError(msg)
    return f"token: works, account {found} ({answer.body.get('accountType') or 'type not told'})"


def _check_access(api: HubSpotApi) -> list[str]:
    lines = []
    for kind in (CONTACTS, *ACTIVITY_KINDS):
        try:
            _carried_out(f"GET {kind}", api.first_page(kind))
        except CredentialsError as error:
            msg = f"{error} (crm.objects.contacts.read and .write, crm.schemas.contacts.read and .write)"
            raise CredentialsError(msg) from None
        lines.append(f"access: {kind} can be read")
    return lines


def _check_files(api: HubSpotApi, settings: HubSpotTargetSettings) -> tuple[bool, list[str]]:
    """Whether logged messages can have files, as notes can: HubSpot's pages do not say (read 2026-11)."""
    try:
        path = api.paths.files("search")
        _carried_out("GET files/search", api.call("GET", path, "files/search", query={"limit": 1}))
    except CredentialsError as error:
        msg = f"{error} (attachments upload needs the scope files)"
        raise CredentialsError(msg) from None
    found = _definitions(api, COMMUNICATIONS).get(ATTACHMENT_IDS)
    possible = found is not None and not (found.get("modificationMetadata") or {}).get("readOnlyValue")
    if possible:
        how = "have them"
    else:
        notes = "become notes" if settings.files_as_notes else "name them"
        how = f"cannot have them here; messages with files {notes}"
    return possible, ["access: files can be read", f"files: notes have them; communications {how}"]


def _ensure_group(api: HubSpotApi, kind: str, *, dry_run: bool) -> list[str]:
    groups = _carried_out(f"GET properties/{kind}/groups", api.property_groups(kind)).listed("results")
    if any(group.get("name") == PROPERTY_GROUP for group in groups):
        return [f"property group {PROPERTY_GROUP} of {kind}: is there"]
    if dry_run:
        return [f"property group {PROPERTY_GROUP} of {kind}: would be created"]
    body = {"name": PROPERTY_GROUP, "label": _GROUP_LABEL, "displayOrder": -1}
    _carried_out(f"POST properties/{kind}/groups", api.create_property_group(kind, body))
    return [f"property group {PROPERTY_GROUP} of {kind}: created"]


def _definitions(api: HubSpotApi, kind: str) -> dict[str, dict[str, Any]]:
    found = _carried_out(f"GET properties/{kind}", api.properties(kind)).listed("results")
    return {str(one.get("name")): one for one in found}


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


def _probe_message_key(api: HubSpotApi, kind: str, *, dry_run: bool) -> tuple[str | None, list[str]]:
    """Whether an activity type takes a property with unique values: HubSpot's pages do not say (read 2026-11)."""
    there = _definitions(api, kind).get(MESSAGE_KEY)
    by_property = f"{kind} property {MESSAGE_KEY}: {{}}; messages are written by their key"
    by_reading = f"{kind} take no property with unique values here ({{}}); messages are read back after a failure"
    if there is not None:
        if there.get("hasUniqueValue"):
            return "property", [by_property.format("is there")]
        return "readback", [by_reading.format("the property exists without them")]
    if dry_run:
        return None, [f"{kind} property {MESSAGE_KEY}: would be tried; an account may refuse it"]
    try:
        lines = _ensure_group(api, kind, dry_run=False)
        answer = _carried_out(f"POST properties/{kind}", api.create_property(kind, message_key_definition()))
    except RejectedError as error:
        return "readback", [by_reading.format(error.code or "refused")]
    if answer.body.get("hasUniqueValue") is False:
        return "readback", [*lines, by_reading.format("the property was created without them")]
    return "property", [*lines, by_property.format("created")]


def _carried_out(endpoint: str, answer: Answer) -> Answer:
    if not answer.ok:
        raise rejected(endpoint, answer.status, answer.body)
    return answer
