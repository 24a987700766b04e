"""Where persons want advertising and where not, as marks in the ledger's rows of their contacts. Knows no CRM.

People can make one contact of those of two persons. Then the "no" of each is on it, though one is told at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mappings.records import Person
from stores.ledger import Ledger

_CONSENT = "consent "  # No field of a CRM has a space in its name.


def is_consent(mark: str) -> bool:
    """Whether a mark of this name is one of these."""
    return mark.startswith(_CONSENT)


def consent_marks(written: Mapping[str, str], person: Person, ledger: Ledger) -> dict[str, str]:
    """What a person says, or said last where nothing is told: name of the mark -> fingerprint of the status.

    Args:
        written: the marks of the row of the person's contact, of earlier runs.
        person: as the archive tells it; one of whom only messages are known tells nothing.
        ledger: makes fingerprints.
    """
    if person.opted_out is None:
        return {name: mark for name, mark in written.items() if is_consent(name)}
    yes, no = ledger.fingerprint("opted_in"), ledger.fingerprint("opted_out")
    agreed = {f"{_CONSENT}{channel}": yes for channel in person.opted_in or ()}
    return agreed | {f"{_CONSENT}{channel}": no for channel in person.opted_out}


def with_consents(written: Mapping[str, str], marks: Mapping[str, str] | None) -> dict[str, str]:
    """The marks of a row with these in the place of what was said before; ``None``: nothing new was said."""
    if marks is None:
        return dict(written)
    return {name: mark for name, mark in written.items() if not is_consent(name)} | dict(marks)


def agreed_channels(marks: Iterable[Mapping[str, str]], ledger: Ledger) -> tuple[list[str], list[str]]:
    """Channels opted in and opted out; a "no" of one person on a channel outranks the "yes" of another there.

    Args:
        marks: of each person whose contact it is; other marks than these are left.
        ledger: makes fingerprints.
    """
    no = ledger.fingerprint("opted_out")
    channels: dict[str, bool] = {}
    for name, mark in ((name, mark) for one in marks for name, mark in one.items() if is_consent(name)):
        channel = name.split(" ")[1]
        channels[channel] = channels.get(channel, True) and mark != no
    return (
        [channel for channel in sorted(channels) if channels[channel]],
        [channel for channel in sorted(channels) if not channels[channel]],
    )
