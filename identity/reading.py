"""The short way of reading a message: only what who-is-who needs of it, and the line passed on as it came.

Most lines are messages. Parsing one into its model and writing it again costs several times what deciding whose it is
does. Here msgspec reads the few fields that count and the person is put into the line's own text. Whatever is not
quite as expected goes the long way, which parks it with a reason if need be.
"""

from __future__ import annotations

import re
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Annotated, Any, Literal

import msgspec

from mappings.ids import handle_key
from mappings.records import Handle, Message, Profile

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_NAME = b'"person_id"'
_PERSON, _NOBODY = _NAME + b':"%b"', _NAME + b":null"
_FIND_PERSON = re.compile(_NAME + rb'\s*:\s*(?:null|"[^"\\]*")').match


class _Handle(msgspec.Struct, gc=False):
    kind: _Text
    value: _Text
    scope: _Text | None = None


class _Profile(msgspec.Struct, gc=False):
    name: str | None = None
    locale: str | None = None


class _Fields(msgspec.Struct, gc=False):
    message_key: _Text
    direction: Literal["inbound", "outbound"]
    author_kind: Literal["customer", "agent", "bot", "system"]
    handles: list[_Handle]
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)]
    person_id: str | None
    author_name: str | None = None
    profile: _Profile | None = None


class _Line(msgspec.Struct, gc=False):
    type: Literal["RECORD"]
    stream: Literal["messages"]
    record: _Fields


_DECODE = msgspec.json.Decoder(_Line).decode


class MessageLine(msgspec.Struct, gc=False, eq=False):
    """A message as the line that it came on, with the fields of `mappings.records.Message` that are read here."""

    message_key: str
    handles: list[_Handle]
    sent_at: datetime
    direction: str
    author_kind: str
    author_name: str | None
    profile: _Profile | None
    line: bytes
    before: int
    """Where on the line the person begins, with its name."""
    behind: int

    def stamped(self, person_id: str | None) -> bytes:
        """The line with that person on the record."""
        person = _NOBODY if person_id is None else _PERSON % person_id.encode()
        return b"".join((self.line[: self.before], person, self.line[self.behind :]))

    @property
    def keys(self) -> list[str]:
        """The key of the message and those of its handles."""
        return [self.message_key, *(handle_key(one.kind, one.scope, one.value) for one in self.handles)]

    @property
    def raw_ref(self) -> str | None:
        """Where the raw bytes are."""
        raw_ref = self._all_fields().get("raw_ref")
        return raw_ref if isinstance(raw_ref, str) else None

    def whole(self) -> Message:
        """The message with all its fields, of which those that are not read here are as they stand on the line."""
        profile = self.profile and Profile(name=self.profile.name, locale=self.profile.locale)
        handles = [Handle(kind=one.kind, scope=one.scope, value=one.value) for one in self.handles]
        read = {"handles": handles, "sent_at": self.sent_at, "profile": profile}
        return Message.model_construct(**(self._all_fields() | read))

    def _all_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.json.decode(self.line)["record"]
        return fields


def read_message_line(line: bytes) -> MessageLine | None:
    """The message on a line; ``None`` for everything that has to go the long way."""
    if b'"messages"' not in line[:80]:
        return None
    place = line.rfind(_NAME)
    if place < 0 or line.find(_NAME, 0, place) >= 0:
        return None
    try:
        fields = _DECODE(line).record
    except msgspec.MsgspecError:
        return None
    found = _FIND_PERSON(line, place)
    if found is None or not fields.handles or not MINYEAR < fields.sent_at.year < MAXYEAR:
        return None
    return MessageLine(
        fields.message_key, fields.handles, fields.sent_at, fields.direction, fields.author_kind, fields.author_name,
        fields.profile, line if line.endswith(b"\n") else line + b"\n", place, found.end(),
    )  # fmt: skip
