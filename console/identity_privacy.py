"""`onethread identity export`, `erase` and `erasures`: what is known of a person, and how it goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import click

from mappings.errors import SettingsError

if TYPE_CHECKING:
    from identity.erasure import Eraser, Waiting
    from stores.archive.erasing import Theirs
    from stores.database import Stores
    from stores.erasing import Traces
    from stores.graph.erasing import Subject

OVERDUE = 4
"""The exit code of `erasures` when one should have been done by now."""


@click.command()
@click.argument("person")
@click.option(
    "--to", "target", type=click.Path(path_type=Path),
    help="A folder that is not there yet, or a file ending in .zip. Default: person-<id>.zip in this folder.",
)  # fmt: skip
@click.pass_obj
def export(rules_file: str | None, person: str, target: Path | None) -> None:
    """Write everything that is known of PERSON as JSON, with their files: for a request for access.

    PERSON is a person's id or one of their handles. Nobody else can read what is written; keep it so.
    """
    stores, eraser, person_id = _opened(rules_file, person)
    path = target or Path(f"person-{person_id}.zip")
    known = everything_of(stores, eraser.subject(person_id))
    number = write_export(stores, known, path)
    click.echo(f"{path}: {len(known['messages'])} messages, {number} files")


@click.command()
@click.argument("person")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go; erase nothing.")
@click.option("--reason", default=None, help="Why; it is shown now and kept nowhere, for it may name the person.")
@click.option(
    "--due-days", default=30, show_default=True, envvar="ONETHREAD_ERASURE_DUE_DAYS", type=click.IntRange(0),
    help="When it must be done in every CRM; after that `erasures` fails.",
)  # fmt: skip
@click.pass_obj
def erase(rules_file: str | None, person: str, reason: str | None, due_days: int, *, yes: bool, dry_run: bool) -> None:
    """Erase PERSON everywhere: here at once, in the CRMs with the next run of their pipes. It cannot be undone.

    PERSON is a person's id or one of their handles. Again goes on where it stopped.
    """
    stores, eraser, person_id = _opened(rules_file, person, may_be_gone=True)
    try:
        known = everything_of(stores, eraser.subject(person_id))
    except SettingsError:
        known = None
    if known is not None:
        for line in told(known):
            click.echo(line)
    if dry_run:
        return
    if not yes:
        click.confirm(f"Erase this person for good{f' ({reason})' if reason else ''}?", abort=True)
    erasure = eraser.erase(person_id, due=timedelta(days=due_days))
    _ask_receiver(stores)
    for what, number in sorted(erasure.counts.items()):
        click.echo(f"erased: {number} {what}")
    _echo_waiting([one for one in eraser.waiting() if one.erasure.erasure_id == erasure.erasure_id])


@click.command()
@click.option(
    "--forget-tombstones-days", "days", default=0, show_default=True, envvar="ONETHREAD_ERASURE_TOMBSTONE_DAYS",
    type=click.IntRange(0),
    help="Drop the fingerprints that keep out what comes again, this long after the erasure. 0: keep them.",
)  # fmt: skip
@click.pass_obj
def erasures(rules_file: str | None, days: int) -> None:
    """Show the erasures that are not done, and what each waits for; fails when one is overdue (exit code 4)."""
    stores, eraser = _eraser(rules_file)
    _ask_receiver(stores)
    now = datetime.now(UTC)
    if days:
        click.echo(f"dropped {eraser.forget(now - timedelta(days=days))} tombstones")
    waiting = eraser.waiting()
    _echo_waiting(waiting)
    if any(one.is_overdue(now) for one in waiting):
        sys.exit(OVERDUE)


COMMANDS = (export, erase, erasures)


# What is known


def everything_of(stores: Stores, subject: Subject) -> dict[str, Any]:
    """Everything known of one person, and of nobody else, as a JSON value; times are UTC.

    Keys: ``person``, ``handles``, ``evidence``, ``names`` and ``decisions`` (who is who, and why), one for each stream
    of the archive, ``replies`` (outbox), ``parked``, ``spool``, ``deliveries`` (raw bytes: others' messages may be in
    them), ``items``, ``crm_contacts`` and ``crm_records``.
    """
    from stores.archive import Archive
    from stores.archive.erasing import Known
    from stores.erasing import Rows, outgoing_keys
    from stores.graph import Graph

    graph = Graph(stores)
    archive = Archive(stores, graph)
    archive.follow_graph()
    theirs = archive.find_theirs(subject, Known())
    traces = _traces_of(subject, theirs)
    replies, sent = outgoing_keys(row for _, row in Rows(stores, subject, traces).replies())
    theirs = archive.find_theirs(
        subject, Known((), tuple({*theirs.message_keys.values(), *sent}), tuple(theirs.reply_keys | replies))
    )
    traces = _traces_of(subject, theirs)
    rows = Rows(stores, subject, traces)
    person = archive.person(subject.person_id)
    ids = {one.handle_id for one in subject.owned}
    decisions = graph.decisions(revoked=True, limit=1_000_000)
    return {
        "person": person.model_dump(mode="json") if person else {"person_id": subject.person_id},
        "merged_person_ids": [one for one in subject.person_ids if one != subject.person_id],
        "handles": [
            {**one.handle.model_dump(), "since": _time(one.since), "until": _time(one.until)} for one in subject.owned
        ],
        **graph.known_of(subject),
        "decisions": [_decision(one) for one in decisions if _is_about(graph, one, ids)],
        **theirs.records,
        "replies": [row for _, row in rows.replies()],
        "parked": [row for _, row in rows.parked()],
        "spool": [row for _, row in rows.spool()],
        "deliveries": [{"delivery_id": number, "body": body} for number, body in rows.deliveries()],
        "items": rows.items(),
        "crm_contacts": rows.ledger_contacts(),
        "crm_records": rows.ledger_records(),
    }  # fmt: skip


def _traces_of(subject: Subject, theirs: Theirs) -> Traces:
    from stores.erasing import Traces

    keys, talks = theirs.message_keys.values(), theirs.conversation_keys.values()
    return Traces.of(subject, keys, theirs.reply_keys, theirs.raw_refs, talks)


def told(known: dict[str, Any]) -> Iterable[str]:
    """What is known of a person in a few lines, without a word of theirs."""
    yield f"person {known['person']['person_id']}"
    for name, values in known.items():
        if isinstance(values, list) and values:
            yield f"  {len(values)} {name.replace('_', ' ')}"
    for one in known["crm_contacts"]:
        what = "made by onethread, will be deleted" if one["made_by_us"] else "made by people, will be cleared of ours"
        yield f"  {one['crm']} {one['account']} contact {one['record_id']}: {what}"


def write_export(stores: Stores, known: dict[str, Any], path: Path) -> int:
    """Write what is known of a person, with the files of messages and replies; how many. Only the owner can read it.

    Raises:
        SettingsError: there is something at `path` already.
    """
    from stores.media import Media

    media = Media(stores)
    number = 0
    with _written(path) as add:
        records = [(one["message_key"], one) for one in known["messages"]]
        records += [(one["reply"]["reply_key"], one["reply"]) for one in known["replies"]]
        for key, record in records:
            for position, attachment in enumerate(record["attachments"]):
                stored = media.find(key, position)
                if stored is None:
                    continue
                number += 1
                name = f"media/{number:04d}{_ending(attachment.get('filename'), stored.mime_type)}"
                attachment["exported_as"] = name
                add(name, media.open(stored.media_key))
            stored = media.find(key) if not record["attachments"] else None
            if stored is not None:
                number += 1
                name = f"media/{number:04d}{_ending(None, stored.mime_type)}"
                record["exported_as"] = name
                add(name, media.open(stored.media_key))
        text = json.dumps({"exported_at": datetime.now(UTC).isoformat(), **known}, ensure_ascii=False, indent=1)
        add("person.json", [text.encode("utf-8", "replace")])
    return number


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    """A function that takes a name and pieces of bytes, writing to a new folder or zip with mode 0600."""
    if path.exists():
        msg = f"{path} is there already; give another name with --to"
        raise SettingsError(msg)
    if path.suffix == ".zip":
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w+b") as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:

            def add_to_zip(name: str, pieces: Iterable[bytes]) -> None:
                info = ZipInfo(name, datetime.now(UTC).timetuple()[:6])
                info.external_attr = 0o600 << 16
                info.compress_type = ZIP_DEFLATED
                with archive.open(info, "w") as entry:
                    for piece in pieces:
                        entry.write(piece)

            yield add_to_zip
        return
    path.mkdir(mode=0o700)

    def add_to_folder(name: str, pieces: Iterable[bytes]) -> None:
        target = path / name
        target.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(pieces)

    yield add_to_folder


def _ending(filename: str | None, mime_type: str) -> str:
    import mimetypes

    ending = Path(filename).suffix if filename else mimetypes.guess_extension(mime_type) or ""
    return ending if ending[1:].isalnum() and len(ending) <= 8 else ""


def _time(moment: int) -> str | None:
    from stores.graph.nodes import moment_of
    from stores.graph.tombstones import EVER

    return None if abs(moment) == EVER else moment_of(moment).isoformat()


def _decision(decision: Any) -> dict[str, Any]:
    return {
        "kind": decision.kind,
        "handles": [handle.model_dump() for handle in decision.handles],
        "since": decision.since.isoformat() if decision.since else None,
        "actor": decision.actor,
        "reason": decision.reason,
        "decided_at": decision.decided_at.isoformat(),
        "revoked_at": decision.revoked_at.isoformat() if decision.revoked_at else None,
    }


def _is_about(graph: Any, decision: Any, ids: set[int]) -> bool:
    nodes = (graph.node_of(handle) for handle in decision.handles)
    return any(node is not None and node.handle_id in ids for node in nodes)


# The commands' parts


def _eraser(rules_file: str | None) -> tuple[Stores, Eraser]:
    from identity.erasure import Eraser
    from identity.rules import load_rules
    from stores.database import Stores

    stores = Stores()
    return stores, Eraser(stores, load_rules(rules_file))


def _opened(rules_file: str | None, person: str, *, may_be_gone: bool = False) -> tuple[Stores, Eraser, str]:
    """The stores, the eraser, and the id of the person that is named by an id or a handle."""
    from identity.explain import find_handle
    from stores.graph import Graph

    stores, eraser = _eraser(rules_file)
    graph = Graph(stores)
    if graph.subject(person) is not None:
        return stores, eraser, graph.current(person)
    try:
        handle = find_handle(graph, person)
    except SettingsError:
        if may_be_gone:  # by now nobody is known under it, which is what was wanted
            return stores, eraser, person
        raise
    if handle is None:
        return stores, eraser, person
    person_id = graph.person_of(handle)
    if person_id is None:
        msg = "nothing that links speaks of that handle: it is nobody's"
        raise SettingsError(msg)
    return stores, eraser, person_id


def _ask_receiver(stores: Stores) -> None:
    """Remove raw deliveries in the receiver's place, when none is running."""
    from stores.removals import Removals
    from taps.webhooks.retention import remove_asked

    if Removals(stores).asked():
        remove_asked(stores, datetime.now(UTC))


def _echo_waiting(waiting: Iterable[Waiting]) -> None:
    now = datetime.now(UTC)
    lines = [
        f"person {one.erasure.person_id}: erased here {one.erasure.asked_at:%Y-%m-%d},"
        f" due {one.erasure.due_at:%Y-%m-%d}{' OVERDUE' if one.is_overdue(now) else ''},"
        f" waits for {', '.join(one.open_parts)}"
        for one in waiting
    ]
    for line in lines or ["every erasure is done"]:
        click.echo(line)
