"""A real Tryton server with a fresh database for each test, for target-tryton and tap-tryton."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.records import Record
from sandbox.tryton import AGENT, DATABASE, USERNAME, TrytonMissingError, TrytonServer, TrytonUser
from stores.database import Stores
from stores.ledger import Ledger
from stores.parked import Parked, ParkedItem
from targets.tryton import TargetTryton, TrytonTargetSettings
from tests.targets.hubspot_world import lines_of

_NUMBER = re.compile(r"words of message (\d+)\.")


class World:
    """One server with a fresh database, one state, and what is done with them."""

    def __init__(self, folder: Path, state_url: str) -> None:
        self.server = TrytonServer(folder)
        try:
            self.server.start()
        except TrytonMissingError as error:
            pytest.skip(str(error))
        self.state_url = state_url
        self.stores = Stores(state_url)
        self.agent: TrytonUser = self.server.log_in(AGENT)
        self.own: TrytonUser = self.server.log_in(USERNAME)
        self.config: dict[str, Any] = {
            "url": self.server.url, "database": DATABASE, "username": USERNAME, "password": self.server.password,
            "state_url": state_url, "retry_wait_seconds": 0.01, "settle_wait_seconds": 0, "timeout_seconds": 60,
        }  # fmt: skip
        self.target: TargetTryton

    def stop(self) -> None:
        """End the server, free the files."""
        self.server.stop()
        self.stores.close()

    @property
    def settings(self) -> TrytonTargetSettings:
        """The target's settings."""
        return TrytonTargetSettings.model_validate(self.config)

    @property
    def ledger(self) -> Ledger:
        """What the target noted."""
        return Ledger(self.stores, "tryton", DATABASE)

    def write(self, *records: Record, folded: bool = True, **settings: Any) -> Counter[str]:
        """Feed records to a target of its own, as one pipe; the calls that it made, without the login."""
        self.target = TargetTryton(config={**self.config, **settings})
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.target.listen(io.StringIO("".join(lines_of(records, folded=folded))))
        assert json.loads(output.getvalue().splitlines()[-1])["bookmarks"]
        calls = Counter(self.target.api.calls)
        calls.pop("common.db.login", None)
        return calls

    def parties(self) -> dict[str, dict[str, Any]]:
        """All parties by id, archived ones too: name, active, replaced_by, mechanisms ``type value``, codes, notes."""
        fields = ["name", "active", "replaced_by", "identifiers.code"]
        rows = self.agent.search_read("party.party", [], fields)
        mechanisms = self.agent.search_read("party.contact_mechanism", [], ["party", "type", "value", "active"])
        on = [["resource", "in", [f"party.party,{row['id']}" for row in rows]]]
        notes = self.agent.search_read("ir.note", on, ["message", "resource"])
        return {
            str(row["id"]): {
                **row,
                "active": bool(row["active"]),
                "mechanisms": [
                    f"{one['type']} {one['value']}" for one in mechanisms if one["party"] == row["id"] and one["active"]
                ],
                "codes": [one["code"] for one in row["identifiers."]],
                "notes": [one["message"] for one in notes if one["resource"] == f"party.party,{row['id']}"],
            }
            for row in rows
        }

    def party_of(self, person_id: str) -> dict[str, Any]:
        """The one live party that carries a person's id."""
        (found,) = [
            one
            for one in self.parties().values()
            if one["active"] and any(code.endswith(f":{person_id}") for code in one["codes"])
        ]
        return found

    def numbers_on(self, person_id: str) -> list[int]:
        """The numbers of the messages on a person's party, in the order of the notes."""
        return [number for text in self.party_of(person_id)["notes"] for number in numbers_in(text)]

    def numbers(self) -> Counter[int]:
        """The numbers of all messages in the database, archived parties included."""
        return Counter(
            number for one in self.parties().values() for text in one["notes"] for number in numbers_in(text)
        )

    def parked(self) -> list[ParkedItem]:
        """What was put aside."""
        return Parked(self.stores).list()


@contextlib.contextmanager
def world(folder: Path, state_url: str) -> Iterator[World]:
    """A `World` that is stopped at the end; a skipped test that says why where there can be none."""
    made = World(folder, state_url)
    try:
        yield made
    finally:
        made.stop()


def numbers_in(text: str) -> list[int]:
    """The numbers of the messages that a note shows."""
    return [int(one) for one in _NUMBER.findall(text)]
