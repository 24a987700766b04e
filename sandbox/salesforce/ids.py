"""Record ids: 15 characters, upper and lower case matter; or 18, of which the last three keep the case.

Source: developer.salesforce.com, Object Reference, "ID Field Type", second-hand, 2026-10 (documented): a
three-character key prefix, and a suffix of three characters from ``A-Z0-5``, one for each five characters, whose bits
mark the upper-case ones.
"""

from __future__ import annotations

import re

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_SHAPE = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?")


def make_id(prefix: str, number: int) -> str:
    """The 18-character id of the `number`-th record with this key prefix."""
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return long_id(f"{prefix}Wd0{digits:0>9}")


def long_id(short: str) -> str:
    """A 15-character id with its suffix."""
    groups = (short[start : start + 5] for start in (0, 5, 10))
    return short + "".join(
        _SUFFIX[sum(1 << place for place, letter in enumerate(group) if letter.isupper())] for group in groups
    )


def read_id(text: str) -> str | None:
    """The 18-character id that `text` (15 or 18 characters) means; ``None`` if it is none.

    With 18 characters the case of the first 15 does not matter: the suffix restores it.
    """
    if not _SHAPE.fullmatch(text):
        return None
    if len(text) == 15:
        return long_id(text)
    letters = list(text[:15])
    for group, mark in enumerate(text[15:].upper()):
        bits = _SUFFIX.find(mark)
        if bits < 0:
            return None
        for place in range(5):
            letter = letters[group * 5 + place]
            letters[group * 5 + place] = letter.upper() if bits >> place & 1 else letter.lower()
    found = "".join(letters)
    return found + text[15:].upper() if long_id(found)[15:] == text[15:].upper() else None
