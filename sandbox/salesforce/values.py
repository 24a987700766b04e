"""What a field accepts, in JSON and in CSV, and what is kept of it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from typing import Any

from sandbox.salesforce.ids import read_id
from sandbox.salesforce.refusals import Refusal, unreadable
from sandbox.salesforce.schema import NUMBER_TYPES, TEXT_TYPES, Field

_EMAIL = re.compile(r"[^\s@<>()\[\],;:\"]+@[^\s@<>()\[\],;:\".]+(?:\.[^\s@<>()\[\],;:\".]+)+")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)")
_WHOLE_32 = 2**31 - 1


def read_value(field: Field, value: Any, *, csv: bool = False) -> Any:
    """`value` as the org keeps it; `csv` values are text. ``None`` and the empty string mean no value.

    Raises:
        Refusal: JSON_PARSER_ERROR for a wrong JSON type, else the code of the field's own rule.
    """
    if isinstance(value, str) and field.type != "base64":
        value = value.strip() if field.type != "textarea" else value.rstrip()
    if value is None or value == "":
        return _nothing(field)
    if field.type in TEXT_TYPES:
        return _text(field, value)
    if field.type == "boolean":
        return _boolean(value, csv=csv)
    if field.type in NUMBER_TYPES:
        return _number(field, value, csv=csv)
    if field.type == "datetime":
        return _datetime(value)
    if field.type == "date":
        return _date(value)
    if field.type in {"reference", "id"}:
        return _id(field, value)
    return _bytes(field, value)


def moment(value: str) -> dt.datetime:
    """A datetime in any spelling that Salesforce reads.

    Raises:
        ValueError: it is none.
    """
    if not _DATETIME.fullmatch(value):
        raise ValueError(value)
    return dt.datetime.fromisoformat(value).astimezone(dt.UTC)


def stamp(at: dt.datetime) -> str:
    """A moment as Salesforce writes it: whole seconds, ``.000+0000``."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def _nothing(field: Field) -> Any:
    if field.type == "boolean":
        raise Refusal(
            "INVALID_TYPE_ON_FIELD_IN_RECORD", f"{field.label}: value not of required type: ", fields=[field.name]
        )
    if not field.nillable:
        if field.createable and not field.filled:
            message = f"Required fields are missing: [{field.name}]"
            raise Refusal("REQUIRED_FIELD_MISSING", message, fields=[field.name])
        return field.default
    return None


def _wrong(kind: str, value: Any) -> Refusal:
    told = {"bool": f"VALUE_{str(value).upper()}", "int": "VALUE_NUMBER_INT", "float": "VALUE_NUMBER_FLOAT"}
    found = told.get(type(value).__name__, "VALUE_STRING" if isinstance(value, str) else "START_OBJECT")
    return unreadable(
        f"Cannot deserialize instance of {kind} from {found} value {value} or request may be missing a required field"
    )


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("string", value)
    if len(value) > field.length:
        message = f"{field.label}: data value too large: {value} (max length={field.length})"
        raise Refusal("STRING_TOO_LONG", message, fields=[field.name])
    if field.type == "email" and not _EMAIL.fullmatch(value):
        message = f"{field.label}: invalid email address: {value}"
        raise Refusal("INVALID_EMAIL_ADDRESS", message, fields=[field.name])
    if field.restricted and field.picklist and value not in field.picklist:
        message = f"{field.label}: bad value for restricted picklist field: {value}"
        raise Refusal("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, fields=[field.name])
    return value


def _boolean(value: Any, *, csv: bool) -> bool:
    if csv and isinstance(value, str) and value.lower() in {"true", "false", "1", "0"}:
        return value.lower() in {"true", "1"}
    if not isinstance(value, bool):
        raise _wrong("boolean", value)
    return value


def _number(field: Field, value: Any, *, csv: bool) -> float | int:
    if csv:
        try:
            value = float(value)
        except ValueError as error:
            message = f"'{value}' is not a valid value for the type xsd:double"
            raise Refusal("INVALID_TYPE_ON_FIELD_IN_RECORD", message, fields=[field.name]) from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("double", value)
    whole = field.precision - field.scale if field.precision else None
    too_large = abs(value) >= 10**whole if whole is not None else field.type == "int" and abs(value) > _WHOLE_32
    if too_large:
        message = f"{field.label}: value outside of valid range on numeric field: {value}"
        raise Refusal("NUMBER_OUTSIDE_VALID_RANGE", message, fields=[field.name])
    return int(value) if field.type == "int" else round(float(value), field.scale)


def _datetime(value: Any) -> str:
    try:
        return stamp(moment(value))
    except (TypeError, ValueError) as error:
        raise _wrong("datetime", value) from error


def _date(value: Any) -> str:
    try:
        return dt.date.fromisoformat(value[:10] if len(value) > 10 and value[10] == "T" else value).isoformat()
    except (TypeError, ValueError) as error:
        raise _wrong("date", value) from error


def _id(field: Field, value: Any) -> str:
    found = read_id(value) if isinstance(value, str) else None
    if found is None:
        raise Refusal("MALFORMED_ID", f"{field.label}: id value of incorrect type: {value}", fields=[field.name])
    return found


def _bytes(field: Field, value: Any) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (TypeError, binascii.Error, ValueError) as error:
        raise Refusal("JSON_PARSER_ERROR", f"{field.label}: not a valid base64 value") from error
    return str(value)
