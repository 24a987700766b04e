"""Salesforce's contacts, and the replies that agents queue as records, as canonical records.

Sources: developer.salesforce.com/docs, Object Reference (Contact: ``MasterRecordId``, ``IsDeleted``; User:
``UserType``) and REST API Developer Guide (Query: relationship fields are nested objects), read 2026-11, documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mappings import ids
from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.errors import MissingFieldError
from mappings.fields import optional_object_of, optional_text_of, text_of
from mappings.records import AuthorKind, Contact, Handle, Reply
from mappings.to_salesforce import CRM, channel_slug, salesforce_id

HANDLE_KIND = "salesforce_contact"

CONTACT_FIELDS = (
    "Id", "IsDeleted", "MasterRecordId", "FirstName", "LastName", "Email", "Phone", "MobilePhone", "HomePhone",
    "OtherPhone", "OwnerId", "SystemModstamp",
)  # fmt: skip
"""The standard fields that `contact_from_salesforce` reads."""

_PHONES = ("Phone", "MobilePhone", "HomePhone", "OtherPhone")
# Who wrote it, by the user's type. Whatever is not known to be a person is a bot: a channel gives people more time.
_PEOPLE = frozenset({"Standard", "PowerPartner", "PowerCustomerSuccess", "CustomerSuccess", "CspLitePortal"})


def contact_from_salesforce(
    payload: Mapping[str, Any],
    *,
    org_id: str,
    default_region: str | None = None,
    identity_field: str = "Identity_Key__c",
    projection_field: str = "Thread_Made_By_onethread__c",
) -> Contact:
    """A contact as a query shows it, live, deleted or merged away.

    Args:
        payload: ``{"Id": "003...", "IsDeleted": false, "LastName": "Rossi", "SystemModstamp": "2026-11-02T12:00:00.000
            +0000", ...}``.
        org_id: scope of the record's handle, 18 characters.
        default_region: for phones in national notation, two letters.
        identity_field: where our target writes the person id.
        projection_field: where it says that it made the contact.

    Raises:
        MissingFieldError: no id, or no time of modification.
    """
    record_id = salesforce_id(text_of(payload, "Id", "Salesforce contact"))
    where = f"Salesforce contact {record_id}"
    names = [optional_text_of(payload, name, where) for name in ("FirstName", "LastName")]
    return Contact(
        crm=CRM,
        account=org_id,
        record_id=record_id,
        handles=contact_handles(payload, record_id, org_id=org_id, default_region=default_region),
        name=clean_name(" ".join(name for name in names if name)),
        owner_id=optional_text_of(payload, "OwnerId", where),
        projection=payload.get(projection_field) is True,
        identity_key=optional_text_of(payload, identity_field, where),
        deleted=payload.get("IsDeleted") is True,
        modified_at=moment_from_salesforce(text_of(payload, "SystemModstamp", where), f"{where}: SystemModstamp"),
        raw_ref=f"crm:salesforce/{org_id}/Contact/{record_id}",
    )


def contact_handles(
    payload: Mapping[str, Any], record_id: str, *, org_id: str, default_region: str | None = None
) -> list[Handle]:
    """The record itself, then its e-mail and phones, each once; what cannot be an address or number is left out."""
    where = f"Salesforce contact {record_id}"
    address = optional_text_of(payload, "Email", where)
    email = normalize_email(address) if address else None
    raw_phones = [optional_text_of(payload, name, where) for name in _PHONES]
    phones = [normalize_phone(raw, default_region) for raw in raw_phones if raw]
    return [
        Handle(kind=HANDLE_KIND, scope=org_id, value=record_id),
        *([Handle(kind="email", value=email)] if email else []),
        *(Handle(kind="phone", value=phone) for phone in dict.fromkeys(phones) if phone),
    ]


def reply_from_salesforce(
    payload: Mapping[str, Any],
    *,
    org_id: str,
    default_region: str | None = None,
    identity_field: str = "Identity_Key__c",
) -> Reply:
    """What an agent queued as a message record.

    The key is the record's id: one record is one reply, however often it is read, edited or its contact merged.

    Args:
        payload: a queued Message__c with ``Contact__r``, ``Conversation__r`` (with its own ``Contact__r``) and
            ``CreatedBy``.
        org_id: 18 characters.
        default_region: for phones in national notation.
        identity_field: where our target writes the person id.

    Raises:
        MissingFieldError: it names no contact, or has neither text nor template.
    """
    message_id = salesforce_id(text_of(payload, "Id", "Salesforce message"))
    where = f"Salesforce message {message_id}"
    thread = optional_object_of(payload, "Conversation__r", where) or {}
    contact = optional_object_of(payload, "Contact__r", where) or optional_object_of(thread, "Contact__r", where)
    if contact is None:
        msg = f"{where}: no Contact and no Conversation with a Contact, so nobody knows to whom it goes"
        raise MissingFieldError(msg)
    contact_id = salesforce_id(text_of(contact, "Id", where))
    text, template = optional_text_of(payload, "Body__c", where), optional_text_of(payload, "Template__c", where)
    if text is None and template is None:
        msg = f"{where}: neither Body__c nor Template__c is filled in"
        raise MissingFieldError(msg)
    author = optional_object_of(payload, "CreatedBy", where) or {}
    channel = optional_text_of(payload, "Channel__c", where) or optional_text_of(thread, "Channel__c", where)
    return Reply(
        reply_key=ids.reply_key(CRM, org_id, message_id, message_id),
        crm=CRM,
        account=org_id,
        record_id=message_id,
        handles=contact_handles(contact, contact_id, org_id=org_id, default_region=default_region),
        identity_key=optional_text_of(contact, identity_field, where),
        channel=channel_slug(channel) or "auto",
        thread_id=optional_text_of(thread, "External_Id__c", where),
        text=text,
        template=template,
        template_language=optional_text_of(payload, "Template_Language__c", where),
        template_parameters=(optional_text_of(payload, "Template_Parameters__c", where) or "").splitlines(),
        author_kind=_author_kind(author),
        author_name=clean_name(optional_text_of(author, "Name", where)),
        written_at=moment_from_salesforce(text_of(payload, "CreatedDate", where), f"{where}: CreatedDate"),
        raw_ref=f"crm:salesforce/{org_id}/Message__c/{message_id}",
    )


def moment_from_salesforce(text: str, where: str) -> datetime:
    """A moment as Salesforce writes it (``2026-11-02T12:00:00.000+0000``), aware UTC.

    Raises:
        MissingFieldError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        msg = f"{where} is not a time"
        raise MissingFieldError(msg) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _author_kind(author: Mapping[str, Any]) -> AuthorKind:
    return "agent" if author.get("UserType") in _PEOPLE else "bot"
