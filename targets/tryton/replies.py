"""The fate of a reply, told by a note of ours on the party on which an agent wrote it.

The agent's own note cannot be changed in Tryton, so one of ours stands beside it, and the next word of the same reply
comes in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from mappings.errors import RejectedError
from mappings.from_tryton import party_of_note
from mappings.ids import parse_reply_key
from mappings.records import Receipt
from mappings.to_tryton import CRM, REPLY_RANKS, fate_note_text, note_reference
from stores.ledger import Ledger, LedgerMessage
from targets.crm_replies import Fate, Untold, furthest_fates
from targets.tryton.api import NOTE, TrytonApi
from targets.tryton.notes import Note, Notes
from targets.tryton.settings import TrytonTargetSettings


@dataclass(frozen=True, slots=True)
class _Fate(Fate):
    note_id: str
    written_at: datetime | None


class Replies:
    """What became of the replies in one Tryton database."""

    def __init__(
        self,
        api: TrytonApi,
        ledger: Ledger,
        notes: Notes,
        settings: TrytonTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._notes = notes
        self._settings = settings
        self._count = count

    def write(self, receipts: Iterable[Receipt]) -> Untold:
        """Tell the agents; returns what could not be told.

        Repeats: harmless; a status never moves back.
        """
        fates, failed = furthest_fates(receipts, self._fate, self._count)
        return failed + self._tell(fates) if fates else failed

    def _fate(self, receipt: Receipt) -> _Fate | None:
        reply_key = receipt.reply_key or receipt.subject_key
        crm, account, note_id, moment = parse_reply_key(reply_key)
        if (crm, account) != (CRM, self._settings.account_name):
            self._count("receipts of another CRM not used", 1)
            return None
        told = self._ledger.note(reply_key)
        fate = _Fate(receipt, reply_key, REPLY_RANKS[receipt.status], note_id, _moment(moment))
        return fate if told is None or REPLY_RANKS[told] < fate.rank else None

    def _tell(self, fates: list[_Fate]) -> Untold:
        self._notes.settle()
        marks = {self._ledger.fingerprint(_key(fate.reply_key)): fate for fate in fates}
        rows = self._ledger.messages(marks)
        notes = []
        for mark, fate in marks.items():
            party_id = self._party_of(fate, rows.get(mark))
            if party_id is None:
                self._count("replies whose note was deleted not told", 1)
                self._ledger.save_note(fate.reply_key, fate.receipt.status)
            else:
                notes.append(self._note(mark, fate, party_id, rows.get(mark)))
        refused = self._notes.write_notes(notes)
        for note in notes:
            fate = marks[note.entries[0].message]
            if fate.reply_key not in refused:
                self._ledger.save_note(fate.reply_key, fate.receipt.status)
        self._count("replies told", len(notes) - len(refused))
        return [(fate.receipt, refused[fate.reply_key]) for fate in fates if fate.reply_key in refused]

    def _party_of(self, fate: _Fate, row: LedgerMessage | None) -> str | None:
        """The party on which the agent's note is now; ``None`` when somebody deleted the note."""
        if row is not None and row.contact_id:
            return row.contact_id
        try:
            found = self._api.call(f"model.{NOTE}.read", [int(fate.note_id)], ["resource"])
        except RejectedError:
            return None
        return party_of_note(found[0]) if found else None

    def _note(self, mark: str, fate: _Fate, party_id: str, row: LedgerMessage | None) -> Note:
        text = fate_note_text(fate.receipt, fate.written_at, fate.reply_key)
        owners = self._ledger.contacts_of_record(party_id)
        entry = LedgerMessage(
            mark,
            "written",
            record_id=row.record_id if row else None,
            contact_id=party_id,
            person_id=owners[0].person_id if owners else None,
            content_hash=self._ledger.content_hash({"text": text}),
        )
        replaces = [row.record_id] if row is not None and row.record_id else []
        return Note(note_reference(_key(fate.reply_key)), text, party_id, [entry], [fate.reply_key], replaces)


def _key(reply_key: str) -> str:
    return f"reply {reply_key}"


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
