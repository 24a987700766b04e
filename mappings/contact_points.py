"""Phones, e-mail addresses and names, normalised once, everywhere the same way.

Normalising twice changes nothing. What cannot be a phone or an address is ``None``, never a guess.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

import phonenumbers
from email_validator import EmailNotValidError, validate_email

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


_PLAIN_EMAIL = re.compile(
    r"[a-z0-9]+(?:[._+-][a-z0-9]+){0,8}@(?:[a-z0-9]{1,40}\.){1,4}(?:com|org|net|edu|gov|info|io|co|eu|[a-z]{2})"
)
"""Addresses that are their own canonical form beyond doubt; the library takes a hundred times as long to say so."""


@lru_cache(maxsize=100_000)
def normalize_phone(raw: str, default_region: str | None = None) -> str | None:
    """`raw` as E.164, or ``None`` when it cannot be a phone number.

    National notation needs `default_region` (two letters, e.g. ``"BR"``). The WhatsApp spellings of Brazil (mobile
    without the ninth digit), Mexico (``521``) and Argentina (mobile without the 9) become the dialled form, so
    that one phone is one handle. Source: facts measured with phonenumbers 9.0 and the threads chatwoot#14657,
    chatwoot#14048; landlines are never rewritten.
    """
    if (plain := _plain_number(raw)) is not None:
        return raw if _has_possible_length(*plain) else None
    text = _INVISIBLE.sub("", raw).strip()
    if len(text) > 64:
        return None
    try:
        number = phonenumbers.parse(text, default_region)
    except phonenumbers.NumberParseException:
        return None
    if number.extension:
        return None  # a switchboard line: its extension is lost in E.164 and strangers would share it
    parsed = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    e164 = _dialled_form(parsed)
    if e164 != parsed or default_region is not None:
        number = phonenumbers.parse(e164)
    return e164 if phonenumbers.is_possible_number(number) else None


def _plain_number(text: str) -> tuple[int, int] | None:
    """Country code and the number of digits behind it, of what is E.164 beyond doubt; ``None``: ask the library.

    Beyond doubt: no digit of it can be a trunk prefix, and it is no WhatsApp spelling of another number.
    """
    if _E164.fullmatch(text) is None or _dialled_form(text) != text:
        return None
    for digits in (2, 3, 4):
        country, national = int(text[1:digits]), text[digits:]
        if country in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            trunk = _trunk_prefix(country)
            if national[0] == "0" or trunk is None or trunk.match(national):
                return None
            return country, len(national)
    return None


@cache
def _has_possible_length(country: int, digits: int) -> bool:
    """What ``is_possible_number`` says of such a number; it looks at nothing else (phonenumbers 9, observed)."""
    return phonenumbers.is_possible_number(
        phonenumbers.PhoneNumber(country_code=country, national_number=10 ** (digits - 1))
    )


@cache
def _trunk_prefix(country: int) -> re.Pattern[str] | None:
    """What the parser may take off the front of a national number there."""
    region = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[country][0]
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(country, region)
    return re.compile(metadata.national_prefix_for_parsing or "(?!)") if metadata else None


def _dialled_form(e164: str) -> str:
    if e164.startswith("+55") and len(e164) == 13 and e164[5] in "6789":
        return f"{e164[:5]}9{e164[5:]}"
    if e164.startswith("+521") and len(e164) == 14:
        return f"+52{e164[4:]}"
    return e164


def normalize_whatsapp_id(wa_id: str) -> str | None:
    """A ``wa_id`` (digits, no plus) as E.164, or ``None``."""
    digits = wa_id.strip().removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or not 7 <= len(digits) <= 15:
        return None
    return normalize_phone(f"+{digits}")


@lru_cache(maxsize=100_000)
def normalize_email(raw: str) -> str | None:
    """`raw` in lower case with its domain in IDNA, or ``None`` when it is not a deliverable form of address.

    No DNS is asked. Placeholders such as ``root@localhost`` are not addresses.
    """
    if _PLAIN_EMAIL.fullmatch(raw) and len(raw) < 100:
        return raw
    text = _INVISIBLE.sub("", raw).strip().strip("<>")
    if len(text) > 320:
        return None
    try:
        address = validate_email(text, check_deliverability=False, allow_domain_literal=False, test_environment=True)
    except EmailNotValidError:
        return None
    domain = address.ascii_domain.lower()
    if "." not in domain:
        return None
    return f"{address.local_part.lower()}@{domain}"


ROLE_MAILBOXES = frozenset(
    "abuse admin billing contact hello help hostmaster info mailer-daemon marketing no-reply noreply office "
    "postmaster sales security service support team webmaster".split()
)
"""Local parts that several people read. They never link persons. Assumed; the identity rules can change it."""


def is_role_mailbox(email: str) -> bool:
    """Whether a normalised address is a role account (``info@``, ``noreply@``)."""
    return email.partition("@")[0].partition("+")[0] in ROLE_MAILBOXES


@lru_cache(maxsize=10_000)
def clean_name(raw: str | None, limit: int = 200) -> str | None:
    """A display name without control, bidi and zero-width characters, in NFC, at most `limit` characters."""
    if raw is None:
        return None
    if raw.isascii() and raw.isprintable():  # what the rest would leave as it is, forty times as fast
        return " ".join(raw.split())[:limit].strip() or None
    text = "".join(
        " " if unicodedata.category(character) in {"Cc", "Zl", "Zp"} else character
        for character in _INVISIBLE.sub("", unicodedata.normalize("NFC", raw))
        if unicodedata.category(character) != "Cs"
    )
    text = " ".join(text.split())[:limit].strip()
    return text or None
