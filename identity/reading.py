"""The short way of reading a message: only what who-is-who needs of it, and the line passed on as it came.

Most lines are messages. Parsing one into its model and writing it again costs several times what deciding whose it is
does. Here msgspec reads the few fields that count and the person is put into the line's own text. Whatever is not
quite as expected goes the long way, which parks it with a reason if need be.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from mappings.records import Message

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_PERSON = re.compile(rb'"person_id"\s*:\s*(?:null|"[^"\\]*")')


class _Handle(msgspec.Struct):
    kind: _Text
    value: _Text
    scope: _Text | None = None


class _Profile(msgspec.Struct):
    name: str | None = None
    locale: str | None = None


class _Fields(msgspec.Struct):
    message_key: _Text
    direction: Literal["inbound", "outbound"]
    author_kind: Literal["customer", "agent", "bot", "system"]
    handles: list[_Handle]
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)]
    person_id: str | None
    author_name: str | None = None
    profile: _Profile | None = None


class _Line(msgspec.Struct):
    type: Literal["RECORD"]
    stream: Literal["messages"]
    record: _Fields


_DECODE = msgspec.json.Decoder(_Line).decode


class MessageLine:
    """A message as the line that it came on, with the fields of `mappings.records.Message` that are read here."""

    __slots__ = (
        "_before",
        "_behind",
        "_line",
        "author_kind",
        "author_name",
        "direction",
        "handles",
        "profile",
        "sent_at",
    )

    def __init__(self, line: bytes, fields: _Fields, place: tuple[int, int]) -> None:
        self.handles = fields.handles
        self.sent_at = fields.sent_at
        self.direction = fields.direction
        self.author_kind = fields.author_kind
        self.author_name = fields.author_name
        self.profile = fields.profile
        self._line = line
        self._before, self._behind = place

    def stamped(self, person_id: str | None) -> bytes:
        """The line with that person on the record."""
        person = b"null" if person_id is None else b'"' + person_id.encode() + b'"'
        return self._line[: self._before] + b'"person_id":' + person + self._line[self._behind :]

    def whole(self) -> Message:
        """The message with all its fields; raises `ValueError` when it is none."""
        fields: dict[str, Any] = msgspec.json.decode(self._line)["record"]
        return Message.model_validate({name: value for name, value in fields.items() if not name.startswith("_sdc_")})


def read_message_line(line: bytes) -> MessageLine | None:
    """The message on a line; ``None`` for everything that has to go the long way."""
    if b'"messages"' not in line[:80] or line.count(b'"person_id"') != 1:
        return None
    try:
        fields = _DECODE(line).record
    except msgspec.MsgspecError:
        return None
    found = _PERSON.search(line)
    if found is None or not fields.handles:
        return None
    return MessageLine(line if line.endswith(b"\n") else line + b"\n", fields, found.span())
