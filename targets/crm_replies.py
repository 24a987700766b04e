"""Which fate of a reply is told: of several the furthest, and only news. Knows no CRM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from mappings.errors import OneThreadError, PayloadError
from mappings.records import Receipt

Untold = list[tuple[Receipt, OneThreadError]]
"""Receipts of which the CRM could not be told, and why."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one reply. A CRM's own adds where it is told.

    Attributes:
        rank: how far that is, by the CRM's own words for it.
    """

    receipt: Receipt
    reply_key: str
    rank: int


_Fate = TypeVar("_Fate", bound=Fate)


def furthest_fates(
    receipts: Iterable[Receipt], fate_of: Callable[[Receipt], _Fate | None], count: Callable[[str, int], None]
) -> tuple[list[_Fate], Untold]:
    """The furthest fate of each reply, and receipts that are none of ours to read.

    Args:
        receipts: those of messages are left out: a message says itself what became of it.
        fate_of: the fate that the receipt of a reply tells; ``None`` when it is no news, or not this CRM's.
        count: adds to the summary.
    """
    failed: Untold = []
    furthest: dict[str, _Fate] = {}
    for receipt in receipts:
        if receipt.subject_kind != "reply":
            count("receipts of messages not used", 1)
            continue
        try:
            fate = fate_of(receipt)
        except PayloadError as error:
            failed.append((receipt, error))
            continue
        if fate is not None:
            before = furthest.get(fate.reply_key)
            furthest[fate.reply_key] = fate if before is None or fate.rank > before.rank else before
    return list(furthest.values()), failed
