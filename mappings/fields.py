"""Typed fields out of a platform's payload: the value, ``None`` when it is absent, or an error that says where.

A payload was written by somebody else: anything can be missing, of another type, or absurd. What a mapping needs and
does not get raises `MissingFieldError`, and the payload is parked. Errors name the field and the type that was found,
never the value: it may be a phone number or a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from mappings.errors import MissingFieldError

_TOKEN = re.compile(r"[0-9a-f]{32}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_LARGEST_INTEGER = 2**63 - 1
_MILLISECONDS_FROM = 10**11
"""An epoch number from here on is in milliseconds: as seconds it would be the year 5138."""
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z


class PlatformEvent(Protocol):
    """One event of a delivery, as a webhook module's `split` gives it."""

    @property
    def kind(self) -> str:
        """What it is, in the words of the platform's webhook module."""

    @property
    def payload(self) -> dict[str, Any]:
        """The event and what stands around it."""


def text_of(payload: Mapping[str, Any], name: str, where: str) -> str:
    """The text in field `name`; raises `MissingFieldError` when it is absent, empty or no text."""
    value = optional_text_of(payload, name, where)
    if value is None:
        msg = f"{where}: {name} is missing"
        raise MissingFieldError(msg)
    return value


def optional_text_of(payload: Mapping[str, Any], name: str, where: str) -> str | None:
    """The text in field `name`, ``None`` when absent or empty; raises `MissingFieldError` when it is no text."""
    value = payload.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _wrong_type(name, where, value, "a text")
    return _storable(value)


def id_of(payload: Mapping[str, Any], name: str, where: str) -> str:
    """An id that a platform writes as text or as a whole number, as text."""
    value = payload.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_INTEGER:
        return str(value)
    return text_of(payload, name, where)


def object_of(payload: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """The object in field `name`; raises `MissingFieldError` when it is absent or no object."""
    value = optional_object_of(payload, name, where)
    if value is None:
        msg = f"{where}: {name} is missing"
        raise MissingFieldError(msg)
    return value


def optional_object_of(payload: Mapping[str, Any], name: str, where: str) -> dict[str, Any] | None:
    """The object in field `name`, ``None`` when absent; raises `MissingFieldError` when it is no object."""
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _wrong_type(name, where, value, "an object")
    return value


def objects_of(payload: Mapping[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    """The objects in the list `name`, empty when absent; raises `MissingFieldError` when it holds anything else."""
    value = payload.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong_type(name, where, value, "a list")
    for one in value:
        if not isinstance(one, dict):
            raise _wrong_type(f"an element of {name}", where, one, "an object")
    return value


def moment_of(value: Any, name: str, where: str) -> datetime:
    """An epoch number (a number or its digits), in seconds or milliseconds by its size, as an aware UTC time.

    Raises:
        MissingFieldError: it is absent, no whole number, not after 1970, or after the year 9999.
    """
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise _wrong_type(name, where, value, "an epoch number")
    seconds, rest = (number, 0) if number < _MILLISECONDS_FROM else divmod(number, 1000)
    if not 0 < seconds <= _LAST_SECOND:
        msg = f"{where}: {name} is not a time between 1970 and 9999"
        raise MissingFieldError(msg)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def reply_token_of(value: Any) -> str | None:
    """`value` when it has the shape of our reply token (`mappings.ids.reply_token`), else ``None``.

    Other apps use the same fields for their own purposes; theirs is not ours to keep.
    """
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def chosen(payload: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of `names` that `payload` has and are not null, in that order, made storable."""
    return {name: storable(payload[name]) for name in names if payload.get(name) is not None}


def storable(value: Any) -> Any:
    """A JSON value that every store and target can hold.

    NUL (PostgreSQL refuses it) and half surrogate pairs become U+FFFD, a whole number over 64 bits its digits, NaN and
    infinity ``None``.
    """
    if isinstance(value, dict):
        return {_storable(str(name)): storable(child) for name, child in value.items()}
    if isinstance(value, list):
        return [storable(child) for child in value]
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return str(value)
    return value


def _storable(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _wrong_type(name: str, where: str, value: Any, wanted: str) -> MissingFieldError:
    return MissingFieldError(f"{where}: {name} is {type(value).__name__}, not {wanted}")
