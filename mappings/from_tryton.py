"""Tryton's answers, parties and notes as canonical records.

Sources: trytond 8.2.1 (``protocols/jsonrpc.py``, ``protocols/dispatcher.py``, ``exceptions.py``, ``ir/note.py``) and
trytond-party 8.2.0 (pypi.org), read 2026-11 and observed on a running server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mappings import ids
from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.http import error_for_status
from mappings.records import Contact, Handle, Reply
from mappings.to_tryton import (
    CONTACT_KIND,
    CRM,
    MADE_PREFIX,
    MECHANISM_MARK,
    PERSON_PREFIX,
    REPLY_MARKER,
    TEMPLATE_MARKER,
)

PLATFORM = "Tryton"

PARTY_FIELDS = ("name", "active", "replaced_by", "create_date", "write_date")
MECHANISM_FIELDS = ("party", "type", "value", "comment", "active", "create_date", "write_date")
IDENTIFIER_FIELDS = ("party", "code")
NOTE_FIELDS = ("message", "resource", "create_date", "create_uid", "create_uid.rec_name")

_PHONE_TYPES = frozenset({"phone", "mobile"})
_QUOTED = re.compile(r'((?:field|of|access|wizard|on the) )?"[^"]*"')
_NO_RIGHT = re.compile(r"are not allowed to (access|execute|search)")
_TELLING = re.compile(r"[^\s@]+@[^\s@]+|\+?\d[\d\s().-]{5,}\d")
# What a busy database says; the server has rolled back, so the same call can be made again. Observed on SQLite, the
# others documented by PostgreSQL (error codes 40001 and 40P01).
_BUSY = ("database is locked", "could not serialize", "deadlock detected")
_ROOT_USER = 0


# Answers


def result_from_tryton(endpoint: str, body: Any) -> Any:
    """The result of a JSON-RPC answer with status 200.

    Args:
        endpoint: the method, for messages.
        body: ``{"id": 1, "result": ...}`` or ``{"id": 1, "error": ["UserError", [message, description, domain]]}``;
            an error that nobody foresaw is ``[text, traceback]``.

    Raises:
        RejectedError: the call was refused and undone as a whole; ``code`` is the kind of error, of a warning its name.
        CredentialsError: a right is missing, or the login asks for more than a password.
        UnavailableError: records were changed by somebody else meanwhile; undone, and worth another try.
        MissingFieldError: it is no such answer.
    """
    if not isinstance(body, dict) or not {"result", "error"} & body.keys():
        msg = f"{PLATFORM}: {endpoint} answered without result"
        raise MissingFieldError(msg)
    if "error" not in body:
        return body["result"]
    raise _error(endpoint, body["error"])


def _error(endpoint: str, error: Any) -> OneThreadError:
    kind, details = [*error, None, None][:2] if isinstance(error, list) else (None, None)
    kind = kind if isinstance(kind, str) else ""
    texts = [one for one in details if isinstance(one, str)] if isinstance(details, list) else []
    where = f"{PLATFORM}: {endpoint}"
    match kind:
        case "UserError":
            words = without_values(" ".join(texts))
            if _NO_RIGHT.search(words):
                return CredentialsError(f"{where} refused: {words}. Give the user the right, see the page of this CRM")
            return RejectedError(f"{where} refused: {words}", code=kind)
        case "UserWarning":
            words = without_values(" ".join(texts[1:]))
            name = texts[0] if texts else kind
            return RejectedError(f"{where} warns: {words}", code=name)
        case "LoginException":
            return CredentialsError(f"{where}: the login asks for more than a password; use a user who needs no more")
        case "ConcurrencyException":
            return UnavailableError(f"{where}: the record was changed by somebody else meanwhile; trying again")
    if any(busy in kind.lower() for busy in _BUSY):
        return UnavailableError(f"{where}: the database is busy; trying again")
    return RejectedError(f"{where} failed on the server; its log has the reason", code="server error")


def without_values(text: str) -> str:
    """Tryton's words without what they quote (names, numbers, addresses); names of fields and models stay."""
    if text.count('"') % 2:  # a quoted value has a quote in it: where values end cannot be told
        return "(Tryton's words quote values; see the server's log)"
    kept = _QUOTED.sub(lambda found: found.group() if found.group(1) else '"…"', text)
    return _TELLING.sub("…", kept).strip()


def status_error(endpoint: str, status: int, retry_after: float | None = None) -> OneThreadError:
    """The error that an answer with another status than 200 stands for."""
    if status == 404:
        return SettingsError(f"{PLATFORM}: {endpoint} answered 404; check url and database")
    if status == 429:
        # A user has five tries within five minutes (trytond's [session] max_attempt, timeout; documented there).
        return error_for_status(PLATFORM, endpoint, status, retry_after=retry_after)
    if status in {401, 403}:
        return CredentialsError(f"{PLATFORM}: {endpoint} answered {status}; check username and password")
    return error_for_status(PLATFORM, endpoint, status, retry_after=retry_after, code=str(status))


def moment_from_tryton(value: Any, where: str) -> datetime:
    """A moment as Tryton's JSON has it (naive UTC: trytond sets its time zone), aware.

    Raises:
        MissingFieldError: it is none.
    """
    try:
        if value["__class__"] != "datetime":
            raise KeyError
        parts = [int(value[name]) for name in ("year", "month", "day", "hour", "minute", "second", "microsecond")]
        return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # seven parts, in order
    except (KeyError, TypeError, ValueError):
        msg = f"{where} is not a time"
        raise MissingFieldError(msg) from None


# Parties


def modified_at(row: Mapping[str, Any], where: str) -> datetime:
    """When a row was written last."""
    return moment_from_tryton(row.get("write_date") or row.get("create_date"), f"{where}: create_date")


def contact_from_tryton(
    party: Mapping[str, Any],
    mechanisms: Iterable[Mapping[str, Any]],
    identifiers: Iterable[Mapping[str, Any]],
    merged: Sequence[str],
    *,
    account: str,
    default_region: str | None = None,
) -> Contact:
    """A party.

    Args:
        party: with `PARTY_FIELDS`, e.g. ``{"id": 7, "name": "Ana Example", "active": 1, "replaced_by": None, ...}``.
        mechanisms: its own, with `MECHANISM_FIELDS`; those that we added are left out: they are no evidence.
        identifiers: its own, with `IDENTIFIER_FIELDS`.
        merged: ids of the parties that it replaced.
        account: scope of the record's handle.
        default_region: for phones in national notation, two letters.

    Raises:
        MissingFieldError: no id or no time.
    """
    record_id = record_id_of(party, "id", "Tryton party")
    where = f"Tryton party {record_id}"
    rows = list(mechanisms)
    code = person_identifier(identifiers)
    times = [modified_at(party, where), *(modified_at(row, where) for row in rows)]
    name = party.get("name")
    return Contact(
        crm=CRM,
        account=account,
        record_id=record_id,
        handles=[Handle(kind=CONTACT_KIND, scope=account, value=record_id), *_handles(rows, default_region)],
        name=clean_name(name) if isinstance(name, str) else None,
        projection=code is not None and code.startswith(MADE_PREFIX),
        identity_key=person_of_code(code),
        merged_record_ids=list(merged),
        deleted=not party.get("active", True),
        modified_at=max(times),
        raw_ref=raw_ref(account, "party", record_id),
    )


def _handles(mechanisms: Iterable[Mapping[str, Any]], default_region: str | None) -> list[Handle]:
    emails: list[str | None] = []
    phones: list[str | None] = []
    for row in mechanisms:
        value = row.get("value")
        if not isinstance(value, str) or not row.get("active", True) or is_ours(row):
            continue
        if row.get("type") == "email":
            emails.append(normalize_email(value))
        elif row.get("type") in _PHONE_TYPES:
            phones.append(normalize_phone(value, default_region))
    return [
        *(Handle(kind="email", value=one) for one in dict.fromkeys(emails) if one),
        *(Handle(kind="phone", value=one) for one in dict.fromkeys(phones) if one),
    ]


def is_ours(mechanism: Mapping[str, Any]) -> bool:
    """Whether we added a contact mechanism."""
    return mechanism.get("comment") == MECHANISM_MARK


def person_identifier(identifiers: Iterable[Mapping[str, Any]]) -> str | None:
    """The code of ours among a party's identifiers."""
    codes = [str(one.get("code")) for one in identifiers]
    return next((one for one in sorted(codes) if one.startswith((MADE_PREFIX, PERSON_PREFIX))), None)


def person_of_code(code: str | None) -> str | None:
    """The person id in a code of ours."""
    return code.partition(":")[2] or None if code else None


# Replies


def reply_from_tryton(
    note: Mapping[str, Any], contact: Contact, *, own_user_id: int, marker: str = REPLY_MARKER
) -> Reply | None:
    r"""The reply that an agent wrote as a note on a party; ``None`` for any other note.

    The first line is the command: ``@reply`` or ``@reply whatsapp``, and everything below it is the text; or
    ``@template NAME LANGUAGE [CHANNEL]``, and every line below it is a parameter. Whatever else stands beside
    ``@reply`` is taken for the channel, so a slip is refused and told, never sent. Notes of our own user are never
    replies, and none of ours begins like one.

    Args:
        note: with `NOTE_FIELDS`, e.g. ``{"id": 3, "message": "@reply\nHello", "resource": "party.party,7", ...}``.
        contact: the party that it is on.
        own_user_id: the user of onethread.
        marker: of a reply, where it is another word than ``@reply``.

    Raises:
        MissingFieldError: no id, time or author.
    """
    command, _, rest = str(note.get("message") or "").strip().partition("\n")
    words = command.split()
    if not words or words[0].lower() not in {marker.lower(), TEMPLATE_MARKER}:
        return None
    note_id = record_id_of(note, "id", "Tryton note")
    where = f"Tryton note {note_id}"
    author = note.get("create_uid")
    if not isinstance(author, int):
        msg = f"{where}: create_uid is missing"
        raise MissingFieldError(msg)
    if author == own_user_id:
        return None
    written_at = moment_from_tryton(note.get("create_date"), f"{where}: create_date")
    as_template = words[0].lower() == TEMPLATE_MARKER
    arguments = words[1:]
    channel = " ".join(arguments[2:] if as_template else arguments).rstrip(":").lower() or "auto"
    text = rest.strip()
    return Reply(
        # The note alone: a merge of parties moves it, and it must not become another reply.
        reply_key=ids.reply_key(CRM, contact.account, note_id, written_at.isoformat()),
        crm=CRM,
        account=contact.account,
        record_id=contact.record_id,
        handles=contact.handles,
        identity_key=contact.identity_key,
        channel=channel[:40],
        text=None if as_template else text or None,
        template=next(iter(arguments), None) if as_template else None,
        template_language=arguments[1] if as_template and len(arguments) > 1 else None,
        template_parameters=text.splitlines() if as_template else [],
        author_kind="bot" if author == _ROOT_USER else "agent",
        author_name=_author_name(note),
        written_at=written_at,
        raw_ref=raw_ref(contact.account, "note", note_id),
    )


def party_of_note(note: Mapping[str, Any]) -> str | None:
    """The id of the party that a note is on; ``None`` when it is on something else."""
    model, _, record_id = str(note.get("resource") or "").partition(",")
    return record_id if model == "party.party" and record_id.isdigit() else None


def _author_name(note: Mapping[str, Any]) -> str | None:
    author = note.get("create_uid.")
    name = author.get("rec_name") if isinstance(author, dict) else None
    return clean_name(name) if isinstance(name, str) else None


def record_id_of(row: Mapping[str, Any], name: str, where: str) -> str:
    """An id of Tryton (a number) as text.

    Raises:
        MissingFieldError: it is none.
    """
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        msg = f"{where}: {name} is missing"
        raise MissingFieldError(msg)
    return str(value)


def raw_ref(account: str, what: str, record_id: str) -> str:
    """Where a record came from."""
    return f"crm:{CRM}/{account}/{what}/{record_id}"
