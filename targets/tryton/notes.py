"""Messages as notes on parties: each once, whatever happens on the way.

A note's text cannot be changed in Tryton, so a message that changed is a new note, and the old one is deleted then.
Nothing in Tryton makes a note unique. So what is about to be created is committed to the ledger first; when the answer
stays away, the notes on the parties are read, and the reference in the last line of each says what was created.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

from mappings.errors import OneThreadError, UnavailableError
from mappings.records import ArchivedMessage
from mappings.to_tryton import (
    day_key,
    day_note_text,
    note_reference,
    note_text,
    reference_in_note,
    resource_of,
)
from stores.ledger import Ledger, LedgerMessage
from targets.crm_messages import Addressed, CrmMessages, Parkable
from targets.crm_people import CrmPeople
from targets.tryton.api import NOTE, Created, Row, TrytonApi
from targets.tryton.links import Links
from targets.tryton.parties import Parties
from targets.tryton.settings import TrytonTargetSettings

_ROUNDS = 3
_SETTLING = ("reference", "replaces", "was")


@dataclass(slots=True)
class Note:
    """One note that is to be there.

    Attributes:
        text: with `reference` in its last line.
        entries: the ledger's rows of what it says.
        keys: of the records that ask for it, as they are parked.
        replaces: the notes in whose place it comes.
    """

    reference: str
    text: str
    party_id: str
    entries: list[LedgerMessage]
    keys: list[str]
    replaces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Draft:
    """One message on its way."""

    message: ArchivedMessage
    entry: LedgerMessage

    @property
    def key(self) -> str:
        return self.message.message_key


class Notes(CrmMessages):
    """The notes in one Tryton database. Called under the account's create-lock."""

    def __init__(
        self,
        api: TrytonApi,
        ledger: Ledger,
        links: Links,
        people: CrmPeople,
        parties: Parties,
        settings: TrytonTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        super().__init__(ledger, links, people, parties, count)
        self._api = api
        self._settings = settings

    def write(self, messages: Iterable[ArchivedMessage], *, keep: bool = False) -> Parkable:
        """Put messages on their persons' parties, or change them there.

        Args:
            messages: the last of several with one key counts.
            keep: keep the messages in the ledger, encrypted, so that they can be written again with their changes.

        Repeats: what has not changed costs no call.
        """
        self.settle()
        latest = {self._ledger.fingerprint(one.message_key): one for one in messages}
        rows = self._ledger.messages(latest)
        found, parkable = self._addressed(latest, rows)
        return parkable | self._write_drafts([self._draft(one, keep=keep) for one in found], rows)

    def erase(self, messages: Sequence[LedgerMessage]) -> None:
        """Delete the notes of these messages; they are never written again."""
        note_ids = {one.record_id for one in messages if one.record_id}
        self._api.delete(NOTE, sorted(note_ids, key=int))
        self._ledger.erase_messages(messages)
        self._count("messages erased", len(messages))

    def settle(self) -> None:
        """Find out what came of creations without an answer, from a run that died too."""
        if not self._ledger.intents():
            return
        self._links.survivors({one.contact_id for one in self._ledger.intents() if one.contact_id})
        intents = self._ledger.intents()  # read again: their parties may have been replaced
        old = {str(one) for intent in intents for one in (intent.kept or {}).get("replaces", ())}
        parties = {one.contact_id for one in intents if one.contact_id and not one.record_id}
        made = self._made_without_answer(parties, old)
        superfluous = {one for ones in made.values() for one in ones[1:]}
        settled, lost = [], []
        for intent in intents:
            kept = dict(intent.kept or {})
            found = made.get(str(kept.get("reference")), [])
            record_id = intent.record_id or next(iter(found), None)
            rest = {key: value for key, value in kept.items() if key not in _SETTLING} or None
            if record_id is not None:
                superfluous |= set(kept.get("replaces", ())) - {record_id}
                settled.append(replace(intent, state="written", record_id=record_id, kept=rest))
            elif kept.get("was"):
                # The new note was not made, so the old one still stands, and says what it said before.
                before = replace(intent, state="written", record_id=str(kept["was"]), content_hash=None, kept=rest)
                settled.append(before)
            else:
                lost.append(intent.message)
        self._api.delete(NOTE, sorted(superfluous, key=int))
        with self._ledger.transaction():
            self._ledger.save_messages(settled)
            self._ledger.forget_messages(lost)
        self._count("messages settled", len(settled))

    def write_notes(self, notes: Sequence[Note]) -> Parkable:
        """Create notes, each in the place of those that it replaces; why some were refused."""
        waiting = list(notes)
        parkable: Parkable = {}
        for _ in range(_ROUNDS):
            waiting = self._on_live_parties(waiting, parkable)
            if not waiting:
                return parkable
            waiting = self._create(waiting, parkable)
            if waiting:
                if self._settings.settle_wait_seconds:
                    time.sleep(self._settings.settle_wait_seconds)  # a slow server may still be writing
                self.settle()
                rows = self._ledger.messages(entry.message for note in waiting for entry in note.entries)
                waiting = [note for note in waiting if not _is_there(note, rows)]
        if not waiting:
            return parkable
        msg = "Tryton: creating notes keeps ending without an answer; run again later, nothing is written twice"
        raise UnavailableError(msg)

    # Who, where and what

    def _draft(self, one: Addressed, *, keep: bool) -> _Draft:
        message, row = one.message, one.row
        kept: dict[str, Any] = {}
        if keep:
            kept, message = self._kept_and_folded(message)
        # A message that is on a day's note stays on it, whatever the setting says now.
        if _is_on_a_day(row) if row else self._settings.notes == "day":
            kept["shown"] = message.model_dump(mode="json")
        entry = self._ledger.entry_for(
            message,
            "written",
            record_id=row.record_id if row else None,
            contact_id=one.contact_id,
            person_id=one.person_id,
            content_hash=self._ledger.content_hash({"text": self._text(message)}),
            kept=kept or None,
        )
        return _Draft(message, entry)

    def _text(self, message: ArchivedMessage) -> str:
        return note_text(message, max_characters=self._settings.max_note_characters)

    # Writing

    def _write_drafts(self, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        parkable = self._move([draft for draft in drafts if draft.entry.message in rows], rows)
        due = [
            draft
            for draft in drafts
            if draft.key not in parkable
            and ((row := rows.get(draft.entry.message)) is None or row.content_hash != draft.entry.content_hash)
        ]
        now = self._ledger.messages(draft.entry.message for draft in due)
        due = [draft for draft in due if now.get(draft.entry.message, draft.entry).state == "written"]
        alone = [draft for draft in due if not _is_on_a_day(draft.entry)]
        notes = [self._note(draft) for draft in alone]
        notes += self._day_notes([draft for draft in due if _is_on_a_day(draft.entry)])
        new = sum(draft.entry.message not in rows for draft in due)
        refused = self.write_notes(notes)
        failed_new = sum(draft.key in refused and draft.entry.message not in rows for draft in due)
        self._count("messages written", new - failed_new)
        self._count("messages changed", len(due) - new - (len(refused) - failed_new))
        return parkable | refused

    def _move(self, drafts: Sequence[_Draft], rows: Mapping[str, LedgerMessage]) -> Parkable:
        """Take messages to the party and person to which they belong now."""
        moving: dict[tuple[str, str], list[LedgerMessage]] = {}
        for draft in drafts:
            row = rows[draft.entry.message]
            where = (draft.entry.contact_id or "", draft.entry.person_id or "")
            if (row.contact_id, row.person_id) != where:
                moving.setdefault(where, []).append(row)
        keys = {draft.entry.message: draft.key for draft in drafts}
        parkable: Parkable = {}
        for (party_id, person_id), entries in moving.items():
            errors = self.move(entries, party_id, person_id)
            parkable |= {keys[mark]: error for mark, error in errors.items() if mark in keys}
        return parkable

    def move(self, messages: Sequence[LedgerMessage], contact_id: str, person_id: str) -> dict[str, OneThreadError]:
        """Take messages to another party; a note of a day of which only a part moves is written anew as two.

        Returns:
            Why a message (by its fingerprint) could not be moved.
        """
        leaving = {one.message for one in messages}
        stay: list[LedgerMessage] = []
        for old_person in {one.person_id for one in messages if one.person_id and _is_on_a_day(one)}:
            shared = {one.record_id for one in messages if one.person_id == old_person}
            stay += [
                one
                for one in self._ledger.messages_of_person(old_person)
                if one.record_id in shared and one.message not in leaving
            ]
        split = {one.record_id for one in stay}
        errors = self._links.move([one for one in messages if one.record_id not in split], contact_id, person_id)
        torn = [replace(one, contact_id=contact_id, person_id=person_id) for one in messages if one.record_id in split]
        refused = self.write_notes(self._notes_of_days([*torn, *stay])) if torn else {}
        return {**errors, **{one.message: refused[one.message] for one in torn if one.message in refused}}

    def _note(self, draft: _Draft) -> Note:
        replaces = [draft.entry.record_id] if draft.entry.record_id else []
        reference, party_id = note_reference(draft.key), draft.entry.contact_id or ""
        return Note(reference, self._text(draft.message), party_id, [draft.entry], [draft.key], replaces)

    def _day_notes(self, drafts: Sequence[_Draft]) -> list[Note]:
        """The notes of the days on which something changed, with all that was said on them."""
        entries = {draft.entry.message: draft.entry for draft in drafts}
        wanted = {(one.entry.person_id, _day(one.entry)) for one in drafts}
        for person_id in {one.entry.person_id or "" for one in drafts}:
            conversations = [one.message.conversation_key for one in drafts if one.entry.person_id == person_id]
            known = self._ledger.messages_of_person(person_id, handles=[], conversation_keys=conversations)
            for row in known:
                if (row.person_id, _day(row)) in wanted:
                    entries.setdefault(row.message, row)
        keys = {draft.entry.message: draft.key for draft in drafts}
        notes = self._notes_of_days(list(entries.values()))
        for note in notes:
            note.keys = [keys[one] for one in note.keys if one in keys]
        return notes

    def _notes_of_days(self, entries: Sequence[LedgerMessage]) -> list[Note]:
        """One note for each person, conversation and day; its keys are the fingerprints of the messages."""
        days: dict[tuple[str, str, str], list[tuple[ArchivedMessage, LedgerMessage]]] = {}
        for one in entries:
            if _is_on_a_day(one):
                message = ArchivedMessage.model_validate((one.kept or {})["shown"])
                days.setdefault((one.person_id or "", message.conversation_key, _day(one)), []).append((message, one))
        notes = []
        for (person_id, conversation_key, _), both in days.items():
            messages, rows = [message for message, _ in both], [row for _, row in both]
            key = day_key(conversation_key, person_id, messages[0].sent_at.date())
            text = day_note_text(messages, key, max_characters=self._settings.max_note_characters)
            replaces = sorted({row.record_id for row in rows if row.record_id}, key=int)
            marks = [row.message for row in rows]
            notes.append(Note(note_reference(key), text, rows[0].contact_id or "", rows, marks, replaces))
        return notes

    def _on_live_parties(self, notes: Sequence[Note], parkable: Parkable) -> list[Note]:
        """The notes on the parties that stand for theirs now; those without one are noted with the reason."""
        if not notes:
            return []
        now = self._links.survivors({note.party_id for note in notes})
        live = []
        for note in notes:
            party_id = now[note.party_id]
            if party_id is None:
                parkable |= dict.fromkeys(note.keys, self._links.deleted())
            else:
                entries = [replace(one, contact_id=party_id) for one in note.entries]
                live.append(replace(note, party_id=party_id, entries=entries))
        return live

    def _create(self, notes: Sequence[Note], parkable: Parkable) -> list[Note]:
        """Create with intents; returns those of which nobody knows."""
        by_reference = {note.reference: note for note in notes}
        before = self._ledger.messages(one.message for note in notes for one in note.entries)
        unknown: list[Note] = []
        size = self._settings.rows_per_call
        for start in range(0, len(notes), size):
            chunk = notes[start : start + size]
            self._ledger.save_messages([one for note in chunk for one in _intents(note)])

            def settled(part: Created) -> None:
                self._settled(part, by_reference, before)
                for one, why in part.refused.items():
                    parkable.update(dict.fromkeys(by_reference[one].keys, why))
                unknown.extend(by_reference[one] for one in part.unknown)

            self._api.create_each(NOTE, {note.reference: _row(note) for note in chunk}, settled)
        return unknown

    def _settled(self, part: Created, notes: Mapping[str, Note], before: Mapping[str, LedgerMessage]) -> None:
        written: list[LedgerMessage] = []
        replacing: list[LedgerMessage] = []
        superfluous: list[str] = []
        for reference, record_id in part.ids.items():
            note = notes[reference]
            written += [replace(one, record_id=record_id) for one in note.entries]
            if note.replaces:
                replacing += [replace(one, record_id=record_id) for one in _intents(note)]
                superfluous += note.replaces
        refused = [one.message for reference in part.refused for one in notes[reference].entries]
        with self._ledger.transaction():
            # A note that replaces others stays an intent until they are gone: the next run would delete them.
            self._ledger.save_messages([*written, *replacing, *(before[one] for one in refused if one in before)])
            self._ledger.forget_messages(one for one in refused if one not in before)
        if superfluous:
            self._api.delete(NOTE, superfluous)
            self._ledger.save_messages(written)

    def _made_without_answer(self, party_ids: Iterable[str], old: set[str]) -> dict[str, list[str]]:
        """Reference -> ids of our notes on these parties that the ledger does not know, `old` apart, in their order."""
        wanted = sorted(party_ids, key=int)
        known = old | {one for party_id in wanted for one in self._ledger.records_on_contact(party_id)}
        ours = [["create_uid", "=", self._api.user_id]] if wanted else []
        resources = [resource_of(one) for one in wanted]
        found = self._api.read_where(NOTE, "resource", resources, ["id"], ours)
        unknown = [str(row["id"]) for row in found if str(row["id"]) not in known]
        made: dict[str, list[str]] = {}
        for row in self._read(unknown):
            reference = reference_in_note(row.get("message"))
            if reference:
                made.setdefault(reference, []).append(str(row["id"]))
        return made

    def _read(self, note_ids: Sequence[str]) -> list[Row]:
        return self._api.call(f"model.{NOTE}.read", [int(one) for one in note_ids], ["message"]) if note_ids else []


def _is_on_a_day(entry: LedgerMessage) -> bool:
    """Whether a message shares its note with others of its day."""
    return bool(entry.kept and "shown" in entry.kept)


def _day(entry: LedgerMessage) -> str:
    return entry.sent_at.astimezone(UTC).date().isoformat() if entry.sent_at else ""


def _row(note: Note) -> Row:
    return {"resource": resource_of(note.party_id), "message": note.text}


def _intents(note: Note) -> list[LedgerMessage]:
    """The rows of a note before its creation is called for; `was` is the note that shows the message until then."""
    return [
        replace(
            one,
            state="intended",
            record_id=None,
            kept={
                **(one.kept or {}), "reference": note.reference, "was": one.record_id, "replaces": note.replaces,
            },
        )
        for one in note.entries
    ]  # fmt: skip


def _is_there(note: Note, rows: Mapping[str, LedgerMessage]) -> bool:
    """Whether settling has found a note."""
    known = [rows.get(one.message) for one in note.entries]
    return all(row is not None and row.content_hash is not None for row in known)
