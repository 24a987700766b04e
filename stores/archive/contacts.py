"""The CRM's contacts and the customers' consents, inside one write transaction."""

from __future__ import annotations

from collections.abc import Sequence

from mappings import fold
from mappings.records import Consent, Contact
from stores.archive.former import owners_then
from stores.archive.writing import Writing, time_text


def save_contacts(writing: Writing, contacts: Sequence[Contact]) -> None:
    """Keep the newest version of each contact. One that was merged into another is told as deleted."""
    joined: dict[str, Contact] = {}
    merges = []
    for contact in contacts:
        mark = contact_mark(writing, contact, contact.record_id)
        joined[mark] = fold.join_contacts(joined[mark], contact) if mark in joined else contact
        merges += [
            {"contact_mark": contact_mark(writing, contact, old), "into_mark": mark}
            for old in contact.merged_record_ids
            if old != contact.record_id
        ]
    writing.upsert("contact_merge", merges, keys=2)
    stored = {
        row["contact_mark"]: row
        for row in writing.select(
            "SELECT * FROM contact WHERE contact_mark IN [keys]", {*joined, *(one["contact_mark"] for one in merges)}
        )
    }
    for mark, row in stored.items():
        before = Contact.model_validate(writing.unseal(row["body"]))
        joined[mark] = fold.join_contacts(before, joined[mark]) if mark in joined else before
    merged = {
        row["contact_mark"]
        for row in writing.select("SELECT contact_mark FROM contact_merge WHERE contact_mark IN [keys]", joined)
    }
    rows = []
    for mark in sorted(joined):
        contact = joined[mark]
        record = contact.model_dump(mode="json")
        told = {**record, "deleted": contact.deleted or mark in merged, "person_id": None}
        head = writing.meet(contact.handles, contact.person_id, contact.name)
        content_mark = writing.content_mark(told)
        if mark in stored and stored[mark]["content_mark"] == content_mark:
            continue
        rows.append(
            {
                "contact_mark": mark,
                "sequence": writing.number("contacts"),
                "content_mark": content_mark,
                "body": writing.seal(record),
                "merged": mark in merged,
                "head_mark": head,
            }
        )
    writing.upsert("contact", rows)


def save_consents(writing: Writing, consents: Sequence[Consent]) -> None:
    """Keep every decision; the last one counts."""
    joined: dict[str, Consent] = {}
    decisions = {}
    for consent in consents:
        mark = consent_mark(writing, consent.handle_key, consent.channel, consent.account, consent.purpose)
        joined[mark] = fold.join_consents(joined[mark], consent) if mark in joined else consent
        record = consent.model_dump(mode="json")
        decision = writing.content_mark({**record, "person_id": None, "raw_ref": None})
        decisions[decision] = (decision, mark, time_text(consent.decided_at), record)
    known = {
        row["decision_mark"]
        for row in writing.select("SELECT decision_mark FROM consent_decision WHERE decision_mark IN [keys]", decisions)
    }
    writing.upsert(
        "consent_decision",
        [
            {
                "decision_mark": decision,
                "consent_mark": mark,
                "decided_at": decided_at,
                "body": writing.seal(record),
            }
            for decision, mark, decided_at, record in decisions.values()
            if decision not in known
        ],
    )
    stored = {}
    for row in writing.select("SELECT * FROM consent WHERE consent_mark IN [keys]", joined):
        before = Consent.model_validate(writing.unseal(row["body"]))
        joined[row["consent_mark"]] = fold.join_consents(before, joined[row["consent_mark"]])
        stored[row["consent_mark"]] = row
    rows = []
    for mark in sorted(joined):
        consent = joined[mark]
        record = consent.model_dump(mode="json")
        content_mark = writing.content_mark(record)
        owners = owners_then(writing, [consent.handle], consent.decided_at)
        head = writing.meet(owners, consent.person_id if owners == [consent.handle] else None)
        if mark in stored and stored[mark]["content_mark"] == content_mark:
            continue
        writing.deciders.update(one for one in (head, stored[mark]["head_mark"] if mark in stored else None) if one)
        rows.append(
            {
                "consent_mark": mark,
                "sequence": writing.number("consents"),
                "content_mark": content_mark,
                "body": writing.seal(record),
                "head_mark": head,
            }
        )
    writing.upsert("consent", rows)


def contact_mark(writing: Writing, contact: Contact, record_id: str) -> str:
    """The mark of a record of the CRM account that `contact` belongs to."""
    return writing.mark(f"contact|{contact.crm}|{contact.account}|{record_id}")


def consent_mark(writing: Writing, handle_key: str, channel: str, account: str, purpose: str) -> str:
    """The mark of a consent's key."""
    return writing.mark(f"consent|{handle_key}|{channel}|{account}|{purpose}")
