"""When something happened on X: milliseconds as text in webhooks, ISO times when reading, and a time in every id.

Sources: github.com/xdevplatform/docs @2871328, x-api/activity/event-payloads.mdx and x-api/direct-messages/lookup/
integrate.mdx, documented; ids: github.com/twitter-archive/snowflake (41 bits of milliseconds since 1288834974657),
documented; read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from mappings.errors import MissingFieldError
from mappings.fields import moment_of, optional_text_of

_SNOWFLAKES_BEGAN = datetime(2010, 11, 4, 1, 42, 54, 657000, tzinfo=UTC)
_FIRST_SNOWFLAKE = 10**16
_ID = re.compile(r"[0-9]{1,20}")


def moment_of_event(event: Mapping[str, Any], where: str = "X event") -> datetime:
    """When it happened: ``created_timestamp`` (milliseconds), ``created_at`` (ISO), else the time in its own id.

    Raises:
        MissingFieldError: neither is there, or what is there is no time.
    """
    if event.get("created_timestamp") is not None:
        return moment_of(event["created_timestamp"], "created_timestamp", where)
    text = optional_text_of(event, "created_at", where)
    moment = moment_of_snowflake(event.get("id")) if text is None else _moment_of_text(text)
    if moment is None:
        msg = f"{where}: created_at is not a time with its zone" if text else f"{where}: there is no time"
        raise MissingFieldError(msg)
    return moment


def moment_of_snowflake(value: Any) -> datetime | None:
    """The time in an id of X's; ``None`` when it has none (ids of before 2011 are numbers in a row)."""
    if not isinstance(value, str) or not _ID.fullmatch(value) or not _FIRST_SNOWFLAKE <= int(value) < 2**63:
        return None
    return _SNOWFLAKES_BEGAN + timedelta(milliseconds=int(value) >> 22)


def _moment_of_text(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None and moment.year > 1970 else None
    except (ValueError, OverflowError):
        return None
