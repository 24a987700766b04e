"""Persons, as the identity graph has them, with the sum of their conversations, inside one write transaction.

The archive keeps its own copy of "handle -> person", brought up to date from the graph's log in the same transaction
as the persons and conversations that follow from it. So a reader never meets a message whose person it cannot find.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mappings import fold
from mappings.records import Consent, Contact, Conversation, Person, PersonChange
from stores.archive.former import follow_cuts
from stores.archive.writing import Writing, counter, save_counter, time_text
from stores.database import Database, Row
from stores.graph import Graph

_PAGE = 500
_DERIVATION = 1
"""Goes up when a person says something new of what the archive already had: then those who have it are told again."""


def is_behind(database: Database, graph: Graph) -> bool:
    """Whether the graph has changes that the archive did not follow yet, or persons are told in another way now."""
    return (
        graph.last_sequence() != counter(database, "graph")
        or graph.cut_version() != counter(database, "cuts")
        or counter(database, "derivation") != _DERIVATION
    )


def follow_graph(writing: Writing) -> None:
    """Take over what changed in the graph since the last time."""
    follow_cuts(writing)
    if counter(writing.database, "derivation") != _DERIVATION:
        # 1: consents are told with the person.
        writing.deciders.update(row["head_mark"] for row in writing.database.query("SELECT head_mark FROM consent"))
        save_counter(writing.database, "derivation", _DERIVATION)
    applied, last = counter(writing.database, "graph"), writing.graph.last_sequence()
    if last == applied:
        return
    rebuilt = last < applied  # it was restored or made anew: its numbers start again
    _copy_changes(writing, 0 if rebuilt else applied, last)
    changed = _changed_persons(writing.graph, 0 if rebuilt else applied, last)
    if rebuilt:
        writing.database.execute("UPDATE handle SET graph_sequence = 0 WHERE graph_sequence IS NOT NULL")
        changed |= {
            row["person_id"]
            for row in writing.database.query("SELECT DISTINCT person_id FROM handle WHERE person_id IS NOT NULL")
        }
    moved: dict[str, str | None] = {}
    ordered = sorted(changed)
    for start in range(0, len(ordered), _PAGE):
        moved |= _take_handles(writing, ordered[start : start + _PAGE], last)
    moved |= _release_handles(writing, changed, last)
    writing.persons |= changed
    writing.renewed |= changed
    _touch_conversations(writing, moved)
    save_counter(writing.database, "graph", last)


def learn_handles(writing: Writing) -> None:
    """Keep the handles that the transaction met, and whose they are; their owners' words for the search by name.

    The graph knows best. A handle it does not know belongs to the person that map-identity stamped on the record.
    """
    stored = {
        row["handle_mark"]: row
        for row in writing.select("SELECT * FROM handle WHERE handle_mark IN [keys]", writing.handles)
    }
    rows = []
    moved: dict[str, str | None] = {}
    for mark, seen in sorted(writing.handles.items()):
        before = stored.get(mark)
        stamps = {*seen.stamps, *([before["stamp"]] if before is not None and before["stamp"] else [])}
        stamp = min(stamps, default=None)
        person_id = before["person_id"] if before is not None else None
        if person_id is None or (before is not None and before["graph_sequence"] is None and stamp != before["stamp"]):
            person_id = writing.graph.person_of(seen.handle)
            known = before is not None and before["graph_sequence"] is not None
            if person_id is None and stamp is not None and not known:
                person_id = writing.graph.current(stamp)
        old_person_id = before["person_id"] if before is not None else None
        if before is not None and (person_id, stamp) == (old_person_id, before["stamp"]):
            continue
        rows.append(
            {
                "handle_mark": mark,
                "value_mark": value_mark(writing, seen.handle.value),
                "person_id": person_id,
                "stamp": stamp,
            }
        )
        if person_id != old_person_id:
            moved[mark] = person_id
            writing.persons.update(one for one in (person_id, old_person_id) if one is not None)
    writing.upsert("handle", rows)
    words = [
        {"word_mark": word_mark(writing, word), "handle_mark": mark}
        for mark, seen in writing.handles.items()
        for word in seen.words
    ]
    writing.upsert("name_word", words, keys=2)
    _touch_conversations(writing, moved)


def refresh_persons(writing: Writing) -> None:
    """Derive again every person that the transaction touched; one that has nothing left is forgotten."""
    deciding = writing.select("SELECT person_id FROM handle WHERE handle_mark IN [keys]", writing.deciders)
    writing.persons.update(row["person_id"] for row in deciding if row["person_id"] is not None)
    stored = {
        row["person_id"]: row
        for row in writing.select("SELECT * FROM person WHERE person_id IN [keys]", writing.persons)
    }
    conversations: dict[str, list[Conversation]] = {}
    for row in writing.select(
        "SELECT person_id, body FROM conversation WHERE message_count > 0 AND person_id IN [keys]", writing.persons
    ):
        conversation = Conversation.model_validate(writing.unseal(row["body"]))
        conversations.setdefault(row["person_id"], []).append(conversation)
    contacts: dict[str, list[Contact]] = {}
    for row in writing.select(
        "SELECT h.person_id, c.body FROM contact c JOIN handle h ON h.handle_mark = c.head_mark"
        " WHERE h.graph_sequence IS NULL AND h.person_id IN [keys]",
        writing.persons,
    ):
        contacts.setdefault(row["person_id"], []).append(Contact.model_validate(writing.unseal(row["body"])))
    consents = _consents(writing)
    alive = {
        row["person_id"]
        for row in writing.select("SELECT DISTINCT person_id FROM handle WHERE person_id IN [keys]", writing.persons)
    }
    rows, gone = [], []
    for person_id in sorted(writing.persons):
        if person_id not in alive:
            gone.append((person_id,))
            continue
        before = stored.get(person_id)
        threads = conversations.get(person_id, [])
        decisions = consents.get(person_id, [])
        person = _derive(writing, person_id, before, threads, contacts.get(person_id, []), decisions)
        told = _row(writing, *person, before)
        if told is not None:
            rows.append(told)
    writing.upsert("person", rows)
    writing.database.execute_many("DELETE FROM person WHERE person_id = ?", gone)


def value_mark(writing: Writing, value: str) -> str:
    """The fingerprint by which a handle's value is searched, whatever its kind and scope."""
    return writing.mark(f"value|{value}")


def word_mark(writing: Writing, word: str) -> str:
    """The fingerprint of one word of a name."""
    return writing.mark(f"word|{word}")


def _consents(writing: Writing) -> dict[str, list[Consent]]:
    """Person id -> the last decision of each handle.

    What a former owner of a handle allowed is nothing that anybody can use any more; a "no" stands.
    """
    found: dict[str, list[Consent]] = {}
    for row in writing.select(
        "SELECT h.person_id, c.head_mark, c.body FROM consent c JOIN handle h ON h.handle_mark = c.head_mark"
        " WHERE h.person_id IN [keys]",
        writing.persons,
    ):
        consent = Consent.model_validate(writing.unseal(row["body"]))
        if consent.status == "opted_out" or row["head_mark"] == writing.handle_mark(consent.handle):
            found.setdefault(row["person_id"], []).append(consent)
    return found


def _derive(
    writing: Writing,
    person_id: str,
    before: Row | None,
    threads: Sequence[Conversation],
    contacts: Sequence[Contact],
    consents: Sequence[Consent],
) -> tuple[Person, bool]:
    """The person, and whether the graph knows it. The graph is asked again only where it changed."""
    if before is not None and before["in_graph"] and person_id not in writing.renewed:
        known = Person.model_validate(writing.unseal(before["body"]))
        handles, name, locale, shared = known.handles, known.name, known.locale, known.shared_line
        in_graph = True
    else:
        graph = writing.graph
        handles, name, locale = graph.handles_of(person_id), graph.best_name(person_id), graph.best_locale(person_id)
        shared, in_graph = graph.is_shared(person_id), bool(handles)
    if not in_graph:
        heads = [one.handles[:1] for one in threads] + [one.handles[:1] for one in contacts]
        handles = sorted({handle for head in heads for handle in head}, key=lambda handle: handle.key)
        named = [(one.modified_at, one.name) for one in contacts if one.name and not one.deleted]
        name = name or (max(named)[1] if named else None)
    person = fold.derive_person(
        person_id, handles, threads, name=name, locale=locale, shared_line=shared, consents=consents
    )
    return person, in_graph


def _row(writing: Writing, person: Person, in_graph: bool, before: Row | None) -> dict[str, Any] | None:
    record = person.model_dump(mode="json")
    content_mark = writing.content_mark(record, with_person=True)
    if before is not None and before["content_mark"] == content_mark and bool(before["in_graph"]) == in_graph:
        return None
    times = [one for one in (person.last_inbound_at, person.last_outbound_at) if one is not None]
    return {
        "person_id": person.person_id,
        "sequence": writing.number("persons"),
        "content_mark": content_mark,
        "body": writing.seal(record),
        "in_graph": in_graph,
        "unanswered_since": time_text(person.unanswered_since) if person.unanswered_since else None,
        "last_at": time_text(max(times)) if times else None,
    }


def _changed_persons(graph: Graph, after: int, up_to: int) -> set[str]:
    changed: set[str] = set()
    while page := graph.persons_changed_since(after, _PAGE):
        changed |= {person_id for _, person_id in page}
        after = page[-1][0]
        if after >= up_to:
            break
    return changed


def _copy_changes(writing: Writing, after: int, up_to: int) -> None:
    """Copy merges and splits, each with the conversations of the handles that moved."""
    while page := _page_of_changes(writing.graph, after, up_to):
        rows = []
        for change in page:
            keys = sorted(
                writing.unseal(row["body"])["conversation_key"]
                for row in writing.select(
                    "SELECT body FROM conversation WHERE message_count > 0 AND head_mark IN [keys]",
                    [writing.handle_mark(handle) for handle in change.handles],
                )
            )
            record = change.model_copy(update={"conversation_keys": keys}).model_dump(mode="json")
            rows.append(
                {
                    "graph_sequence": change.sequence,
                    "sequence": writing.number("person_changes"),
                    "content_mark": writing.content_mark(record),
                    "body": writing.seal(record),
                }
            )
        writing.upsert("person_change", rows)
        after = page[-1].sequence


def _page_of_changes(graph: Graph, after: int, up_to: int) -> list[PersonChange]:
    """The next merges and splits of the graph, none beyond `up_to`: those are taken with what caused them."""
    return [change for change in graph.changes_since(after, _PAGE) if change.sequence <= up_to]


def _take_handles(writing: Writing, person_ids: Sequence[str], last: int) -> dict[str, str | None]:
    """Give these persons the handles that the graph gives them; those that had another person before."""
    owned = [(handle, person_id) for person_id in person_ids for handle in writing.graph.handles_of(person_id)]
    handles = {writing.handle_mark(handle): (handle, person_id) for handle, person_id in owned}
    before = {
        row["handle_mark"]: row["person_id"]
        for row in writing.select("SELECT handle_mark, person_id FROM handle WHERE handle_mark IN [keys]", handles)
    }
    writing.upsert(
        "handle",
        [
            {
                "handle_mark": mark,
                "value_mark": value_mark(writing, handle.value),
                "person_id": person_id,
                "graph_sequence": last,
            }
            for mark, (handle, person_id) in handles.items()
        ],
    )
    writing.persons.update(one for one in before.values() if one is not None)
    return {mark: person_id for mark, (_, person_id) in handles.items() if before.get(mark) != person_id}


def _release_handles(writing: Writing, changed: set[str], last: int) -> dict[str, str | None]:
    """What the changed persons still hold though the graph did not just give it to them.

    A handle that the graph had (it has a number) belongs to nobody now. One that it never had (stamped, or a contact
    that our target made) follows its person's merges.
    """
    moved: dict[str, str | None] = {}
    for row in list(writing.select("SELECT * FROM handle WHERE person_id IN [keys]", changed)):
        if row["graph_sequence"] == last:
            continue
        person_id = None if row["graph_sequence"] is not None else writing.graph.current(row["person_id"])
        if person_id != row["person_id"]:
            moved[row["handle_mark"]] = person_id
    writing.database.execute_many(
        "UPDATE handle SET person_id = ? WHERE handle_mark = ?",
        [(person_id, mark) for mark, person_id in sorted(moved.items())],
    )
    writing.persons.update(one for one in moved.values() if one is not None)
    return moved


def _touch_conversations(writing: Writing, moved: Iterable[str]) -> None:
    writing.conversations.update(
        row["conversation_mark"]
        for row in writing.select("SELECT conversation_mark FROM conversation WHERE head_mark IN [keys]", moved)
    )
