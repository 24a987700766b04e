"""A HubSpot account that is set up, and invented people who write to us, for the tests of target-hubspot."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mappings.ids import conversation_key, message_key
from mappings.records import ArchivedMessage, Handle, Person, PersonChange, Receipt, Record
from mappings.schema import singer_schema
from sandbox.base import Fault, SandboxServer
from sandbox.hubspot import HubSpotApp
from stores.database import Stores
from stores.ledger import Ledger
from stores.parked import Parked, ParkedItem
from targets.hubspot import HubSpotTargetSettings, TargetHubSpot, setup_hubspot

PORTAL = "8800001"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
ACCOUNT = "106540352242922"


class World:
    """One account, one state, and what is done with them.

    Args:
        state_url: where onethread keeps its state.
        unique: whether the account takes a unique property on communications.
        setup: whether set-up has run.
        options: of the stand-in.
    """

    def __init__(self, state_url: str, *, unique: bool = True, setup: bool = True, **options: Any) -> None:
        self.app = HubSpotApp(
            **{
                "unique_communication_property": unique, "ten_second_limit": 100_000,
                "associations_limit": 100_000, **options,
            }
        )  # fmt: skip
        self.server = SandboxServer(self.app).start()
        self.state_url = state_url
        self.stores = Stores(state_url)
        self.config: dict[str, Any] = {
            "access_token": "sandbox-token", "portal_id": PORTAL, "api_url": self.server.url, "state_url": state_url,
            "retry_wait_seconds": 0.01, "settle_wait_seconds": 0, "timeout_seconds": 5,
        }  # fmt: skip
        self.target: TargetHubSpot
        if setup:
            setup_hubspot(self.settings, self.stores)
        self._seen = len(self.app.journal)

    @property
    def settings(self) -> HubSpotTargetSettings:
        """The target's settings."""
        return HubSpotTargetSettings.model_validate(self.config)

    @property
    def ledger(self) -> Ledger:
        """What the target noted."""
        return Ledger(self.stores, "hubspot", PORTAL)

    def stop(self) -> None:
        """Free the port and the files."""
        self.server.stop()
        self.stores.close()

    def write(self, *records: Record, folded: bool = True, **settings: Any) -> list[Any]:
        """Feed records to a target of its own, as one pipe; the STATE values that it wrote."""
        self.target = TargetHubSpot(config={**self.config, **settings})
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.target.listen(io.StringIO("".join(lines_of(records, folded=folded))))
        return [json.loads(line) for line in output.getvalue().splitlines()]

    def calls(self) -> Counter[str]:
        """The requests since the last call of this method: ``POST /crm/v3/...`` -> how many."""
        entries, self._seen = self.app.journal[self._seen :], len(self.app.journal)
        return Counter(f"{one['method']} {one['path']}" for one in entries)

    def fail(self, path: str, status: int = 500, **more: Any) -> None:
        """Let the next request to `path` fail."""
        self.app.faults.append(Fault(path=path, status=status, **more))

    def contacts(self) -> dict[str, dict[str, Any]]:
        """Live contacts: id -> properties, and the communications on them under ``communications``."""
        state = self.app.state()["contacts"]
        return {key: {**one["properties"], "communications": one["communications"]} for key, one in state.items()}

    def contact_of(self, person_id: str) -> dict[str, Any]:
        """The one contact that carries a person's id."""
        (found,) = [
            {**one, "id": key} for key, one in self.contacts().items() if one.get("onethread_person_id") == person_id
        ]
        return found

    def bodies_on(self, contact_id: str) -> list[str]:
        """The bodies of communications on a contact's timeline, by their time."""
        state = self.app.state()
        on_contact = [
            state["communications"][one]["properties"]
            for one in state["contacts"][contact_id]["communications"]
            if one not in state["notes"]
        ]
        on_contact.sort(key=lambda one: str(one["hs_timestamp"]))
        return [str(one["hs_communication_body"]) for one in on_contact]

    def bodies(self) -> list[str]:
        """The bodies of all communications in the account."""
        state = self.app.state()
        rows = [one for key, one in state["communications"].items() if key not in state["notes"]]
        return [str(one["properties"]["hs_communication_body"]) for one in rows]

    def texts_on(self, contact_id: str) -> list[str]:
        """The bodies of all activities on a contact's timeline, notes as well, by their time."""
        state = self.app.state()
        on_contact = [state["communications"][one] for one in state["contacts"][contact_id]["communications"]]
        on_contact.sort(key=lambda one: str(one["properties"]["hs_timestamp"]))
        return [_text_of(one["properties"]) for one in on_contact]

    def texts(self) -> list[str]:
        """The bodies of all activities in the account, notes as well."""
        return [_text_of(one["properties"]) for one in self.app.state()["communications"].values()]

    def parked(self) -> list[ParkedItem]:
        """What was put aside."""
        return Parked(self.stores).list()


def _text_of(properties: Any) -> str:
    return str(properties.get("hs_communication_body") or properties.get("hs_note_body"))


@contextlib.contextmanager
def world(state_url: str, **options: Any) -> Iterator[World]:
    """A `World` that is stopped at the end."""
    made = World(state_url, **options)
    try:
        yield made
    finally:
        made.stop()


def lines_of(records: Sequence[Record], *, folded: bool = True, state: Any = None) -> list[str]:
    """The Singer lines of a pipe with these records, streams in the order of their first, one STATE at the end."""
    messages: list[dict[str, Any]] = []
    for model in dict.fromkeys(type(record) for record in records):
        schema = singer_schema(model)
        if model is ArchivedMessage and not folded:
            schema = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "status"}}
        keys = list(model.key_properties)
        messages.append({"type": "SCHEMA", "stream": model.stream, "schema": schema, "key_properties": keys})
    messages += [{"type": "RECORD", "stream": one.stream, "record": one.model_dump(mode="json")} for one in records]
    messages.append({"type": "STATE", "value": {"bookmarks": {"cursor": state or {"done": True}}}})
    return [json.dumps(message) + "\n" for message in messages]


def phone(number: int) -> Handle:
    """An invented phone."""
    return Handle(kind="phone", value=f"+1202555{100 + number:04d}")


def person(number: int, *handles: Handle, **values: Any) -> Person:
    """An invented person, who wrote."""
    return Person(
        person_id=values.pop("person_id", f"person-{number}"),
        handles=[*handles] or [phone(number)],
        **{"name": f"Ana Example{number}", "message_count": 1, "channels": ["whatsapp"], **values},
    )


def message(number: int, of: int | None = None, **values: Any) -> ArchivedMessage:
    """The message of that number; `of` is the number of the person who wrote it (the same, by default)."""
    who = number if of is None else of
    handle = phone(who)
    return ArchivedMessage(
        message_key=message_key("whatsapp", ACCOUNT, f"wamid.{number}"),
        channel="whatsapp",
        account=ACCOUNT,
        conversation_key=conversation_key("whatsapp", ACCOUNT, handle.value),
        **{
            "direction": "inbound", "kind": "text", "text": f"words of message {number}.",
            "sent_at": NOON + timedelta(minutes=number), "author_kind": "customer", "handles": [handle],
            "person_id": f"person-{who}", **values,
        },
    )  # fmt: skip


def merge(sequence: int, into: int, *others: int) -> PersonChange:
    """Persons became one."""
    return PersonChange(
        sequence=sequence,
        change="merge",
        from_person_ids=[f"person-{one}" for one in others],
        into_person_id=f"person-{into}",
        handles=[phone(one) for one in others],
        why="the same e-mail address",
        changed_at=NOON,
    )


def split(sequence: int, out_of: int, into: int) -> PersonChange:
    """A person became two again."""
    return PersonChange(
        sequence=sequence,
        change="split",
        from_person_ids=[f"person-{out_of}"],
        into_person_id=f"person-{into}",
        handles=[phone(into)],
        why="a reviewer said so",
        changed_at=NOON,
    )


def erasure(sequence: int, *numbers: int) -> PersonChange:
    """A person asked to be forgotten, with those that turned out to be the same."""
    persons = [f"person-{number}" for number in numbers]
    return PersonChange(sequence=sequence, change="erase", from_person_ids=persons, why="asked for it", changed_at=NOON)


def fate(key: str, status: str, **values: Any) -> Receipt:
    """What became of a reply."""
    return Receipt.model_validate(
        {
            "subject_key": key, "subject_kind": "reply", "status": status, "channel": "whatsapp",
            "account": ACCOUNT, "occurred_at": NOON, "reply_key": key, **values,
        }
    )  # fmt: skip
