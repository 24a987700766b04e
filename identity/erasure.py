"""Erases a person everywhere: here at once, in the CRMs by the log, and for good.

::

    graph (with tombstones, one transaction) -> what the archive has -> inbox, outbox, parked, files, ledgers
        -> archive -> the log tells the CRMs -> the files are written anew -> every CRM has filed its receipt

From the first transaction on nothing of the person can come in any more. What is still to do is kept, encrypted, with
the erasure, and every step may be done again: a process that is killed leaves work that the next one goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from identity.resolver import Resolver
from identity.rules import Rules
from mappings.errors import SettingsError
from mappings.records import Handle
from stores.archive import Archive
from stores.archive.erasing import Known, Theirs
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.erasing import Rows, Traces, forget_in_ledgers, outgoing_keys
from stores.graph import Graph, Touched, Unit
from stores.graph.erasing import GraphEraser, Subject, subject_from_json, subject_to_json
from stores.graph.erasures import Erasure, Erasures
from stores.graph.nodes import NewChange, time_number
from stores.graph.tombstones import EVER, Tombstone, Tombstones
from stores.ledger import Ledger
from stores.media import Media
from stores.removals import Removals

WHY = "erased on request"
_SWEPT = ("graph", "archive", "items", "spool", "outbox", "parked", "ledger", "media")


class Waiting(NamedTuple):
    """What an erasure waits for: a CRM (``hubspot 8800001``), the receiver, or a step of ours."""

    erasure: Erasure
    open_parts: tuple[str, ...]

    def is_overdue(self, now: datetime) -> bool:
        """Whether it should have been done by then."""
        return now > self.erasure.due_at


class Eraser:
    """Erases persons of one state. One process at a time does so.

    Args:
        stores: the state.
        rules: who is who; those that the graph follows.
        now: the moment of the erasure.
    """

    def __init__(self, stores: Stores, rules: Rules, now: datetime | None = None) -> None:
        self._stores = stores
        self._graph = Graph(stores)
        self._archive = Archive(stores, self._graph)
        self._resolver = Resolver(self._graph, rules)
        self._erasures = Erasures.of(stores)
        self._now = now or datetime.now(UTC)

    def subject(self, person_id: str) -> Subject:
        """The person that is meant, with what the graph holds of them.

        Raises:
            SettingsError: there is no such person.
        """
        subject = self._graph.subject(person_id)
        if subject is None and self._archive.person(person_id) is not None:
            subject = Subject(person_id, (person_id,), ())  # of an archive without a graph
        if subject is None:
            msg = f"nobody is known under the id {person_id}"
            raise SettingsError(msg)
        return subject

    def erase(self, person_id: str, *, due: timedelta) -> Erasure:
        """Erase a person; the erasure, which is done when all CRMs are. Repeats: goes on where it stopped.

        Args:
            person_id: whom; of merged persons any of the ids.
            due: when it must be done everywhere.

        Raises:
            SettingsError: nobody is known under that id, or the graph follows other rules.
        """
        with self._stores.lock("erasure"):
            self._go_on()
            try:
                subject = self.subject(person_id)
            except SettingsError:
                before = self._erasures.last_of(person_id)
                if before is None:
                    raise
                return self._settle(before).erasure
            number = self._begin(subject, due)
            self._carry_out(self._erasures.find(number))
            return self._settle(self._erasures.find(number)).erasure

    def waiting(self) -> list[Waiting]:
        """Go on with what was interrupted; then what each erasure that is not done waits for."""
        with self._stores.lock("erasure"):
            self._go_on()
            found = [self._settle(one) for one in self._erasures.open()]
        return [one for one in found if one.erasure.state != "done"]

    def forget(self, before: datetime) -> int:
        """Drop the tombstones of erasures before that time, with what the log says of them; how many."""
        with self._stores.lock("erasure"), self._stores.database("graph").transaction():
            self._erasures.forget(before)
            return Tombstones.of(self._stores).forget(time_number(before))

    # Ours

    def _go_on(self) -> None:
        for one in self._erasures.open():
            if one.state in {"planned", "told"}:
                self._carry_out(one)

    def _begin(self, subject: Subject, due: timedelta) -> int:
        """The graph forgets the person and remembers what must not come back, all in one transaction."""
        number = 0

        def act(unit: Unit) -> Touched:
            nonlocal number
            eraser = GraphEraser(unit, self._archive.is_written_by)
            found = replace(eraser.subject(subject.person_id) or subject, before=time_number(self._now))
            stones = eraser.tombstones(found, time_number(self._now))
            self._graph.tombstones.add(stones, time_number(self._now))
            gone = eraser.erase(found)
            plan = {
                "subject": subject_to_json(found),
                "orphans": [handle.model_dump() for handle in gone.handles],
                "message_keys": [],
                "reply_keys": [],
                "conversation_keys": [],
                "raw_refs": [],
            }
            number = self._erasures.begin(found.person_id, self._now, self._now + due, plan)
            self._erasures.add_counts(number, gone.counts)
            return gone.touched

        self._resolver.change(act, "a person was erased")
        return number

    def _carry_out(self, erasure: Erasure) -> None:
        if erasure.state == "planned":
            subject = subject_from_json(erasure.plan["subject"])
            theirs, traces = self._find(erasure, subject)
            counts = self._erase_rows(subject, traces)
            archived = self._archive.erase(subject, theirs)
            self._tell(erasure, subject, {**counts, **archived})
        if self._sweep():
            self._erasures.set_state(erasure.erasure_id, "swept")

    def _find(self, erasure: Erasure, subject: Subject) -> tuple[Theirs, Traces]:
        """What is theirs, together with what an interrupted run found; kept before anything of it is deleted."""
        plan = erasure.plan
        handles = tuple(Handle.model_validate(one) for one in plan["orphans"])
        known = Known(handles, tuple(plan["message_keys"]), tuple(plan["reply_keys"]))
        theirs = self._archive.find_theirs(subject, known)
        talks = {*plan["conversation_keys"], *theirs.conversation_keys.values()}
        traces = Traces.of(subject, theirs.message_keys.values(), theirs.reply_keys, theirs.raw_refs, talks)
        replies, sent = outgoing_keys(row for _, row in Rows(self._stores, subject, traces).replies())
        if replies - theirs.reply_keys or sent - set(theirs.message_keys.values()):
            messages = {*theirs.message_keys.values(), *sent}
            known = Known(handles, tuple(messages), tuple(theirs.reply_keys | replies))
            theirs = self._archive.find_theirs(subject, known)
        conversations = talks | set(theirs.conversation_keys.values())
        theirs.conversation_keys = {self._stores.codec.fingerprint(key): key for key in conversations}
        refs = {*plan["raw_refs"], *theirs.raw_refs}
        traces = Traces.of(subject, theirs.message_keys.values(), theirs.reply_keys, refs, conversations)
        destinations = {*erasure.destinations, *Rows(self._stores, subject, traces).destinations()}
        with self._stores.database("graph").transaction():
            self._graph.tombstones.add(self._stones_of(subject, theirs), time_number(erasure.asked_at))
            self._erasures.save_plan(
                erasure,
                {
                    **plan,
                    "message_keys": sorted(theirs.message_keys.values()),
                    "reply_keys": sorted(theirs.reply_keys),
                    "conversation_keys": sorted(conversations),
                    "raw_refs": sorted(refs),
                },
                destinations,
            )
        return theirs, traces

    def _stones_of(self, subject: Subject, theirs: Theirs) -> list[Tombstone]:
        until = subject.before
        fingerprint = self._stores.codec.fingerprint
        since = min((one.since for one in subject.owned), default=-EVER)
        whole = [*theirs.message_keys, *map(fingerprint, theirs.reply_keys)]
        known = {fingerprint(one.handle.key) for one in subject.owned}
        return [
            *(Tombstone(mark, -EVER, EVER) for mark in whole),
            *(Tombstone(mark, since, until) for mark in theirs.conversation_keys),
            *(Tombstone(mark, -EVER, until) for mark in theirs.heads - known if not subject.owned),
        ]

    def _erase_rows(self, subject: Subject, traces: Traces) -> dict[str, int]:
        rows = Rows(self._stores, subject, traces)
        removals = Removals(self._stores)
        removals.ask(removals.alone([number for number, _ in rows.deliveries()], traces.raw_refs))
        return {
            "ledger rows": rows.erase_from_ledgers(self._graph.last_sequence()),
            "files": Media(self._stores).erase(sorted(traces.message_keys | traces.reply_keys)),
            "replies": rows.erase_replies(),
            "parked rows": rows.erase_parked(),
            "spool entries": rows.erase_spool(),
            "items": rows.erase_items(),
        }

    def _tell(self, erasure: Erasure, subject: Subject, counts: Mapping[str, int]) -> None:
        """Tell the CRMs by the log. It names the person by our ids alone."""
        with self._graph.transaction() as unit:
            unit.log_changes([NewChange("erase", list(subject.person_ids), None, [], WHY)])
            self._erasures.add_counts(erasure.erasure_id, {name: number for name, number in counts.items() if number})
            self._erasures.tell(erasure.erasure_id, self._graph.last_sequence())

    def _sweep(self) -> bool:
        """Write every store anew; also those behind one that somebody holds."""
        swept = [self._stores.database(name).sweep() for name in _SWEPT]
        return all(swept)

    # Theirs

    def _settle(self, erasure: Erasure) -> Waiting:
        """Look who has erased meanwhile; with the last one the ids of the CRM's records go too."""
        self._remove_deliveries()
        open_parts = []
        if erasure.state in {"planned", "told"}:
            open_parts.append("another process to let go of the stores")
        for crm, account in erasure.destinations:
            if erasure.sequence is None or not Ledger(self._stores, crm, account).carried_out(erasure.sequence):
                open_parts.append(f"{crm} {account}")
        asked = Removals(self._stores).asked()
        if asked:
            open_parts.append(f"the receiver and the taps ({len(asked)} deliveries)")
        if not open_parts and erasure.state == "swept":
            ledger = self._stores.database("ledger")
            forget_in_ledgers(ledger, self._erasures.persons_of(erasure))
            ledger.sweep()
            self._erasures.set_state(erasure.erasure_id, "done", datetime.now(UTC))
            erasure = self._erasures.find(erasure.erasure_id)
        return Waiting(erasure, tuple(open_parts))

    def _remove_deliveries(self) -> None:
        """See what the receiver has removed."""
        removals = Removals(self._stores)
        asked = removals.asked()
        if not asked:
            return
        deliveries = Deliveries(self._stores)
        try:
            removals.forget(asked.keys() - deliveries.routes_of(asked).keys())
        finally:
            deliveries.close()
