"""The contract: what a record of a channel of your own may say. One model per kind; ``kind`` chooses it.

A record is written by hand, by a team that has never seen onethread. So there are few fields, a misspelt one is an
error, and every error names the field by its path and says what to do. It never says the value: it may be a text or a
phone number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mappings.errors import MissingFieldError, PayloadError, UnknownShapeError
from mappings.fields import moment_of, storable

MOST_FIELDS = 200
_MOST_PROBLEMS = 5
_DIRECTIONS = {
    "in": "in", "inbound": "in", "incoming": "in", "received": "in",
    "out": "out", "outbound": "out", "outgoing": "out", "sent": "out",
}  # fmt: skip
"""How exports call the two directions; upper and lower case are the same."""
_WRONG_TYPES: Mapping[str, str] = {
    "model_type": "is no object; it is written as {...}",
    "dict_type": "is no object; it is written as {...}",
    "list_type": "is no list; it is written as [...]",
    "string_type": "is no text; write it in quotes",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
}
_EPOCH = re.compile(r"[0-9]{9,13}")
_PLAIN_NAME = re.compile(r"[^\w .-]")


def _to_moment(value: Any, info: ValidationInfo) -> datetime:
    """A time of the contract as aware UTC; the validation context may have ``timezone`` and ``time_format``."""
    options = info.context or {}
    if isinstance(value, int) or (isinstance(value, str) and _EPOCH.fullmatch(value)):
        try:
            return moment_of(value, "time", "")
        except PayloadError:
            raise _problem("is no time; write it as 2026-03-01T12:00:00Z") from None
    if not isinstance(value, str):
        raise _problem("is no time; write it as 2026-03-01T12:00:00Z")
    form = options.get("time_format")
    try:
        moment = _strptime(value.strip(), form) if form else datetime.fromisoformat(value.strip())
    except ValueError:
        hint = "does not have the form of time_format" if form else "is no time; write it as 2026-03-01T12:00:00Z"
        raise _problem(hint) from None
    zone = options.get("timezone")
    if moment.tzinfo is None and zone is None:
        raise _problem("has no time zone; write 2026-03-01T12:00:00+01:00 (an import also takes a timezone)")
    try:
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise _problem("is outside the years 1 to 9999") from None
    if moment.year < 1970:
        raise _problem("is before 1970")
    return moment


def _strptime(text: str, form: str) -> datetime:
    return datetime.strptime(text, form)  # noqa: DTZ007 (the time zone is looked at where this is called)


def _to_id(value: Any) -> Any:
    """An id: a text, or a whole number as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise _problem("is no id; write a text or a whole number, not an empty one")
    return value.strip()


def _to_direction(value: Any) -> Any:
    return _DIRECTIONS.get(value.strip().lower(), value) if isinstance(value, str) else value


def _to_link(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(r"https?://[^\s]+$", value):
        raise _problem("is no link; write it with https://")
    return value


def _to_field_value(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    if value is None or isinstance(value, str | int | float):
        return value
    raise _problem("is neither a text, a number, true, false nor a list of texts")


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("contract", text)


Moment = Annotated[
    datetime,
    BeforeValidator(_to_moment),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
            "description": "ISO 8601 with a time zone, or seconds or milliseconds since 1970.",
        }
    ),
]
Id = Annotated[
    str, BeforeValidator(_to_id), WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]})
]
Link = Annotated[str, BeforeValidator(_to_link), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
TwoWays = Annotated[Literal["in", "out"], BeforeValidator(_to_direction)]
FieldValue = Annotated[
    Any,
    BeforeValidator(_to_field_value),
    WithJsonSchema(
        {"type": ["string", "number", "boolean", "array", "null"], "items": {"type": "string"}},
    ),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(_Part):
    """How somebody is known: at least one of the three."""

    id: Id | None = Field(None, description="Your own id of the person: customer number, login, visitor id.")
    email: str | None = Field(None, description="E-mail address.")
    phone: str | None = Field(None, description="Phone number, best as +447700900123.")

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not (self.id or (self.email or "").strip() or (self.phone or "").strip()):
            raise _problem("names nobody; give at least one of id, email, phone")
        return self


class Who(Address):
    """The customer of a record, on whichever side of it."""

    verified: bool = Field(
        False,
        strict=True,
        description="Only when your system has checked that id, email and phone belong to one person: a login, a "
        "confirmed address. What somebody typed into a form is not.",
    )
    name: str | None = Field(None, description="As the customer gave it; shown, never used to find out who is who.")
    username: str | None = None
    locale: str | None = Field(None, description="For example it-IT.")
    picture_url: Link | None = None


class Author(_Part):
    """Who wrote a message."""

    name: str | None = None
    kind: Literal["customer", "agent", "bot", "system"] | None = Field(
        None, description="Default: customer for `in`, agent for `out`."
    )


class File(_Part):
    """One attachment; the bytes stay where `url` says."""

    url: Link | None = None
    kind: Literal["image", "video", "audio", "file", "sticker"] | None = Field(
        None, description="Default: by `type`, else file."
    )
    name: str | None = Field(None, description="File name.")
    type: str | None = Field(None, description="Media type, e.g. image/png.")
    size: int | None = Field(None, ge=0, description="Bytes.")


class Decision(_Part):
    """A yes or no to being written to."""

    status: Literal["opted_in", "opted_out"]
    purpose: Literal["promotional", "service"] = "promotional"


class Call(_Part):
    """What is known of a call besides who and when."""

    seconds: float | None = Field(None, ge=0, description="How long it was.")
    result: str | None = Field(None, description="In your words: answered, missed, voicemail.")
    recording_url: Link | None = None


class _Record(_Part):
    account: Id | None = Field(
        None, description="Ours on that channel: the number called, the site. Default: the name of the route."
    )


class _Spoken(_Record):
    """What messages, calls and forms share."""

    id: Id | None = Field(
        None,
        description="Your id of this record; unique among all messages, calls and forms of the channel and account. A "
        "record that comes again under its id is not doubled.",
    )
    who: Who
    sent_at: Moment | None = Field(None, description="When it was said. Needed in an import.")
    direction: TwoWays = Field("in", description="in: the customer said it. out: we did.")
    text: str | None = None
    subject: str | None = None
    thread: Id | None = Field(None, description="Your id of the conversation. Default: one for each customer.")
    reply_to: Id | None = Field(None, description="The id of the message that this one answers.")
    attachments: list[File] = Field(default_factory=list, max_length=50)
    author: Author | None = None
    consent: Decision | None = Field(None, description="What the customer decided with it: a ticked box.")
    fields: dict[str, FieldValue] = Field(
        default_factory=dict, description="Whatever else you want to keep: the fields of a form, in their order."
    )

    @model_validator(mode="after")
    def _is_one_of_its_kind(self) -> Self:
        if self.id is None and self.sent_at is None:
            raise _problem("has neither id nor sent_at; without both, two equal messages would count as one")
        if len(self.fields) > MOST_FIELDS:
            raise _problem(f"has more than {MOST_FIELDS} fields")
        return self


class MessageRecord(_Spoken):
    """Something written."""

    kind: Literal["message"]
    origin: Literal["direct", "comment", "mention", "ad"] = Field("direct", description="Where it was written.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.text or self.attachments):
            raise _problem("says nothing; give text or attachments (what has only fields is of kind form)")
        return self


class FormRecord(_Spoken):
    """A form that somebody sent."""

    kind: Literal["form"]

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not (self.text or self.attachments or self.fields):
            raise _problem("says nothing; give text, fields or attachments")
        return self


class CallRecord(_Spoken):
    """A phone call; `text` is the transcript or a note."""

    kind: Literal["call"]
    call: Call = Field(default_factory=Call)


class ChangeRecord(_Record):
    """An edit, a deletion or a reaction."""

    kind: Literal["change"]
    id: Id | None = Field(None, description="Your id of the change, if it has one.")
    message: Id = Field(description="The id of the message that changed; it may come later.")
    change: Literal["edit", "unsend", "react", "unreact"]
    text: str | None = Field(None, description="edit: the new text.")
    emoji: str | None = Field(None, description="react: which one.")
    author: Author | None = None
    changed_at: Moment | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.id is None and self.changed_at is None:
            raise _problem("has neither id nor changed_at; without both, two equal changes would count as one")
        if self.change == "edit" and self.text is None:
            raise _problem("is an edit without text")
        if self.change == "react" and not self.emoji:
            raise _problem("is a reaction without emoji")
        return self


class ReceiptRecord(_Record):
    """What became of a message that we sent."""

    kind: Literal["receipt"]
    message: Id = Field(description="The id of that message.")
    status: Literal["accepted", "sent", "delivered", "read", "failed"]
    occurred_at: Moment | None = None
    code: Id | None = Field(None, description="failed: your code for the reason.")
    reason: str | None = Field(None, description="failed: the reason, for a person to read; no message text.")


class ConsentRecord(_Record):
    """A yes or no that came without a message: a preference page."""

    kind: Literal["consent"]
    who: Who
    status: Literal["opted_in", "opted_out"]
    purpose: Literal["promotional", "service"] = "promotional"
    decided_at: Moment = Field(description="When. A later decision replaces an earlier one.")


class SamePersonRecord(_Record):
    """Several ids, addresses and numbers of one person: a login, a changed address."""

    kind: Literal["same_person"]
    id: Id | None = Field(None, description="Your id of this observation, if it has one.")
    who: Who
    also: list[Address] = Field(default_factory=list, max_length=8, description="Further ones of the same person.")
    observed_at: Moment | None = None


ContractRecord = Annotated[
    MessageRecord | FormRecord | CallRecord | ChangeRecord | ReceiptRecord | ConsentRecord | SamePersonRecord,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(ContractRecord)

SPOKEN = ("message", "form", "call")
KINDS: tuple[str, ...] = (*SPOKEN, "change", "receipt", "consent", "same_person")


def parse_record(value: Any, where: str, options: Mapping[str, Any]) -> Any:
    """`value` as the model of its kind.

    Args:
        value: what stands for a record, as JSON has it.
        where: begins every error.
        options: ``timezone`` (for times without one) and ``time_format`` (as `datetime.strptime` takes it) or nothing.

    Raises:
        UnknownShapeError: it is no object, or of a kind that the contract does not have.
        MissingFieldError: a field is missing.
        PayloadError: a field is wrong. All say which one and what to do, never what stands in it.
    """
    if not isinstance(value, dict):
        msg = f"{where}: is no object; a record is written as {{...}}"
        raise UnknownShapeError(msg)
    if value.get("kind") not in KINDS:
        msg = f"{where}: kind: write one of {', '.join(KINDS)}"
        raise UnknownShapeError(msg)
    try:
        return _ADAPTER.validate_python(storable(value), context=dict(options))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
    told = "; ".join(map(_told, problems[:_MOST_PROBLEMS]))
    more = f"; and {len(problems) - _MOST_PROBLEMS} more" if len(problems) > _MOST_PROBLEMS else ""
    missing = any(one["type"] == "missing" for one in problems)
    raise (MissingFieldError if missing else PayloadError)(f"{where}: {told}{more}")


def contract_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a delivery: one record, or a list of them."""
    schema = _ADAPTER.json_schema()
    definitions = schema.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "onethread: records of a channel of your own",
        "oneOf": [{"$ref": "#/$defs/record"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/record"}}],
        "$defs": {"record": schema, **definitions},
    }


def _told(problem: Mapping[str, Any]) -> str:
    """One problem, by the path of its field. A name that we do not know was written by somebody: made harmless."""
    path = _path(problem["loc"][1:])  # the first part is the kind
    match problem["type"]:
        case "missing":
            return f"{path}: is missing"
        case kind if kind in _WRONG_TYPES:
            return f"{path}: {_WRONG_TYPES[kind]}"
        case "extra_forbidden":
            return f"{path}: is no field of the contract; correct its name, or put it into `fields`"
        case _:
            return f"{path}: {problem['msg']}"


def _path(parts: Sequence[str | int]) -> str:
    return ".".join(_PLAIN_NAME.sub("?", str(part))[:60] for part in parts) or "record"
