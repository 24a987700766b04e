"""Which folders of a mailbox to read, and which of them holds what we sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mappings.errors import SettingsError

SENT_NAMES: tuple[str, ...] = (
    "Sent",
    "Sent Items",
    "Sent Messages",
    "Sent Mail",
    "[Gmail]/Sent Mail",
    "[Google Mail]/Sent Mail",
)
"""Names of Sent folders where the server does not mark one (RFC 6154 ``\\Sent``). Dovecot and Courier, Exchange, Apple,
older webmailers, Gmail; assumed, as the names of special folders in imapclient 4.1.0 are."""
ALL_MAIL_NAMES: tuple[str, ...] = ("[Gmail]/All Mail", "[Google Mail]/All Mail")


class Folder(NamedTuple):
    """A folder to read; `sent`: what lies in it was sent by us."""

    name: str
    sent: bool


Listing = Iterable[tuple[Sequence[bytes], bytes | None, str]]
"""What IMAP LIST says: flags, hierarchy delimiter, name."""


def sent_folder_in(listing: Listing) -> str | None:
    """The folder that holds what was sent: the one the server marks, else the first with a known name."""
    folders = [(frozenset(flag.lower() for flag in flags), delimiter, name) for flags, delimiter, name in listing]
    marked = next((name for flags, _, name in folders if b"\\sent" in flags), None)
    if marked is not None:
        return marked
    by_name = {_plain(name, delimiter): name for flags, delimiter, name in folders if b"\\noselect" not in flags}
    return next((by_name[known.casefold()] for known in SENT_NAMES if known.casefold() in by_name), None)


def folders_to_read(listing: Listing, chosen: Sequence[str]) -> list[Folder]:
    """The folders of the setting, or by default INBOX and what was sent (Gmail without a Sent folder: All Mail).

    Raises:
        SettingsError: a chosen folder is not there.
    """
    folders = [(frozenset(flag.lower() for flag in flags), delimiter, name) for flags, delimiter, name in listing]
    names = [name for _, _, name in folders]
    sent = sent_folder_in([(sorted(flags), delimiter, name) for flags, delimiter, name in folders])
    if chosen:
        absent = [name for name in chosen if name not in names and name.upper() != "INBOX"]
        if absent:
            msg = f"E-mail: no folder {', '.join(map(repr, absent))}; there are: {', '.join(map(repr, sorted(names)))}"
            raise SettingsError(msg)
        return [Folder(name, name == sent) for name in dict.fromkeys(chosen)]
    if sent is not None:
        return [Folder("INBOX", sent=False), Folder(sent, sent=True)]
    whole = next((name for flags, _, name in folders if b"\\all" in flags or name in ALL_MAIL_NAMES), None)
    return [Folder("INBOX", sent=False), *([Folder(whole, sent=False)] if whole else [])]


def _plain(name: str, delimiter: bytes | None) -> str:
    """The name without the INBOX. that some servers put before every folder, for comparison."""
    prefix = f"inbox{(delimiter or b'/').decode('ascii', 'replace')}"
    folded = name.casefold()
    return folded.removeprefix(prefix)
