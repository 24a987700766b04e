"""How many calls a CRM is asked for: 1,000 messages of 100 people, written once and then a second time.

Every CRM counts calls (HubSpot 250,000 to 1,000,000 a day, Salesforce 100,000 and more): they are what a sync costs.
Ours is beside what a connector does that makes one call for each record, with the vendor's own client. The CRMs are the
stand-ins; each answer is held back by 50 ms, which is what a call over the internet takes. Run it with::

    python -m benchmarks.crm_budget --messages 1000

Peers: target-hubspot and target-salesforce, where PyPI has them; they are asked for and left out where it has not.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mappings.records import Record
from sandbox.base import SandboxApp
from targets.hubspot import setup_hubspot
from tests.targets import hubspot_world, salesforce_world
from tests.targets.hubspot_world import PORTAL, message, person

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venvs" / "peers"
PEER_NAMES = ("target-hubspot", "target-salesforce")
PEOPLE = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way of writing took. `rows`: contacts and messages (and, in Salesforce, conversations)."""

    name: str
    first: int
    repeat: int
    rows: int
    seconds: float


@contextmanager
def latency(app: SandboxApp, seconds: float) -> Iterator[None]:
    """Hold back every answer."""
    answer = app._answer

    def late(request: Any) -> Any:
        time.sleep(seconds)
        return answer(request)

    app._answer = late  # type: ignore[method-assign]
    try:
        yield
    finally:
        app._answer = answer  # type: ignore[method-assign]


def records(number: int, *, conversations: bool) -> list[Record]:
    """Invented people and their messages, of today: what is old is not for an inbox."""
    now = datetime.now(UTC)
    people: list[Record] = [person(one) for one in range(PEOPLE)]
    threads: list[Record] = [salesforce_world.conversation(one) for one in range(PEOPLE)] if conversations else []
    return [*people, *threads, *(message(one, of=one % PEOPLE, sent_at=now) for one in range(number))]


def measure(name: str, world: Any, rows: list[Record], seconds: float, **settings: Any) -> Cost:
    """Write everything twice."""
    world.calls()
    began = time.monotonic()
    with latency(world.app, seconds):
        world.write(*rows, **settings)
        took = time.monotonic() - began
        first = world.calls().total()
        world.write(*rows, **settings)
    return Cost(name, first, world.calls().total(), len(rows), took)


def in_hubspot(name: str, messages: int, seconds: float, **settings: Any) -> Cost:
    """One way of target-hubspot, in an account of its own."""
    with tempfile.TemporaryDirectory() as folder, hubspot_world.world(f"sqlite:///{folder}", setup=False) as world:
        world.config |= settings
        setup_hubspot(world.settings, world.stores)
        return measure(name, world, records(messages, conversations=False), seconds)


def in_salesforce(name: str, messages: int, seconds: float, **settings: Any) -> Cost:
    """One way of target-salesforce, in an org of its own."""
    with tempfile.TemporaryDirectory() as folder, salesforce_world.world(f"sqlite:///{folder}") as world:
        return measure(name, world, records(messages, conversations=True), seconds, **settings)


def record_by_record(messages: int, seconds: float) -> Cost:
    """What a connector does that knows no batches: a create for each record, with HubSpot's own client."""
    import hubspot

    with tempfile.TemporaryDirectory() as folder, hubspot_world.world(f"sqlite:///{folder}") as world:
        client = hubspot.Client.create(access_token="sandbox-token", host=world.server.url)
        contacts, communications = client.crm.contacts.basic_api, client.crm.objects.communications.basic_api
        world.calls()
        began = time.monotonic()
        with latency(world.app, seconds):
            ids = [contacts.create({"properties": {"firstname": f"Ana{one}"}}).id for one in range(PEOPLE)]
            for one in range(messages):
                kinds = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 81}]
                properties = {
                    "hs_timestamp": "2026-11-02T12:00:00.000Z", "hs_communication_channel_type": "WHATS_APP",
                    "hs_communication_logged_from": "CRM", "hs_communication_body": f"words of message {one}",
                }  # fmt: skip
                to = [{"to": {"id": ids[one % PEOPLE]}, "types": kinds}]
                communications.create({"properties": properties, "associations": to})
        calls = world.calls().total()
        # It remembers nothing: the second run makes the same calls again, and doubles every record.
        return Cost("one call for each record (HubSpot)", calls, calls, PEOPLE + messages, time.monotonic() - began)


def peer(name: str) -> str:
    """Whether a peer can be had; none is known that could be pointed at another address than the CRM's own."""
    uv = str(Path(sys.executable).with_name("uv"))
    if not (PEERS / "bin" / "python").exists():
        subprocess.run([uv, "venv", "--quiet", str(PEERS)], check=False)
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(PEERS), name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"{name}: PyPI has no such package that installs here; no peer in this run"
    return (
        f"{name}: installed in {PEERS.relative_to(ROOT)}; it knows no setting for the CRM's address, so it is not run"
    )


def main() -> None:
    """Measure every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--messages", type=int, default=1000, help="how many messages are written")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that each answer is held back")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    inbox = {
        "inbox_channels": ["whatsapp"], "inbox_id": "1", "webhook_token": "x", "developer_api_key": "x", "app_id": "1",
        "inbox_webhook_url": "https://hooks.shop.example/webhooks/hubspot", "portal_id": PORTAL,
    }  # fmt: skip
    ways: list[Callable[[int, float], Cost]] = [
        record_by_record,
        lambda n, s: in_hubspot("HubSpot, log", n, s),
        lambda n, s: in_hubspot("HubSpot, log, rolled up by day", n, s, roll_up=True),
        lambda n, s: in_hubspot("HubSpot, inbox (one call for each message: there is no batch)", n, s, **inbox),
        lambda n, s: in_salesforce("Salesforce, composite", n, s),
        lambda n, s: in_salesforce("Salesforce, without composite", n, s, composite=False),
        lambda n, s: in_salesforce("Salesforce, bulk", n, s, bulk_threshold_rows=1),
    ]
    print(f"{arguments.messages} messages of {PEOPLE} people, {arguments.latency * 1000:.0f} ms for each call\n")
    print("| way | calls, first run | calls, second run | rows a call | seconds, first run | calls against the first |")
    print("|--|--|--|--|--|--|")
    baseline = 0
    for way in ways:
        cost = way(arguments.messages, arguments.latency)
        baseline = baseline or cost.first
        print(
            f"| {cost.name} | {cost.first:,} | {cost.repeat:,} | {cost.rows / cost.first:,.1f} | {cost.seconds:,.1f} |"
            f" {cost.first / baseline:.3f} x |",
            flush=True,
        )
    print()
    for name in PEER_NAMES:
        print(peer(name))


if __name__ == "__main__":
    main()
