"""Who agreed to advertising on which channel, as marks in the ledger's row of a contact. Knows no CRM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mappings.records import Consent
from stores.ledger import Ledger

_CONSENT = "consent "  # No field of a CRM has a space in its name.


def is_consent(mark: str) -> bool:
    """Whether a mark of this name is one of these."""
    return mark.startswith(_CONSENT)


def consent_marks(written: Mapping[str, str], decisions: Sequence[Consent], ledger: Ledger) -> dict[str, str]:
    """The decisions on advertising so far, the newest of each handle: name of the mark -> fingerprint of the status.

    Args:
        written: the marks of the contact's row, of earlier runs.
        decisions: those that are new.
        ledger: makes fingerprints.
    """
    marks = {name: mark for name, mark in written.items() if is_consent(name)}
    for one in sorted(decisions, key=lambda each: each.decided_at):
        if one.purpose == "promotional":
            who = ledger.fingerprint(f"{one.handle_key}|{one.account}")
            marks[f"{_CONSENT}{one.channel} {who}"] = ledger.fingerprint(one.status)
    return marks


def agreed_channels(marks: Mapping[str, str], ledger: Ledger) -> tuple[list[str], list[str]]:
    """Channels opted in and opted out; a "no" on any handle of a channel outranks every "yes" there."""
    no = ledger.fingerprint("opted_out")
    channels: dict[str, bool] = {}
    for name, mark in marks.items():
        channel = name.split(" ")[1]
        channels[channel] = channels.get(channel, True) and mark != no
    return (
        [channel for channel in sorted(channels) if channels[channel]],
        [channel for channel in sorted(channels) if not channels[channel]],
    )
