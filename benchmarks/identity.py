"""How fast who is who is decided: the resolver beside the least that any resolver would have to do.

The ceiling is a bare SQLite loop over the same records in the same transactions: select the person of each handle,
upsert the handle, insert record -> person. It decides nothing, encrypts nothing and can take nothing back. Figures are
CPU time of this process, in rounds that take turns; what counts are the ratios of one run. Run it with::

    python -m benchmarks.identity --records 50000

With ``--postgres URL`` (an empty database) it is measured there too, beside the same loop row by row.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from identity.mapper import tame_the_collector
from identity.resolver import Resolver
from identity.rules import load_rules
from mappings.contact_points import normalize_email, normalize_phone
from mappings.records import Evidence, Handle, Message, Profile
from stores.database import Stores
from stores.graph import Graph

BATCH = 1000
MOST = 560_000
STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
GOALS = {
    "warm": ("stream, the same messages again / ceiling", 0.8, 1.2),
    "cold": ("stream, a new handle in 45 % of the records / ceiling", 0.45, 0.75),
    "steady": ("stream, handles known, later messages / ceiling", 0.8, 1.2),
    "postgres": ("PostgreSQL, cold / row by row", 5.0, 9.0),
    "normalise": ("handles normalised, 90 % repeated / phonenumbers alone", 5.0, 20.0),
}
"""Of each ratio: what it is, the least we ship with, and what we aim at."""


def records(count: int, people: int, *, seed: int = 1, first: int = 0) -> list[Message]:
    """Messages of so many people, some of whom write much more than others: 1.5 handles each."""
    chance = random.Random(seed)
    made = []
    for number in range(first, first + count):
        person, kind = int(people * chance.random() ** 2), chance.random()
        if kind < 0.5:
            handles = [
                Handle(kind="whatsapp_user", scope="portfolio", value=f"US.{person}"),
                Handle(kind="phone", value=f"+1{200 + person // 100}55501{person % 100:02d}"),
            ]
        elif kind < 0.8:
            handles = [Handle(kind="email", value=f"person{person}@example.com")]
        else:
            handles = [Handle(kind="messenger_psid", scope="page", value=str(person))]
        made.append(
            Message(
                message_key=f"whatsapp:1:{number}", channel="whatsapp", account="1", conversation_key="whatsapp:1:x",
                direction="inbound", kind="text", text="Where is my order?", author_kind="customer", handles=handles,
                sent_at=STARTED_AT + timedelta(seconds=number), profile=Profile(name=f"Person {person}"),
            )
        )  # fmt: skip
    return made


def cpu_of(action: Callable[..., object], *given: object) -> float:
    """CPU seconds of this process."""
    gc.collect()
    before = time.process_time()
    action(*given)
    return time.process_time() - before


class Ceiling:
    """The bare loop on SQLite."""

    def __init__(self, folder: Path) -> None:
        self._database = sqlite3.connect(folder / "ceiling.db", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE handle (kind TEXT, value TEXT, person INTEGER, last TEXT, seen INTEGER,"
            " PRIMARY KEY (kind, value)) WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE record (message TEXT PRIMARY KEY, person INTEGER)")
        self._next = 0

    def take(self, messages: Sequence[Message]) -> None:
        """All messages, a thousand in a transaction."""
        run = self._database.execute
        for start in range(0, len(messages), BATCH):
            run("BEGIN IMMEDIATE")
            for message in messages[start : start + BATCH]:
                person = None
                for handle in message.handles:
                    row = run(
                        "SELECT person FROM handle WHERE kind = ? AND value = ?", (handle.kind, handle.value)
                    ).fetchone()
                    person = row[0] if row else person
                if person is None:
                    person = self._next = self._next + 1
                for handle in message.handles:
                    run(
                        "INSERT INTO handle VALUES (?, ?, ?, 'now', 1) ON CONFLICT (kind, value)"
                        " DO UPDATE SET last = excluded.last, seen = seen + 1",
                        (handle.kind, handle.value, person),
                    )
                run("INSERT OR REPLACE INTO record VALUES (?, ?)", (message.message_key, person))
            run("COMMIT")


class Ours:
    """The resolver on a store of its own."""

    def __init__(self, url: str) -> None:
        self.stores = Stores(url)
        self.resolver = Resolver(Graph(self.stores), load_rules())
        self.resolver.follow_rules()

    def take(self, messages: Sequence[Message]) -> None:
        """All messages, a thousand in a transaction."""
        for start in range(0, len(messages), BATCH):
            self.resolver.resolve(messages[start : start + BATCH])


def on_sqlite(count: int, rounds: int) -> dict[str, float]:
    """Ours beside the ceiling, round by round."""
    people = max(count // 7, 1)
    first, later = records(count, people), records(count, people, first=count)
    ratios: dict[str, list[float]] = {"cold": [], "warm": [], "steady": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            ceiling, ours = Ceiling(folder), Ours(str(folder / "state"))
            for step, messages in (("cold", first), ("warm", first), ("steady", later)):
                least, spent = cpu_of(ceiling.take, messages), cpu_of(ours.take, messages)
                ratios[step].append(least / spent)
                print(
                    f"  {step:<7} ceiling {least / count * 1e6:5.1f} us a record, ours {spent / count * 1e6:5.1f} us,"
                    f" ratio {least / spent:.2f}"
                )
            ours.stores.close()
    return {step: statistics.median(values) for step, values in ratios.items()}


def on_postgres(url: str, count: int) -> float:
    """Records per wall second of ours beside the bare loop row by row, on one server."""
    import psycopg

    messages = records(count, count // 7)
    os.environ["ONETHREAD_STATE_FOLDER"] = tempfile.mkdtemp()
    ours = Ours(url)
    started = time.perf_counter()
    ours.take(messages)
    spent = time.perf_counter() - started
    fewer = messages[: max(BATCH, count // 10)]
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("CREATE TABLE naive (kind text, value text, person int, seen int, PRIMARY KEY (kind, value))")
        server.execute("CREATE TABLE naive_record (message text PRIMARY KEY, person int)")
        started = time.perf_counter()
        for start in range(0, len(fewer), BATCH):
            with server.transaction():
                for number, message in enumerate(fewer[start : start + BATCH], start):
                    person = number
                    for handle in message.handles:
                        row = server.execute(
                            "SELECT person FROM naive WHERE kind = %s AND value = %s", (handle.kind, handle.value)
                        ).fetchone()
                        person = row[0] if row else person
                    for handle in message.handles:
                        server.execute(
                            "INSERT INTO naive VALUES (%s, %s, %s, 1) ON CONFLICT (kind, value)"
                            " DO UPDATE SET seen = naive.seen + 1",
                            (handle.kind, handle.value, person),
                        )
                    server.execute("INSERT INTO naive_record VALUES (%s, %s)", (message.message_key, person))
        naive = time.perf_counter() - started
    print(f"  PostgreSQL: ours {count / spent:,.0f} records/s, row by row {len(fewer) / naive:,.0f}")
    return (count / spent) / (len(fewer) / naive)


def normalising(count: int) -> float:
    """Handles a second of our normalisers beside ``phonenumbers`` without a memory, on values that mostly repeat."""
    import phonenumbers

    chance = random.Random(3)
    few = [f"+1 (212) 555-{number:04d}" for number in range(count // 20)]
    addresses = [f"Person{number}@Example.com" for number in range(count // 20)]
    phones, mails = chance.choices(few, k=count // 2), chance.choices(addresses, k=count // 2)

    def plain() -> None:
        for phone in phones:
            number = phonenumbers.parse(phone, None)
            phonenumbers.is_valid_number(number)
            phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

    def ours() -> None:
        for phone, mail in zip(phones, mails, strict=True):
            normalize_phone(phone)
            normalize_email(mail)

    normalize_phone.cache_clear()
    normalize_email.cache_clear()
    return (cpu_of(plain) / len(phones)) / (cpu_of(ours) / count)


def merge_milliseconds(times: int) -> tuple[float, float]:
    """The median and the 99th percentile of merging two persons of 20 handles each."""
    with tempfile.TemporaryDirectory() as name:
        ours = Ours(name)
        spent = []
        for number in range(times):
            handles = [Handle(kind="slack_user", scope=f"workspace {place}", value=f"{number}") for place in range(40)]
            for half in (handles[:20], handles[20:]):
                ours.resolver.resolve([_link(a, b) for a, b in pairwise(half)])
            bridge = _link(handles[0], handles[39])
            started = time.perf_counter()
            ours.resolver.resolve([bridge])
            spent.append((time.perf_counter() - started) * 1000)
        ours.stores.close()
    spent.sort()
    return statistics.median(spent), spent[int(len(spent) * 0.99) - 1]


def growth(count: int, *, told: bool = False) -> tuple[float, float]:
    """Memory (MB) of this process after a tenth of the records, and after all: each new person's, twice; as `told`."""
    with tempfile.TemporaryDirectory() as name:
        ours, sizes = Ours(name), []
        for tenth in range(10):
            for first in range(tenth * count // 20, (tenth + 1) * count // 20, BATCH):
                messages = [_alone(number) for number in range(first, first + BATCH)]
                ours.take(messages)
                ours.take(messages)
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
            if told:
                print(f"  after {(tenth + 1) * count // 10:>10,} records {sizes[-1]:6.0f} MB", flush=True)
        ours.stores.close()
    return sizes[0], sizes[-1]


def _link(a: Handle, b: Handle) -> Evidence:
    return Evidence(
        evidence_key=f"slack:1:link:{a.value}-{a.scope}-{b.scope}".replace(" ", "_"), method="account_link",
        strength="verified", channel="slack", account="1", handles=[a, b], observed_at=STARTED_AT,
    )  # fmt: skip


def _alone(number: int) -> Message:
    return Message(
        message_key=f"messenger:1:{number}", channel="messenger", account="1", conversation_key=f"messenger:1:{number}",
        direction="inbound", kind="text", text="Hello", author_kind="customer",
        sent_at=STARTED_AT + timedelta(seconds=number),
        handles=[Handle(kind="messenger_psid", scope="page", value=str(number))],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, default=100_000, help="records for the memory; 10,000,000 takes an hour")
    parser.add_argument("--postgres", metavar="URL", help="an empty database of a server to measure as well")
    parser.add_argument("--memory", type=int, metavar="N", help="only the memory, after each tenth of N records")
    given = parser.parse_args()
    tame_the_collector()
    if given.memory:
        growth(given.memory, told=True)
        return
    if given.records > MOST:
        parser.error(f"--records is at most {MOST:,}: there are no more reserved phone numbers")
    print(f"{given.records:,} records, {BATCH} in a transaction, synchronous FULL")
    measured = on_sqlite(given.records, given.rounds)
    measured["normalise"] = normalising(given.records)
    if given.postgres:
        measured["postgres"] = on_postgres(given.postgres, given.records)
    median, high = merge_milliseconds(200)
    before, after = growth(given.growth)
    print(f"\n{'':<58}{'floor':>8}{'goal':>8}{'measured':>10}")
    for name, (what, floor, goal) in GOALS.items():
        value = f"{measured[name]:.2f}" if name in measured else "-"
        print(f"{what:<58}{floor:>8}{goal:>8}{value:>10}")
    print(f"{'merge of two persons of 20 handles, median and p99 ms':<58}{10:>8}{3:>8}{median:>5.1f}{high:>5.1f}")
    print(f"{'memory MB after a tenth and after all of the records':<58}{'':>8}{'flat':>8}{before:>5.0f}{after:>5.0f}")


if __name__ == "__main__":
    main()
