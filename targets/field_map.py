"""Which of our facts goes into which field of a CRM: one small YAML file per CRM, checked before anything is written.

Knows no CRM. A CRM's module says which facts it has and of which kind (`Facts`), and describes the account's fields as
`DescribedField`; this module reads the file, checks the one against the other and turns facts into fields.

The file::

    version: 1
    contact:
      channels: Thread_Channels__c                 # a field that is ours: written whenever the fact changes
      email: {field: Email, owner: people}         # filled in while empty or still as we wrote it
      preferred_channel: null                      # not written
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mappings.errors import SettingsError
from mappings.settings import describe_invalid

Kind = Literal["text", "datetime", "date", "boolean", "number", "choices", "reference"]
Value = str | bool | int | float | None
"""A fact or a field's value; ``None`` clears the field."""
Facts = Mapping[str, Mapping[str, Kind]]
"""Object -> fact -> its kind."""

# What a fact of each kind can be written into.
_FITS: Mapping[Kind, frozenset[Kind]] = {
    "text": frozenset({"text", "choices"}),
    "datetime": frozenset({"datetime"}),
    "date": frozenset({"date"}),
    "boolean": frozenset({"boolean"}),
    "number": frozenset({"number"}),
    "choices": frozenset({"choices", "text"}),
    "reference": frozenset({"reference"}),
}
_CUT = "…"


class FieldRule(BaseModel):
    """Where one fact goes, and who may change it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    owner: Literal["onethread", "people"] = "onethread"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    version: Literal[1]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True)

    rules: dict[str, FieldRule | None]

    @field_validator("rules", mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, dict):
            return {name: {"field": one} if isinstance(one, str) else one for name, one in value.items()}
        return value


@dataclass(frozen=True, slots=True)
class DescribedField:
    """A field as the account has it.

    Attributes:
        kind: what it takes; ``None`` for a kind that no fact fits (a place, a picture).
        length: longest text, in UTF-16 units; ``None`` where there is no limit to mind.
        createable: whether the token's user may set it on a new record; `updateable` on an old one.
        key: whether it is unique and can be upserted by.
        html: whether it is shown as HTML.
    """

    kind: Kind | None
    length: int | None = None
    createable: bool = True
    updateable: bool = True
    key: bool = False
    html: bool = False


Described = Mapping[str, Mapping[str, DescribedField]]
"""Object -> field -> what it is."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """The rules of one CRM: object -> fact -> rule; facts that are not written are left out."""

    rules: Mapping[str, Mapping[str, FieldRule]]
    where: str

    def field(self, kind: str, fact: str) -> str:
        """The field of a fact that is written; only for facts that `load_field_map` was told are needed."""
        return self.rules[kind][fact].field

    def find(self, kind: str, fact: str) -> str | None:
        """The field of a fact, ``None`` when the file leaves it out."""
        rule = self.rules[kind].get(fact)
        return rule.field if rule else None

    def fields(self, kind: str, facts: Mapping[str, Value], owner: str | None = None) -> dict[str, Value]:
        """Facts as fields; with `owner` only those fields."""
        return {
            rule.field: facts[fact]
            for fact, rule in self.rules[kind].items()
            if fact in facts and owner in {None, rule.owner}
        }

    def names(self, kind: str, owner: str | None = None) -> list[str]:
        """The fields that are written; with `owner` only those."""
        return [rule.field for rule in self.rules[kind].values() if owner in {None, rule.owner}]


def load_field_map(path: str | None, packaged: Path, facts: Facts, needed: Mapping[str, tuple[str, ...]]) -> FieldMap:
    """The field map in force: the user's file, or the packaged one.

    Args:
        path: the user's file; it replaces the packaged one as a whole.
        packaged: the default.
        facts: what can be written.
        needed: object -> facts that must have a field: without them records could not be found again.

    Raises:
        SettingsError: names the file and the line or the entry that is wrong.
    """
    file = Path(path) if path else packaged
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        msg = f"fields_file {file} cannot be read ({type(error).__name__})"
        raise SettingsError(msg) from None
    return parse_field_map(text, file.name, facts, needed)


def parse_field_map(text: str, where: str, facts: Facts, needed: Mapping[str, tuple[str, ...]]) -> FieldMap:
    """The same of a text; `where` names it in errors."""
    try:
        loaded = YAML(typ="safe", pure=True).load(text)
        parts = _File.model_validate(loaded).model_extra or {}
    except ValidationError as error:
        raise SettingsError(describe_invalid(error, where)) from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        msg = f"{where}{line}: {error.problem}"
        raise SettingsError(msg) from None
    except YAMLError as error:
        msg = f"{where} is not YAML ({type(error).__name__})"
        raise SettingsError(msg) from None
    _only_known(where, "object", parts, facts)
    rules: dict[str, dict[str, FieldRule]] = {}
    for kind, known in facts.items():
        try:
            found = _Rules.model_validate({"rules": parts.get(kind) or {}}).rules
        except ValidationError as error:
            raise SettingsError(describe_invalid(error, f"{where}, {kind}")) from None
        _only_known(f"{where}, {kind}", "fact", found, known)
        rules[kind] = {fact: rule for fact, rule in found.items() if rule is not None}
        fields = [rule.field for rule in rules[kind].values()]
        twice = sorted({field for field in fields if fields.count(field) > 1})
        if twice:
            msg = f"{where}, {kind}: {', '.join(twice)} is the field of two facts; each needs its own"
            raise SettingsError(msg)
        missing = [fact for fact in needed.get(kind, ()) if fact not in rules[kind]]
        if missing:
            msg = f"{where}, {kind}: {', '.join(missing)} must have a field; records are found again by it"
            raise SettingsError(msg)
    return FieldMap(rules, where)


def check_field_map(field_map: FieldMap, described: Described, facts: Facts, keys: Mapping[str, str]) -> None:
    """Hold the map against the account's fields.

    Args:
        field_map: what is about to be written.
        described: the account's fields, of the objects that are in use.
        facts: the kinds of the facts.
        keys: object -> fact whose field must be unique.

    Raises:
        SettingsError: every field that is unknown, of another type or not writeable, in one message.
    """
    problems = []
    for kind, fields in described.items():
        for fact, rule in field_map.rules[kind].items():
            problem = _problem(fields.get(rule.field), facts[kind][fact], is_key=keys.get(kind) == fact)
            if problem:
                problems.append(f"{kind}: {fact} -> {rule.field} {problem}")
    if problems:
        msg = f"{field_map.where} does not fit the account: {'; '.join(problems)}"
        raise SettingsError(msg)


def fitted(values: Mapping[str, Value], fields: Mapping[str, DescribedField]) -> dict[str, Value]:
    """Values as the fields take them: texts cut to their length, visibly, and escaped where they are shown as HTML."""
    done: dict[str, Value] = {}
    for name, value in values.items():
        field = fields.get(name)
        if isinstance(value, str) and field is not None:
            if field.html:
                value = _html(value, field.length)
            elif field.length:
                value = cut(value, field.length)
        done[name] = value
    return done


def cut(text: str, units: int, mark: str = _CUT) -> str:
    """`text` in at most `units` UTF-16 units, with `mark` at the end where it was cut; no character is halved."""
    encoded = text.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * units:
        return text
    room = max(0, units - len(mark.encode("utf-16-le")) // 2)
    return encoded[: 2 * room].decode("utf-16-le", "ignore") + mark


def _html(text: str, units: int | None) -> str:
    pieces = [_escape(character) for character in text]
    if units is None or sum(map(_units, pieces)) <= units:
        return "".join(pieces)
    kept, left = [], units - len(_CUT)
    for piece in pieces:
        left -= _units(piece)
        if left < 0:
            break
        kept.append(piece)
    return "".join(kept) + _CUT


def _escape(character: str) -> str:
    if character == "\n":
        return "<br>"
    if character in "{}":
        return f"&#{ord(character)};"
    return "" if character == "\r" else html.escape(character)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "replace")) // 2


def _only_known(where: str, what: str, found: Mapping[str, object], known: Mapping[str, object]) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        msg = f"{where}: no {what} is called {', '.join(map(str, unknown))}; there are {', '.join(sorted(known))}"
        raise SettingsError(msg)


def _problem(field: DescribedField | None, kind: Kind, *, is_key: bool) -> str | None:
    if field is None:
        return "does not exist, or the user may not see it"
    if field.kind not in _FITS[kind]:
        return f"takes no {kind}"
    if not (field.createable and field.updateable):
        return "may not be written by the user"
    if is_key and not field.key:
        return "is not a unique external id"
    return None
