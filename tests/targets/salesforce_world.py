"""A Salesforce org that is set up, for the tests of target-salesforce; the people are those of the HubSpot tests."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mappings.ids import conversation_key
from mappings.records import ArchivedMessage, Conversation, Record
from sandbox.base import Fault, SandboxServer
from sandbox.salesforce.app import SalesforceApp
from stores.database import Stores
from stores.ledger import Ledger
from stores.parked import Parked, ParkedItem
from targets.salesforce import SalesforceTargetSettings, TargetSalesforce
from targets.salesforce.metadata import lacking, package_files, package_zip
from tests.targets.hubspot_world import ACCOUNT, NOON, lines_of, phone


class World:
    """One org, one state, and what is done with them.

    Args:
        state_url: where onethread keeps its state.
        setup: whether set-up has run.
        settings: of the target.
        options: of the stand-in.
    """

    def __init__(
        self, state_url: str, *, setup: bool = True, settings: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.app = SalesforceApp(**options)
        self.server = SandboxServer(self.app).start()
        self.state_url = state_url
        self.stores = Stores(state_url)
        self.config: dict[str, Any] = {
            "org_id": self.app.org_id, "domain": "onethread-dev-ed.my", "consumer_key": self.app.consumer_key,
            "consumer_secret": self.app.consumer_secret, "api_url": self.server.url, "state_url": state_url,
            "retry_wait_seconds": 0.01, "timeout_seconds": 10, "bulk_poll_seconds": 0, **(settings or {}),
        }  # fmt: skip
        self.target: TargetSalesforce
        if setup:
            # As the set-up does, without its SOAP client, whose loading takes a second.
            none = dict.fromkeys(("Contact", "Conversation__c", "Message__c", "Task"))
            lack = lacking(none, permission_sets=False, tasks=self.settings.mode == "tasks")
            self.app.install_package_as_admin(package_zip(package_files(lack, "67.0")).getvalue())
        self._seen = len(self.app.journal)

    @property
    def settings(self) -> SalesforceTargetSettings:
        """The target's settings."""
        return SalesforceTargetSettings.model_validate(self.config)

    @property
    def ledger(self) -> Ledger:
        """What the target noted."""
        return Ledger(self.stores, "salesforce", self.settings.org_id)

    def stop(self) -> None:
        """Free the port and the files."""
        self.app.speed_up()
        self.server.stop()
        self.stores.close()

    def write(self, *records: Record, folded: bool = True, **settings: Any) -> list[Any]:
        """Feed records to a target of its own, as one pipe; the STATE values that it wrote."""
        self.target = TargetSalesforce(config={**self.config, **settings})
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            self.target.listen(io.StringIO("".join(lines_of(records, folded=folded))))
        return [json.loads(line) for line in output.getvalue().splitlines()]

    def calls(self) -> Counter[str]:
        """The API calls since the last call of this method, log-ins left out: ``POST composite (5 x PATCH)``."""
        entries, self._seen = self.app.journal[self._seen :], len(self.app.journal)
        return Counter(_named(one) for one in entries if not one["path"].startswith("/services/oauth2/token"))

    def writes(self) -> int:
        """How many of the calls since the last asking wrote something."""
        return sum(number for name, number in self.calls().items() if "GET" not in name)

    def fail(self, path: str, status: int = 500, **more: Any) -> None:
        """Let the next request to `path` fail."""
        self.app.faults.append(Fault(path=path, status=status, **more))

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Live records: ``contacts``, ``conversations``, ``messages``, ``tasks``, ``files``, ``links``."""
        found: dict[str, dict[str, Any]] = self.app.state()[kind]
        return found

    def contacts(self) -> dict[str, dict[str, Any]]:
        """Live contacts by id."""
        return self.records("contacts")

    def contact_of(self, person_id: str) -> dict[str, Any]:
        """The one contact that carries a person's id."""
        (found,) = [one for one in self.contacts().values() if one.get("Identity_Key__c") == person_id]
        return found

    def bodies_on(self, contact_id: str) -> list[str]:
        """The words on a contact, by their time."""
        found = [one for one in self.records("messages").values() if one.get("Contact__c") == contact_id]
        return [str(one["Body__c"]) for one in sorted(found, key=lambda one: str(one.get("Sent_At__c")))]

    def bodies(self) -> list[str]:
        """All words in the org."""
        return [str(one.get("Body__c")) for one in self.records("messages").values()]

    def parked(self) -> list[ParkedItem]:
        """What was put aside."""
        return Parked(self.stores).list()


def _named(entry: dict[str, Any]) -> str:
    path = entry["path"].partition("/services/data/v67.0/")[2] or entry["path"]
    if path != "composite":
        return f"{entry['method']} {path}"
    parts = Counter(one["method"] for one in json.loads(entry["body"])["compositeRequest"])
    return "POST composite " + ", ".join(f"{number} {method}" for method, number in sorted(parts.items()))


@contextlib.contextmanager
def world(state_url: str, **options: Any) -> Iterator[World]:
    """A `World` that is stopped at the end."""
    made = World(state_url, **options)
    try:
        yield made
    finally:
        made.stop()


def conversation(of: int, **values: Any) -> Conversation:
    """The thread of the person of that number."""
    handle = phone(of)
    return Conversation(
        conversation_key=conversation_key("whatsapp", ACCOUNT, handle.value),
        channel="whatsapp",
        account=ACCOUNT,
        **{
            "person_id": f"person-{of}", "handles": [handle], "message_count": 1, "last_inbound_at": NOON,
            "unanswered_since": NOON, **values,
        },
    )  # fmt: skip


def body_number(body: str) -> int:
    """The number of an invented message by its words."""
    return int(body.partition("words of message ")[2].partition(".")[0])


__all__ = ["ArchivedMessage", "World", "body_number", "conversation", "world"]
