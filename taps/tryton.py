"""tap-tryton: the parties of a Tryton database, and the replies that agents write on them as notes.

Source: trytond 8.2.1 (``ir/resource.py``, ``ir/note.py``, ``model/modelstorage.py``) and trytond-party 8.2.0
(``party.py``; pypi.org), read 2026-11 and observed on a running server. Only administrators may search all notes; other
users must name the records that the notes are on, so for them notes are asked for party by party, a thousand at a time.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, PayloadError, RejectedError
from mappings.from_tryton import (
    IDENTIFIER_FIELDS,
    MECHANISM_FIELDS,
    NOTE_FIELDS,
    PARTY_FIELDS,
    PLATFORM,
    contact_from_tryton,
    modified_at,
    party_of_note,
    raw_ref,
    reply_from_tryton,
    result_from_tryton,
    status_error,
)
from mappings.records import Contact, Record, Reply
from mappings.settings import PluginSettings
from mappings.to_tryton import (
    CRM,
    REPLY_MARKER,
    TEMPLATE_MARKER,
    call_for_tryton,
    datetime_for_tryton,
    resource_of,
)
from stores.parked import ParkedItem
from taps.base import Check, Checkpoint, HttpSession, OneThreadTap

Row = dict[str, Any]

_PARTIES_PER_SEARCH = 1000
_MOST_SEEN = 10_000
_LOGIN = "common.db.login"


class TrytonSettings(PluginSettings):
    """What to read and how."""

    url: str = Field(pattern=r"^https?://[^\s?#]+$", description="Address of the Tryton server, without the database.")
    database: str = Field(pattern=r"^[^\s/?#]+$", description="Name of the database.")
    username: str = Field(description="Login of a user of onethread's own; its notes are never replies.")
    password: SecretStr = Field(description="Its password.")
    account: str | None = Field(None, description="Name of this Tryton in onethread's own records; as in the target.")
    default_region: str | None = Field(
        None, pattern="^[A-Z]{2}$", description="Country of phone numbers typed without country code, e.g. GB."
    )
    reply_marker: str = Field(
        REPLY_MARKER, pattern=r"^[^\s%_\\]{2,30}$", description="How a note begins that is to be sent to the customer."
    )
    reply_max_age_days: float = Field(7, gt=0, description="Replies that were written longer ago are left alone.")
    overlap_seconds: float = Field(
        300, ge=0, description="Read this much again with each run: what was saved late can bear an earlier time."
    )
    page_size: int = Field(500, ge=1, le=5000, description="Parties per call.")
    timeout_seconds: float = Field(60, gt=0, description="Give up waiting for one answer after this long.")
    max_tries: int = Field(6, ge=1, description="Try one call at most this often while Tryton is unavailable.")
    max_retry_seconds: float = Field(180, gt=0, description="Stop trying one call after this long.")

    @property
    def account_name(self) -> str:
        """What this Tryton is called in handles and keys."""
        return self.account or self.database


class TrytonReader(HttpSession):
    """One database, read as our user."""

    def __init__(self, settings: TrytonSettings) -> None:
        super().__init__(
            PLATFORM,
            settings.url,
            secrets=[settings.password],
            timeout_seconds=settings.timeout_seconds,
            max_tries=settings.max_tries,
            max_seconds=settings.max_retry_seconds,
        )
        self._settings = settings

    @cached_property
    def user_id(self) -> int:
        """Our own user; logs in."""
        return self._log_in()

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """The error for an answer."""
        del body
        return status_error(endpoint, status, retry_after)

    def call(self, method: str, *parameters: Any, **context: Any) -> Any:
        """One call; a session that has ended is begun again once."""
        _ = self.user_id
        try:
            return self._ask(method, parameters, context)
        except CredentialsError:
            self._log_in()
            return self._ask(method, parameters, context)

    def search_read(
        self, model: str, domain: Sequence[Any], fields: Sequence[str], limit: int | None = None
    ) -> list[Row]:
        """Rows by ascending id, archived ones too."""
        rows = self.call(
            f"model.{model}.search_read", list(domain), 0, limit, [["id", "ASC"]], list(fields),
            active_test=False, language="en",
        )  # fmt: skip
        if not isinstance(rows, list):
            msg = f"{PLATFORM}: {model} was answered without rows"
            raise MissingFieldError(msg)
        return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), int)]

    @cached_property
    def may_search_all_notes(self) -> bool:
        """Whether our user is an administrator."""
        preferences = self.call("model.res.user.get_preferences", True)
        return bool(isinstance(preferences, dict) and preferences.get("administrator"))

    def server_time(self) -> str:
        """The server's clock, whose times its rows bear; our own where it tells none."""
        _ = self.user_id
        return (self.answered_at or datetime.now(UTC)).isoformat()

    def server_version(self) -> str:
        """The server's series; asked without a login."""
        answer = self.call_json("POST", "rpc/", json=call_for_tryton("common.server.version", ()))
        return str(result_from_tryton("common.server.version", answer))

    def _log_in(self) -> int:
        self._session.headers.pop("Authorization", None)
        secret = self._settings.password.get_secret_value()
        result = self._ask(_LOGIN, (self._settings.username, {"password": secret}, "en"), None)
        if not isinstance(result, list) or len(result) < 2 or not isinstance(result[0], int):
            msg = f"{PLATFORM}: the login answered without a session"
            raise MissingFieldError(msg)
        session = f"{self._settings.username}:{result[0]}:{result[1]}".encode()
        self._session.headers["Authorization"] = f"Session {base64.b64encode(session).decode()}"
        user_id: int = result[0]
        return user_id

    def _ask(self, method: str, parameters: Sequence[Any], context: Mapping[str, Any] | None) -> Any:
        body = call_for_tryton(method, parameters, context)
        return result_from_tryton(method, self.call_json("POST", f"{self._settings.database}/rpc/", json=body))


class TapTryton(OneThreadTap[TrytonSettings]):
    """Reads one Tryton database. Select `contacts`, `replies` or both."""

    name = "tap-tryton"
    settings_model: ClassVar[type[PluginSettings]] = TrytonSettings
    record_models: ClassVar[tuple[type[Record], ...]] = (Contact, Reply)

    @cached_property
    def reader(self) -> TrytonReader:
        """The database."""
        return TrytonReader(self.settings)

    def read(self) -> Iterator[Record | Checkpoint]:
        """Parties first (replies need their persons), then replies."""
        yield from self.replay(f"crm:{CRM}/{self.settings.account_name}/", self._parked)
        if Contact.stream in self.selected_streams:
            yield from self._read_contacts()
        if Reply.stream in self.selected_streams and not self.stop_requested:
            yield from self._read_replies()

    # Contacts

    def _read_contacts(self) -> Iterator[Record | Checkpoint]:
        """Parties that changed since the last run (at first all), in the order of their ids."""
        since = self.cursor.get("contacts_since")
        began = self.cursor.get("contacts_began_at") or self.reader.server_time()
        seen = dict(self.cursor.get("contacts_seen") or {})
        newest = self.cursor.get("contacts_newest") or since or ""
        last_id = int(self.cursor.get("contacts_last_id") or 0)
        changed = _changed_since(self._with_overlap(since)) if since else []
        while True:
            domain = [["id", ">", last_id], *changed]
            page = self.reader.search_read("party.party", domain, PARTY_FIELDS, self.settings.page_size)
            for contact in self._contacts(page):
                moment = contact.modified_at.isoformat()
                newest = max(newest, moment)
                # A party that replaces another is not written by that, so what it replaced counts too.
                state = f"{moment} {len(contact.merged_record_ids)}"
                if seen.get(contact.record_id) != state:
                    yield contact
                seen[contact.record_id] = state
            if len(page) < self.settings.page_size:
                break
            last_id = page[-1]["id"]
            seen = _kept(seen, self._with_overlap(newest))
            where = {"contacts_last_id": last_id, "contacts_newest": newest, "contacts_began_at": began}
            yield Checkpoint({**where, "contacts_seen": seen})
            if self.stop_requested:
                return
        done = {"contacts_last_id": None, "contacts_newest": None, "contacts_began_at": None}
        if newest:
            # What was written after the run began, on a page that was read before, is for the next run.
            until = max(min(newest, began), since or "")
            kept = _kept(seen, self._with_overlap(until))
            yield Checkpoint({"contacts_since": until, "contacts_seen": kept, **done})

    def _contacts(self, parties: Sequence[Row]) -> Iterator[Contact]:
        """Parties as contacts; one that was replaced is told by the one that replaces it."""
        rows = {row["id"]: row for row in parties}
        waiting = {row["replaced_by"] for row in parties if row.get("replaced_by")} - rows.keys()
        while waiting:
            more = self.reader.search_read("party.party", [["id", "in", sorted(waiting)]], PARTY_FIELDS)
            rows |= {row["id"]: row for row in more}
            waiting = {row["replaced_by"] for row in more if row.get("replaced_by")} - rows.keys()
        live = [row for row in rows.values() if not row.get("replaced_by")]
        yield from self._contacts_of(live)

    def _contacts_of(self, parties: Sequence[Row]) -> Iterator[Contact]:
        if not parties:
            return
        party_ids = [row["id"] for row in parties]
        mechanisms = _by_party(self._on(party_ids, "party.contact_mechanism", MECHANISM_FIELDS))
        identifiers = _by_party(self._on(party_ids, "party.identifier", IDENTIFIER_FIELDS, [["active", "=", True]]))
        merged = self._merged_into(party_ids)
        for party in parties:
            both = {
                "party": party,
                "mechanisms": mechanisms.get(party["id"], []),
                "identifiers": identifiers.get(party["id"], []),
                "merged": merged.get(party["id"], []),
            }
            contact = self._contact(both)
            if contact is not None:
                yield contact

    def _on(self, party_ids: Sequence[int], model: str, fields: Sequence[str], more: Sequence[Any] = ()) -> list[Row]:
        return self.reader.search_read(model, [["party", "in", list(party_ids)], *more], fields)

    def _merged_into(self, party_ids: Sequence[int]) -> dict[int, list[str]]:
        """Party id -> all parties that it replaced, also those that these had replaced before."""
        survivor = {one: one for one in party_ids}
        merged: dict[int, list[str]] = {}
        waiting = list(party_ids)
        while waiting:
            rows = self.reader.search_read("party.party", [["replaced_by", "in", waiting]], ["replaced_by"])
            waiting = [row["id"] for row in rows if row["id"] not in survivor]
            for row in rows:
                survivor.setdefault(row["id"], survivor[row["replaced_by"]])
                merged.setdefault(survivor[row["id"]], []).append(str(row["id"]))
        return merged

    def _contact(self, payload: Mapping[str, Any]) -> Contact | None:
        try:
            return contact_from_tryton(
                payload["party"],
                payload["mechanisms"],
                payload["identifiers"],
                payload["merged"],
                account=self.settings.account_name,
                default_region=self.settings.default_region,
            )
        except PayloadError as error:
            self._park(Contact.stream, "party", payload["party"], payload, error)
            return None

    # Replies

    def _read_replies(self) -> Iterator[Record | Checkpoint]:
        """Notes that are replies, written since the last run; each once."""
        not_before = datetime.now(UTC) - timedelta(days=self.settings.reply_max_age_days)
        since = self.cursor.get("replies_since")
        began = self.reader.server_time()
        begin = max(not_before, self._with_overlap(since)) if since else not_before
        told = dict(self.cursor.get("replies_seen") or {})
        newest = since or ""
        for notes in self._notes(begin):
            notes = [note for note in notes if str(note["id"]) not in told]
            contacts = self._contacts_by_id({int(one) for note in notes if (one := party_of_note(note))})
            for note in notes:
                moment = modified_at({"create_date": note.get("create_date")}, f"Tryton note {note['id']}").isoformat()
                newest = max(newest, moment)
                reply = self._reply(note, contacts)
                if reply is not None:
                    yield reply
                told[str(note["id"])] = moment
            told = _kept(told, not_before)
            # The time moves on only when all notes are read: those of the next parties may be older.
            yield Checkpoint({"replies_seen": told})
            if self.stop_requested:
                return
        if newest:
            yield Checkpoint({"replies_since": max(min(newest, began), since or "")})

    def _contacts_by_id(self, party_ids: set[int]) -> dict[str, Contact]:
        """The contacts of parties; of one that was replaced the contact that stands for it now."""
        if not party_ids:
            return {}
        rows = self.reader.search_read("party.party", [["id", "in", sorted(party_ids)]], PARTY_FIELDS)
        return {
            record_id: contact
            for contact in self._contacts(rows)
            for record_id in (contact.record_id, *contact.merged_record_ids)
        }

    def _notes(self, begin: datetime) -> Iterator[list[Row]]:
        """Notes on parties that may be replies, page by page."""
        marked = [
            "OR",
            *(["message", "ilike", f"%{_literally(one)}%"] for one in (self.settings.reply_marker, TEMPLATE_MARKER)),
        ]
        domain = [["create_date", ">=", datetime_for_tryton(begin)], marked]
        if self.reader.may_search_all_notes:
            yield self.reader.search_read("ir.note", [["resource", "like", "party.party,%"], *domain], NOTE_FIELDS)
            return
        last_id = 0
        while True:
            page = self.reader.search_read("party.party", [["id", ">", last_id]], ["id"], _PARTIES_PER_SEARCH)
            if page:
                on = ["resource", "in", [resource_of(str(row["id"])) for row in page]]
                yield self.reader.search_read("ir.note", [on, *domain], NOTE_FIELDS)
            if len(page) < _PARTIES_PER_SEARCH:
                return
            last_id = page[-1]["id"]

    def _reply(self, note: Row, contacts: Mapping[str, Contact]) -> Reply | None:
        try:
            contact = contacts.get(party_of_note(note) or "")
            if contact is None:
                msg = f"Tryton note {note['id']}: its party cannot be read"
                raise MissingFieldError(msg)
            return reply_from_tryton(note, contact, own_user_id=self.reader.user_id, marker=self.settings.reply_marker)
        except PayloadError as error:
            self._park(Reply.stream, "note", note, {"note": note}, error)
            return None

    # Both

    def _parked(self, row: ParkedItem) -> Iterator[Record]:
        """What was put aside, read again."""
        if row.stream == Reply.stream:
            note = row.payload["note"]
            on = party_of_note(note)
            found: Record | None = self._reply(note, self._contacts_by_id({int(on)} if on else set()))
        else:
            found = self._contact(row.payload)
        if found is not None:
            yield found

    def _park(self, stream: str, what: str, row: Row, payload: Mapping[str, Any], error: PayloadError) -> None:
        record_id = str(row.get("id"))
        self.park(stream, record_id, error, dict(payload), raw_ref(self.settings.account_name, what, record_id))

    def _with_overlap(self, bookmark: str) -> datetime:
        return datetime.fromisoformat(bookmark) - timedelta(seconds=self.settings.overlap_seconds)

    # onethread doctor

    def check(self) -> Iterator[Check]:
        """Server, login, parties, and how notes can be searched. Changes nothing."""
        yield from super().check()
        try:
            yield Check("server", ok=True, detail=f"series {self.reader.server_version()}")
            yield Check("login", ok=True, detail=f"user {self.reader.user_id}")
            self.reader.search_read("party.party", [["id", "=", 0]], PARTY_FIELDS)
            yield Check("read parties", ok=True, detail="allowed")
            how = "in one search" if self.reader.may_search_all_notes else "party by party (no administrator)"
            yield Check("read notes", ok=True, detail=how)
            yield self.reader.check_clock()
        except RejectedError as error:
            yield Check("read parties", ok=False, detail=str(error), fix="activate the module party")
        except CredentialsError as error:
            yield Check("login", ok=False, detail=str(error), fix="set username and password; see the page")
        except OneThreadError as error:
            yield Check("Tryton", ok=False, detail=str(error), fix="check url and database; try again later")


def _changed_since(moment: datetime) -> list[Any]:
    """A party changes with its mechanisms: those can be written without the party."""
    at = datetime_for_tryton(moment)
    times = ("create_date", "write_date")
    fields = [*times, *(f"contact_mechanisms.{one}" for one in times)]
    return [["OR", *([one, ">=", at] for one in fields)]]


def _by_party(rows: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["party"], []).append(row)
    return found


def _kept(moments: dict[str, str], since: datetime) -> dict[str, str]:
    """Those since a moment, the newest of them: what is left out is read again, which does no harm."""
    first = since.isoformat()
    kept = sorted((at, record_id) for record_id, at in moments.items() if at >= first)
    return {record_id: at for at, record_id in kept[-_MOST_SEEN:]}


def _literally(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
