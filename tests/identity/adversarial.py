"""An invented town where everything happens that merges strangers: who owns which handle is known for each."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

from mappings.records import Contact, Handle, Record
from tests.identity.worlds import contact, evidence, message, messenger, whatsapp

DAY = 1_440
YEAR = 365 * DAY
AREAS = (202, 212, 303, 312, 404, 415, 503, 512, 602, 617, 702, 713, 801, 813, 901, 919)


def phone(number: int) -> Handle:
    """A reserved number of its own for each `number` below 1,600."""
    return Handle(kind="phone", value=f"+1{AREAS[number // 100]}55501{number % 100:02d}")


def mail(local: str, domain: str = "mail.example") -> Handle:
    return Handle(kind="email", value=f"{local}@{domain}")


class Town(NamedTuple):
    """Records in the order of time, and the owner of every handle that one person owns."""

    records: list[Record]
    owner: dict[str, str]


class Builder:
    """Gathers records and owners; people are named by the scene that they play in."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.records: list[Record] = []
        self.owner: dict[str, str] = {}
        self._people = 0
        self._phones = 0

    def phone(self, owner: str | None = None) -> Handle:
        """A number that nobody had before."""
        self._phones += 1
        handle = phone(self._phones)
        return self.own(owner, handle) if owner else handle

    def own(self, owner: str, handle: Handle) -> Handle:
        """Say whose a handle is."""
        self.owner[handle.key] = owner
        return handle

    def person(self, *shared: Handle, minute: int = 0, name: str | None = None) -> str:
        """Somebody with an address, a number, WhatsApp, mostly Messenger, and a CRM contact that names `shared`."""
        self._people += 1
        me = f"p{self._people}"
        address, number = self.own(me, mail(me)), self.phone(me)
        user = self.own(me, whatsapp(f"w{me}"))
        self.records += [
            message(user, number, minute=minute, name=name),
            self.contact(me, address, number, *shared, minute=minute + 1, name=name),
        ]
        if self.random.random() < 0.7:
            psid = self.own(me, messenger(f"m{me}"))
            self.records += [message(psid, minute=minute + 2, name=name), evidence(psid, address, minute=minute + 3)]
        if self.random.random() < 0.3:
            self.records.append(evidence(address, self.own(me, mail(f"{me}.work", "firm.example")), minute=minute + 4))
        return me

    def contact(self, owner: str, *handles: Handle, minute: int = 0, name: str | None = None) -> Contact:
        """A CRM contact of that person."""
        made = contact(str(10_000 + len(self.records)), *handles, minute=minute, name=name)
        self.own(owner, made.handles[0])
        return made


def family(town: Builder) -> None:
    """Two to five people with one line at home and one mailbox, some of them with one name."""
    line, box = town.phone(), mail(f"family{len(town.records)}")
    for number in range(town.random.randint(2, 5)):
        town.person(line, box, minute=number * DAY, name=town.random.choice(["Karl Brandvold", "Ida Brandvold"]))


def firm(town: Builder) -> None:
    """A firm with a switchboard, info@ and sales@ on everybody's contact, and a record of its own."""
    line, boxes = town.phone(), [mail("info", "harbour.example"), mail("sales", "harbour.example")]
    for number in range(town.random.randint(3, 12)):
        town.person(line, *boxes, minute=number * DAY)


def recycled_with_whatsapp(town: Builder) -> None:
    """A number that goes to somebody else after two years; both wrote on WhatsApp."""
    number = town.phone()
    for place in range(2):
        me = town.person(minute=place * 2 * YEAR)
        user = town.own(me, whatsapp(f"r{len(town.records)}"))
        town.records += [
            message(user, number, minute=place * 2 * YEAR + 9),
            evidence(user, mail(me), minute=place * 2 * YEAR + 10),
        ]


def recycled_without_whatsapp(town: Builder) -> None:
    """A number on the contacts of two people who had it one after the other; only the CRM knows."""
    number = town.phone()
    for place in range(2):
        town.person(number, minute=place * 2 * YEAR)


def hijack(town: Builder) -> None:
    """Somebody types another person's address and number into a chat and takes their name."""
    victim = town.person(name="Ottilie Brandvold")
    me = town.person(name="Ottilie Brandvold")
    for bait in (
        mail(victim),
        Handle(kind="phone", value=next(one.value for one in _handles_of(town, victim, "phone"))),
    ):
        town.records += [
            evidence(whatsapp(f"w{me}"), bait, method="contact_card", strength="claimed", minute=DAY),
            evidence(whatsapp(f"w{me}"), bait, method="profile", strength="inferred", minute=DAY),
        ]


def placeholders(town: Builder) -> None:
    """What forms and exports put where nothing is known."""
    values = [Handle(kind="phone", value="0000000000"), Handle(kind="email", value="root@localhost"),
              Handle(kind="email", value="none"), Handle(kind="phone", value="+0000000000")]  # fmt: skip
    for number in range(12):
        town.person(*town.random.sample(values, 2), minute=number)


def marketing_list(town: Builder) -> None:
    """One mail to everybody, and an export with everybody on one record."""
    people = [town.person(minute=number) for number in range(20)]
    town.records += [
        message(*(mail(one) for one in people), minute=YEAR),
        evidence(*(mail(one) for one in people), minute=YEAR),
    ]


def nest(town: Builder) -> None:
    """Father and son of one name, her old and new address, a firm run from the kitchen, a number lent for a week."""
    kitchen, box, lent = town.phone(), mail(f"thebrandvolds{len(town.records)}"), town.phone()
    father = town.person(kitchen, box, name="Karl Brandvold")
    son = town.person(kitchen, box, lent, minute=DAY, name="Karl Brandvold")
    mother = town.person(kitchen, box, minute=2 * DAY, name="Ida Brandvold")
    married = town.own(mother, mail(f"ida.newman{len(town.records)}"))
    town.records += [
        evidence(mail(mother), married, minute=3 * DAY),
        town.contact(
            "firm", mail("office", "brandvold.example"), kitchen, lent, minute=4 * DAY, name="Brandvold & Son"
        ),
        message(whatsapp(f"w{father}"), minute=5 * DAY),
        evidence(whatsapp(f"w{father}"), mail(son), method="contact_card", strength="claimed", minute=6 * DAY),
        evidence(whatsapp(f"w{son}"), town.own(son, whatsapp(f"n{son}")), method="user_id_changed", minute=7 * DAY),
    ]
    other = Handle(kind="whatsapp_user", scope="other portfolio", value=f"w{father}")
    town.records.append(message(town.own(f"stranger{len(town.records)}", other), minute=8 * DAY))


SCENES = (family, firm, recycled_with_whatsapp, recycled_without_whatsapp, hijack, placeholders, marketing_list, nest)


def _handles_of(town: Builder, owner: str, kind: str) -> list[Handle]:
    found = [one for record in town.records for one in getattr(record, "handles", ()) if one.kind == kind]
    return [one for one in found if town.owner.get(one.key) == owner]


def make_town(seed: int, scenes: Iterable[object] = SCENES, *, plain_people: int = 20) -> Town:
    """Every scene once, among people to whom nothing happens; the records shuffled."""
    town = Builder(seed)
    for scene in scenes:
        scene(town)  # type: ignore[operator]
    for _ in range(plain_people):
        town.person()
    town.random.shuffle(town.records)
    return Town(town.records, town.owner)


class Score(NamedTuple):
    """Pairs of handles of one owner: found together, missed; pairs of two owners put together; the largest person."""

    right: int
    missed: int
    wrong: int
    largest: int

    @property
    def recall(self) -> float:
        """Of the pairs that belong together, how many are."""
        return self.right / (self.right + self.missed)

    @property
    def precision(self) -> float:
        """Of the pairs that are together, how many belong so."""
        return self.right / max(1, self.right + self.wrong)


def score(owner: Mapping[str, str], person_of: Mapping[str, str]) -> Score:
    """How well persons (handle key -> person) agree with the owners."""
    owned: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in owner.items():
        owned[name].append(key)
    total = sum(len(keys) * (len(keys) - 1) // 2 for keys in owned.values())
    members: defaultdict[str, list[str]] = defaultdict(list)
    for key, person in person_of.items():
        members[person].append(key)
    right = wrong = 0
    for keys in members.values():
        known = [owner[key] for key in keys if key in owner]
        same = sum(a == b for a, b in combinations(known, 2))
        right += same
        wrong += len(known) * (len(known) - 1) // 2 - same
    return Score(right, total - right, wrong, max(map(len, members.values()), default=0))


def plain_components(records: Iterable[Record]) -> dict[str, str]:
    """Who would be who if whatever stands on one record were one person."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for record in records:
        if getattr(record, "strength", "verified") not in {"claimed", "inferred"}:
            keys = [handle.key for handle in getattr(record, "handles", ())]
            for key in keys:
                parent[root(key)] = root(keys[0])
    return {key: root(key) for key in parent}
