"""HubSpot's contacts, and the replies that agents queue on them or write in the inbox, as canonical records.

Sources: developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide (``propertiesWithHistory``,
``hs_additional_emails``, ``hs_merged_object_ids``) and the models of hubspot-api-client 12.0.0, read 2026-11,
documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mappings import ids
from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.errors import MissingFieldError, PayloadError
from mappings.fields import object_of, objects_of, optional_object_of, optional_text_of, text_of
from mappings.platforms import Platform
from mappings.records import Attachment, AuthorKind, Contact, Handle, Reply
from mappings.to_hubspot import (
    PERSON_ID,
    PROJECTION,
    REPLY_CHANNEL,
    REPLY_STATUS,
    REPLY_TEMPLATE,
    REPLY_TEMPLATE_LANGUAGE,
    REPLY_TEMPLATE_PARAMETERS,
    REPLY_TEXT,
    datetime_text,
    inbox_record,
)

CRM = "hubspot"

PUSHES = Platform(
    slug=CRM,
    name="HubSpot",
    tap="taps.hubspot:TapHubSpot",
    mapping="mappings.from_hubspot",
    webhook="taps.webhooks.hubspot",
    sandbox="sandbox.hubspot:HubSpotApp",
)
"""How the receiver finds the webhook of a CRM that pushes."""

CONTACT_FIELDS = (
    "email", "hs_additional_emails", "phone", "mobilephone", "firstname", "lastname", "hubspot_owner_id",
    "lastmodifieddate", "hs_merged_object_ids", PERSON_ID, PROJECTION,
)  # fmt: skip
"""The properties that `contact_from_hubspot` reads."""

REPLY_FIELDS = (
    REPLY_STATUS, REPLY_TEXT, REPLY_CHANNEL, REPLY_TEMPLATE, REPLY_TEMPLATE_LANGUAGE, REPLY_TEMPLATE_PARAMETERS,
)  # fmt: skip
"""The properties whose history `replies_from_hubspot` reads."""

# Who made a change, by ``sourceType`` of a history entry. Assumed beyond CRM_UI, INTEGRATION and API: HubSpot does not
# list the values. Whatever is not known to be a person is a bot: a channel gives people more time than bots.
_AUTHORS: Mapping[str, AuthorKind] = {
    "CRM_UI": "agent",
    "CRM_UI_BULK_ACTION": "agent",
    "MOBILE_IOS": "agent",
    "MOBILE_ANDROID": "agent",
    "INTEGRATION": "bot",
    "API": "bot",
    "AUTOMATION_PLATFORM": "bot",
    "WORKFLOWS": "bot",
}
# A merge of contacts writes a new entry with an old value; it is nobody's wish to send again. Assumed: the prefix.
_MERGE_SOURCE = "MERGE"

# Text and status saved together carry one timestamp (assumed); a second covers small differences.
_SAME_SAVE = timedelta(seconds=1)


class _Version(NamedTuple):
    value: str
    at: datetime
    source_type: str
    user_id: str | None


def contact_from_hubspot(payload: Mapping[str, Any], *, portal_id: str, default_region: str | None = None) -> Contact:
    """A contact as the CRM API shows it, live or archived.

    Args:
        payload: ``{"id": "151", "archived": false, "properties": {"email": "ana@shop.example", ...}}``.
        portal_id: scope of the record's handle.
        default_region: for phones in national notation, two letters.

    Raises:
        MissingFieldError: no id, or no time of modification.
    """
    record_id = text_of(payload, "id", "HubSpot contact")
    where = f"HubSpot contact {record_id}"
    properties = optional_object_of(payload, "properties", where) or {}
    deleted = payload.get("archived") is True
    modified = payload.get("archivedAt") if deleted else None
    modified = modified or properties.get("lastmodifieddate") or payload.get("updatedAt")
    if not isinstance(modified, str):
        msg = f"{where}: lastmodifieddate is missing"
        raise MissingFieldError(msg)
    names = [optional_text_of(properties, name, where) for name in ("firstname", "lastname")]
    return Contact(
        crm=CRM,
        account=portal_id,
        record_id=record_id,
        handles=contact_handles(properties, record_id, portal_id=portal_id, default_region=default_region),
        name=clean_name(" ".join(name for name in names if name)),
        owner_id=optional_text_of(properties, "hubspot_owner_id", where),
        projection=properties.get(PROJECTION) == "true",
        identity_key=optional_text_of(properties, PERSON_ID, where),
        merged_record_ids=_listed(optional_text_of(properties, "hs_merged_object_ids", where)),
        deleted=deleted,
        modified_at=moment_from_hubspot(modified, f"{where}: lastmodifieddate"),
        raw_ref=raw_ref(portal_id, record_id),
    )


def contact_handles(
    properties: Mapping[str, Any], record_id: str, *, portal_id: str, default_region: str | None = None
) -> list[Handle]:
    """The record itself, then its e-mails and phones, each once; what cannot be an address or number is left out."""
    where = f"HubSpot contact {record_id}"
    raw_emails = [
        optional_text_of(properties, "email", where),
        *_listed(optional_text_of(properties, "hs_additional_emails", where)),
    ]
    raw_phones = [optional_text_of(properties, name, where) for name in ("phone", "mobilephone")]
    emails = [normalize_email(raw) for raw in raw_emails if raw]
    phones = [normalize_phone(raw, default_region) for raw in raw_phones if raw]
    return [
        Handle(kind="hubspot_contact", scope=portal_id, value=record_id),
        *(Handle(kind="email", value=email) for email in dict.fromkeys(emails) if email),
        *(Handle(kind="phone", value=phone) for phone in dict.fromkeys(phones) if phone),
    ]


def replies_from_hubspot(
    payload: Mapping[str, Any],
    *,
    portal_id: str,
    not_before: datetime,
    default_region: str | None = None,
    agent_names: Mapping[str, str] | None = None,
) -> list[Reply]:
    """One reply for each time that a contact's reply status became QUEUED, oldest first.

    The history is read, not the current value: the status moves on while a reply is sent, and an agent may have queued
    the next one since. Text, channel and template are those of that moment; of a text and a template that were filled
    in at different times only the newer one is meant, the other is left over from an earlier reply.

    Args:
        payload: a contact with ``propertiesWithHistory`` of `REPLY_FIELDS`, each a list of ``{"value": "QUEUED",
            "timestamp": "2026-11-03T10:00:00.123Z", "sourceType": "CRM_UI", "updatedByUserId": 9001}``.
        portal_id: HubSpot account.
        not_before: older replies are left out.
        default_region: for phones in national notation.
        agent_names: HubSpot user id -> name, where they are known.

    Raises:
        MissingFieldError: a field that is needed is absent or of another type.
    """
    record_id = text_of(payload, "id", "HubSpot contact")
    where = f"HubSpot contact {record_id}"
    properties = optional_object_of(payload, "properties", where) or {}
    history = object_of(payload, "propertiesWithHistory", where)
    versions = {name: _versions(history, name, where) for name in REPLY_FIELDS}
    queued = queued_versions(payload)
    replies = []
    for index, version in enumerate(queued):
        if version.at < not_before:
            continue
        until = version.at + _SAME_SAVE
        if index + 1 < len(queued):
            until = min(until, queued[index + 1].at)
        latest = {name: _version_at(versions[name], until) for name in REPLY_FIELDS}
        then = {name: (one.value or None) if one else None for name, one in latest.items()}
        _keep_the_newer(then, latest[REPLY_TEXT], latest[REPLY_TEMPLATE])
        user_id = version.user_id
        name = (agent_names or {}).get(user_id) if user_id else None
        replies.append(
            Reply(
                reply_key=ids.reply_key(CRM, portal_id, record_id, datetime_text(version.at)),
                crm=CRM,
                account=portal_id,
                record_id=record_id,
                handles=contact_handles(properties, record_id, portal_id=portal_id, default_region=default_region),
                identity_key=optional_text_of(properties, PERSON_ID, where),
                channel=then[REPLY_CHANNEL] or "auto",
                text=then[REPLY_TEXT],
                template=then[REPLY_TEMPLATE],
                template_language=then[REPLY_TEMPLATE_LANGUAGE],
                template_parameters=(then[REPLY_TEMPLATE_PARAMETERS] or "").splitlines(),
                author_kind=_author_kind(version),
                author_name=name or (f"HubSpot user {user_id}" if user_id else None),
                written_at=version.at,
                raw_ref=raw_ref(portal_id, record_id),
            )
        )
    return replies


# Actors of the inbox by the letter of their id: observed in public code (A- an agent, V- a visitor); any other letter
# is a program, for a channel gives people more time than bots.
_AGENT = "A-"
_CONTACT = "V-"
_USAGES: Mapping[str, str] = {"AUDIO": "audio", "VOICE_RECORDING": "audio", "IMAGE": "image", "STICKER": "sticker"}


def reply_from_hubspot_inbox(event: Mapping[str, Any], *, portal_id: str, received_at: datetime) -> Reply | None:
    """What an agent wrote in the inbox; ``None`` for an event that is no message of theirs.

    Args:
        event: ``{"type": "OUTGOING_CHANNEL_MESSAGE_CREATED", "portalId": "8800001", "channelId": "41",
            "channelIntegrationThreadIds": ["whatsapp:106540352242922:%2B12025550101"], "message": {"id": "9c2",
            "text": "On its way!", "recipients": [{"actorId": "V-151", ...}], "senders": [...], ...}}``.
        portal_id: HubSpot account.
        received_at: when it came, for an event without a time.

    The thread says who is answered. The contact that HubSpot shows beside it may be somebody else's: a thread stays on
    the contact on which it was opened, also when it turns out that two people were taken for one.

    Raises:
        PayloadError: it is of another account, or does not name one thread of ours.
    """
    where = "HubSpot inbox"
    if event.get("type") != "OUTGOING_CHANNEL_MESSAGE_CREATED":
        return None
    if str(event.get("portalId")) != portal_id:
        msg = f"{where}: an event of account {event.get('portalId')}, portal_id says {portal_id}"
        raise PayloadError(msg)
    message = object_of(event, "message", where)
    if message.get("direction") == "INCOMING":
        return None
    message_id, channel_id = text_of(message, "id", where), str(event.get("channelId") or message.get("channelId"))
    thread = _thread_of(event, where)
    recipients, senders = objects_of(message, "recipients", where), objects_of(message, "senders", where)
    contact_id = next((one for row in recipients if (one := _actor(row, _CONTACT))), None)
    handles = [handle for row in recipients if (handle := _handle_of(row, where)) is not None]
    handles += [Handle(kind="hubspot_contact", scope=portal_id, value=contact_id)] if contact_id else []
    created = optional_text_of(message, "createdAt", where)
    author = senders[0] if senders else {}
    actor = str(author.get("actorId") or message.get("createdBy") or "")
    return Reply(
        reply_key=ids.reply_key(CRM, portal_id, inbox_record(channel_id), message_id),
        crm=CRM,
        account=portal_id,
        record_id=contact_id or f"thread {message.get('conversationsThreadId')}",
        handles=handles,
        channel=ids.parse_conversation_key(thread)[0],
        conversation_key=thread,
        text=optional_text_of(message, "text", where) or None,
        attachments=[_file_of(one, where) for one in objects_of(message, "attachments", where) if _is_file(one)],
        author_kind="agent" if actor.startswith(_AGENT) else "bot",
        author_name=clean_name(optional_text_of(author, "name", where)),
        written_at=moment_from_hubspot(created, f"{where}: createdAt") if created else received_at,
        raw_ref=f"crm:hubspot/{portal_id}/inbox/{message_id}",
    )


def _thread_of(event: Mapping[str, Any], where: str) -> str:
    """Our key of the thread. HubSpot sends a list; observed: with one thread in it."""
    listed = event.get("channelIntegrationThreadIds")
    threads = sorted({str(one) for one in listed}) if isinstance(listed, list) else []
    if not threads:
        msg = f"{where}: channelIntegrationThreadIds is missing"
        raise MissingFieldError(msg)
    if len(threads) > 1:
        msg = f"{where}: channelIntegrationThreadIds names {len(threads)} threads, so whose answer it is nobody can say"
        raise PayloadError(msg)
    return threads[0]


def _actor(row: Mapping[str, Any], prefix: str) -> str | None:
    actor = row.get("actorId")
    return actor.removeprefix(prefix) if isinstance(actor, str) and actor.startswith(prefix) else None


def _handle_of(row: Mapping[str, Any], where: str) -> Handle | None:
    """The customer's address as we told it (see `mappings.to_hubspot.inbox_identifier`)."""
    identifier = optional_object_of(row, "deliveryIdentifier", where) or {}
    value = optional_text_of(identifier, "value", where)
    if not value:
        return None
    if identifier.get("type") == "HS_EMAIL_ADDRESS":
        email = normalize_email(value)
        return Handle(kind="email", value=email) if email else None
    if identifier.get("type") == "HS_PHONE_NUMBER":
        phone = normalize_phone(value)
        return Handle(kind="phone", value=phone) if phone else None
    try:
        kind, scope, name = ids.parse_handle_key(value)
    except PayloadError:
        return None
    return Handle(kind=kind, scope=scope, value=name)


def _is_file(attachment: Mapping[str, Any]) -> bool:
    return attachment.get("type") == "FILE" and attachment.get("fileId") is not None


def _file_of(attachment: Mapping[str, Any], where: str) -> Attachment:
    return Attachment.model_validate(
        {
            "kind": _USAGES.get(str(attachment.get("fileUsageType")), "file"),
            "platform_media_id": str(attachment["fileId"]),
            "filename": clean_name(optional_text_of(attachment, "name", where)),
        }
    )


def queued_versions(payload: Mapping[str, Any]) -> list[_Version]:
    """The moments at which somebody set the reply status to QUEUED, oldest first; merges of contacts do not count.

    Raises:
        MissingFieldError: the history is absent or malformed.
    """
    where = f"HubSpot contact {text_of(payload, 'id', 'HubSpot contact')}"
    history = object_of(payload, "propertiesWithHistory", where)
    return [
        version
        for version in _versions(history, REPLY_STATUS, where)
        if version.value == "QUEUED" and not version.source_type.startswith(_MERGE_SOURCE)
    ]


def moment_from_hubspot(text: str, where: str) -> datetime:
    """A moment as HubSpot writes it (ISO 8601, or milliseconds since 1970), aware UTC.

    Raises:
        MissingFieldError: it is neither.
    """
    try:
        if text.isascii() and text.isdigit():
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        msg = f"{where} is not a time"
        raise MissingFieldError(msg) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def raw_ref(portal_id: str, record_id: str) -> str:
    """Where a contact came from."""
    return f"crm:hubspot/{portal_id}/contacts/{record_id}"


def _versions(history: Mapping[str, Any], name: str, where: str) -> list[_Version]:
    """All versions of one property, oldest first (HubSpot: newest first)."""
    versions = []
    for entry in objects_of(history, name, where):
        user = entry.get("updatedByUserId")
        if user is None and isinstance(source_id := entry.get("sourceId"), str) and source_id.startswith("userId:"):
            user = source_id.removeprefix("userId:")
        versions.append(
            _Version(
                optional_text_of(entry, "value", where) or "",
                moment_from_hubspot(text_of(entry, "timestamp", where), f"{where}: timestamp of {name}"),
                optional_text_of(entry, "sourceType", where) or "",
                None if user is None else str(user),
            )
        )
    versions.reverse()  # of two at one time the one that HubSpot lists first is the newer
    return sorted(versions, key=lambda version: version.at)


def _version_at(versions: list[_Version], moment: datetime) -> _Version | None:
    return next((version for version in reversed(versions) if version.at <= moment), None)


def _keep_the_newer(values: dict[str, str | None], text: _Version | None, template: _Version | None) -> None:
    if not (text and text.value and template and template.value) or abs(text.at - template.at) <= _SAME_SAVE:
        return
    if text.at < template.at:
        values[REPLY_TEXT] = None
    else:
        values |= dict.fromkeys((REPLY_TEMPLATE, REPLY_TEMPLATE_LANGUAGE, REPLY_TEMPLATE_PARAMETERS))


def _author_kind(version: _Version) -> AuthorKind:
    return _AUTHORS.get(version.source_type, "agent" if version.user_id else "bot")


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(";") if part.strip()]
