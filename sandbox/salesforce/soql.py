"""The part of SOQL that a connector sends, read into a tree; whatever is not known here is MALFORMED_QUERY.

Source: developer.salesforce.com, "SOQL and SOSL Reference", second-hand, 2026-10 (documented): AND and OR are not
mixed without parentheses; a statement has at most 100,000 characters; OFFSET at most 2,000.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.salesforce.refusals import Refusal

STATEMENT_LIMIT = 100_000
OFFSET_LIMIT = 2_000
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^'\\]|\\.)*')"
    r"|(?P<datetime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))|(?P<date>\d{4}-\d\d-\d\d)"
    r"|(?P<number>[+-]?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*(?::\d+)?)"
    r"|(?P<sign>!=|<>|<=|>=|[=<>(),]))"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_COMPARISONS = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})
_SAME = {"<>": "!="}
_DATE_WORD = re.compile(r"(?:TODAY|YESTERDAY|TOMORROW|LAST_N_DAYS:\d+)", re.IGNORECASE)
_WORDS = frozenset({"and", "or", "not", "in", "like", "from", "where", "order", "by", "limit", "offset", "select"})


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a condition. `kind`: string, number, boolean, null, date, datetime or period (TODAY ...)."""

    kind: str
    value: Any


@dataclass(frozen=True, slots=True)
class Comparison:
    """``field operator value``; `operator` is one of ``= != < <= > >= like in not in``."""

    path: str
    operator: str
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by ``and`` or ``or``, or the one that ``not`` turns around."""

    operator: str
    parts: tuple[Any, ...]


@dataclass(slots=True)
class Query:
    """One statement; `fields` empty and `count` true for ``SELECT COUNT()``."""

    fields: list[str]
    object_name: str
    where: Any = None
    order_by: list[tuple[str, bool, bool]] = field(default_factory=list)  # path, descending, empty ones last
    limit: int | None = None
    offset: int = 0
    count: bool = False


def parse_soql(text: str) -> Query:
    """The tree of a statement.

    Raises:
        Refusal: MALFORMED_QUERY, for what is wrong and for what this stand-in does not know.
    """
    if len(text) > STATEMENT_LIMIT:
        raise malformed(f"SOQL statements cannot be longer than {STATEMENT_LIMIT} characters.")
    return _Parser(text).query()


def malformed(message: str) -> Refusal:
    """The refusal of a statement."""
    return Refusal("MALFORMED_QUERY", message)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        place = 0
        text = text.rstrip()
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise malformed(f"unexpected token: '{text[place : place + 1]}'")
            self._tokens.append((str(found.lastgroup), found.group(str(found.lastgroup))))
            place = found.end()
        self._place = 0

    def query(self) -> Query:
        self._word("select")
        fields = [self._field()]
        while self._if_sign(","):
            fields.append(self._field())
        self._word("from")
        query = Query([one for one in fields if one != "COUNT()"], self._name(), count=fields == ["COUNT()"])
        if not query.count and "COUNT()" in fields:
            raise malformed("COUNT() cannot be selected with other fields")
        if self._if_word("where"):
            query.where = self._conditions()
        if self._if_word("order"):
            self._word("by")
            query.order_by = [self._ordering()]
            while self._if_sign(","):
                query.order_by.append(self._ordering())
        if self._if_word("limit"):
            query.limit = self._whole()
        if self._if_word("offset"):
            query.offset = self._whole()
            if query.offset > OFFSET_LIMIT:
                message = f"Maximum SOQL offset allowed is {OFFSET_LIMIT}"
                raise Refusal("NUMBER_OUTSIDE_VALID_RANGE", message)
        if self._place < len(self._tokens):
            raise malformed(f"unexpected token: '{self._tokens[self._place][1]}'")
        return query

    def _field(self) -> str:
        name = self._name()
        if self._peek() == ("sign", "("):
            if name.lower() != "count":
                raise malformed(f"unexpected token: '{name}('")
            self._place += 1
            self._sign(")")
            return "COUNT()"
        return name

    def _conditions(self) -> Any:
        first = self._condition()
        joined = None
        parts = [first]
        while (word := self._peek()[1].lower()) in {"and", "or"} and self._peek()[0] == "word":
            if joined not in {None, word}:
                raise malformed(f"unexpected token: '{word}'")  # AND and OR need parentheses
            joined = word
            self._place += 1
            parts.append(self._condition())
        return Group(joined, tuple(parts)) if joined else first

    def _condition(self) -> Any:
        if self._if_word("not"):
            return Group("not", (self._condition(),))
        if self._if_sign("("):
            inner = self._conditions()
            self._sign(")")
            return inner
        path = self._name()
        kind, token = self._next()
        if kind == "sign" and token in _COMPARISONS:
            return Comparison(path, _SAME.get(token, token), (self._literal(),))
        if kind == "word" and token.lower() == "like":
            return Comparison(path, "like", (self._literal(),))
        if kind == "word" and token.lower() == "in":
            return Comparison(path, "in", self._list())
        if kind == "word" and token.lower() == "not" and self._if_word("in"):
            return Comparison(path, "not in", self._list())
        raise malformed(f"unexpected token: '{token}'")

    def _list(self) -> tuple[Literal, ...]:
        self._sign("(")
        found = [self._literal()]
        while self._if_sign(","):
            found.append(self._literal())
        self._sign(")")
        return tuple(found)

    def _literal(self) -> Literal:
        kind, token = self._next()
        if kind == "string":
            return Literal(
                "string",
                re.sub(r"\\(.)", lambda one: _ESCAPES.get(one.group(1), one.group(1)), token[1:-1], flags=re.S),
            )
        if kind == "number":
            return Literal("number", float(token))
        if kind in {"date", "datetime"}:
            return Literal(kind, token)
        if kind == "word" and token.lower() in {"true", "false"}:
            return Literal("boolean", token.lower() == "true")
        if kind == "word" and token.lower() == "null":
            return Literal("null", None)
        if kind == "word" and _DATE_WORD.fullmatch(token):
            return Literal("period", token.upper())
        raise malformed(f"unexpected token: '{token}'")

    def _ordering(self) -> tuple[str, bool, bool]:
        path = self._name()
        descending = self._if_word("desc")
        if not descending:
            self._if_word("asc")
        empty_last = False
        if self._if_word("nulls"):
            empty_last = self._if_word("last")
            if not empty_last:
                self._word("first")
        return path, descending, empty_last

    def _whole(self) -> int:
        kind, token = self._next()
        if kind != "number" or not token.isdigit():
            raise malformed(f"unexpected token: '{token}'")
        return int(token)

    def _name(self) -> str:
        kind, token = self._next()
        if kind != "word" or token.lower() in _WORDS or ":" in token:
            raise malformed(f"unexpected token: '{token}'")
        return token

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "<EOF>")

    def _next(self) -> tuple[str, str]:
        found = self._peek()
        self._place += 1
        return found

    def _if_word(self, word: str) -> bool:
        kind, token = self._peek()
        if kind == "word" and token.lower() == word:
            self._place += 1
            return True
        return False

    def _word(self, word: str) -> None:
        if not self._if_word(word):
            raise malformed(f"unexpected token: '{self._peek()[1]}' (expecting '{word}')")

    def _if_sign(self, sign: str) -> bool:
        if self._peek() == ("sign", sign):
            self._place += 1
            return True
        return False

    def _sign(self, sign: str) -> None:
        if not self._if_sign(sign):
            raise malformed(f"unexpected token: '{self._peek()[1]}' (expecting '{sign}')")
