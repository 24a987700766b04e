"""What an import reads: files of lines (JSONL), rows (CSV) and mails (mbox), piece by piece, never a whole file.

A piece that is broken is a piece with an error, and the next one follows: no fault in a file ends it.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Literal

from mappings.errors import PayloadError, SettingsError

Format = Literal["jsonl", "csv", "mbox"]
FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".mbox": "mbox", ".mbx": "mbox",
}  # fmt: skip
MAX_PIECE_BYTES = 3 * 1024 * 1024
MOST_LINES_OF_A_ROW = 1_000
"""A row that goes on for longer has a quote that nobody closed."""
_SEPARATORS = ",;\t|"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_FROM_LINE = re.compile(
    rb"From .*?[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) +(?P<day>[0-9]{1,2}) (?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})"
    rb"(?P<zone> +[+-][0-9]{4})?(?: +[A-Z]{3,5})? +(?P<year>[0-9]{4})\s*"
)
"""RFC 4155: "From ", the sender, asctime's date in UTC (documented). Google Takeout puts +0000 before the year
(observed: github.com/DirectoryTree/ImapEngine/pull/44, github.com/meh/rust-mailbox/issues/2), others the name of a zone
(assumed)."""
_LINE_BYTES = 1024 * 1024
_FIELD_LINE = re.compile(rb"[!-9;-~]{1,100}:(?!//)")
_QUOTED_FROM = re.compile(rb"(?m)^>(>*From )")


@dataclass(frozen=True, slots=True)
class Piece:
    """One line, row or mail.

    Attributes:
        number: how many pieces there were, this one included.
        line: where it begins (mbox: which mail), from 1, for a person to find it.
        raw: its bytes, decoded for nobody yet (CSV: as UTF-8).
        error: why it cannot be read.
        arrived_at: mbox: when the mailbox got the mail, if it says.
        size_bytes: mbox: set when only the header was read, because the mail is this large.
    """

    number: int
    line: int
    raw: bytes
    error: PayloadError | None = None
    arrived_at: datetime | None = None
    size_bytes: int | None = None


def format_of(path: Path, given: str | None) -> Format:
    """The format of a file: the one given, else by its name; raises `SettingsError` when neither says."""
    found = FORMATS.get(f".{given}" if given else path.suffix.lower())
    if found is None:
        msg = f"{path.name}: of what format is it? Say jsonl, csv or mbox"
        raise SettingsError(msg)
    return found


def lines_of(file: IO[bytes]) -> Iterator[tuple[int, bytes, PayloadError | None]]:
    """(number, bytes, error) of every line; one that is too long is cut and an error."""
    number = 0
    while line := file.readline(MAX_PIECE_BYTES):
        number += 1
        error: PayloadError | None = None
        if len(line) == MAX_PIECE_BYTES and not line.endswith(b"\n"):
            error = PayloadError(f"the line is longer than {MAX_PIECE_BYTES} bytes")
            while (rest := file.readline(MAX_PIECE_BYTES)) and not rest.endswith(b"\n"):
                pass
            line = line[:1024]
        yield number, line, error


def json_pieces(file: IO[bytes]) -> Iterator[Piece]:
    """Every line that is not empty."""
    count = 0
    for number, line, error in lines_of(file):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if number == 1 and text.startswith(_WIDE_MARKS):
            msg = "the file is UTF-16; save it as UTF-8"
            raise SettingsError(msg)
        if text.strip():
            count += 1
            yield Piece(count, number, text.strip(), error)


@dataclass
class Table:
    """A CSV file: its header at once, then its rows.

    Args:
        encoding: of the file.
        separator: between the values; by default the one of ``, ; tab |`` that the header has most of.

    Raises:
        SettingsError: there is no header, or the encoding is not known or not that of the header.
    """

    file: IO[bytes]
    encoding: str = "utf-8"
    separator: str | None = None
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if self.file.read(2) in _WIDE_MARKS:
            msg = "the file is UTF-16; save it as UTF-8"
            raise SettingsError(msg)
        self.file.seek(0)
        csv.field_size_limit(MAX_PIECE_BYTES)
        self._lines = lines_of(self.file)
        self._returned: deque[tuple[int, bytes, PayloadError | None]] = deque()
        self._taken: list[tuple[int, bytes, PayloadError | None]] = []
        number, line, error = next(self._lines, (0, b"", None))
        try:
            text = line.removeprefix(b"\xef\xbb\xbf").decode(self.encoding)
        except (LookupError, UnicodeError):
            msg = f"the header cannot be read as {self.encoding}; name the file's encoding, e.g. cp1252"
            raise SettingsError(msg) from None
        if not text.strip() and number:
            msg = "the first line is empty; it must name the columns"
            raise SettingsError(msg)
        self.separator = self.separator or max(_SEPARATORS, key=text.count)
        try:
            self.header = values_of_row(text, self.separator) if number and not error else []
        except PayloadError:
            msg = "the header's quotes are broken, or it has several lines"
            raise SettingsError(msg) from None

    def pieces(self) -> Iterator[Piece]:
        """Every row that is not empty. A row whose quotes are broken costs its first line, and no more."""
        rows = self._reader(self._text_lines())
        count = 0
        while True:
            self._taken = []
            error: PayloadError | None = None
            try:
                values: list[str] | None = next(rows, None)
                if values is None:
                    return
            except (csv.Error, PayloadError) as caught:
                values = None
                error = caught if isinstance(caught, PayloadError) else PayloadError("the quotes of the row are broken")
                # Whatever else was swallowed by the open quote is given back, to be read as rows of its own.
                self._returned.extendleft(reversed(self._taken[1:]))
                self._taken = self._taken[:1]
                rows = self._reader(self._text_lines())
            if error is None and not any(values or ()):
                continue
            count += 1
            raw = b"".join(line for _, line, _ in self._taken)
            if error is None:
                raw = raw.decode(self.encoding).encode()
            yield Piece(count, self._taken[0][0] if self._taken else count, raw, error)

    def _reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.separator or ",", strict=True)

    def _text_lines(self) -> Iterator[str]:
        while (one := self._returned.popleft() if self._returned else next(self._lines, None)) is not None:
            self._taken.append(one)
            _, line, error = one
            if error is not None:
                raise error
            if len(self._taken) > MOST_LINES_OF_A_ROW:
                msg = "a quote is opened and never closed"
                raise PayloadError(msg)
            try:
                yield line.decode(self.encoding)
            except UnicodeError:
                msg = f"the row is not {self.encoding}; name the file's encoding, e.g. cp1252"
                raise PayloadError(msg) from None


def values_of_row(row: str, separator: str) -> list[str]:
    """The values of a row, which may have several lines; raises `PayloadError` when its quotes are broken."""
    try:
        found = list(csv.reader([row], delimiter=separator, strict=True))
    except csv.Error:
        found = []
    if len(found) != 1:
        msg = "the quotes of the row are broken; a quote inside a value is written twice"
        raise PayloadError(msg)
    return found[0]


def mail_pieces(file: IO[bytes], max_bytes: int) -> Iterator[Piece]:
    """Every mail of an mbox file, in order.

    Not by the standard library's `mailbox`: it takes every line that begins with "From " for the start of a mail, and
    it reads the whole file before the first. RFC 4155 leaves open how such lines of a text are told: here a mail starts
    at one that has a date, or that stands after an empty line and before a header. ``>From`` loses its sign, as mboxrd
    has it.

    Args:
        file: at its start.
        max_bytes: of a larger mail only the header is given.

    Raises:
        SettingsError: it does not begin as an mbox does.
    """
    mail: _Mail | None = None
    waiting = b""
    after_empty = True
    for line in _starts_of_lines(file):
        if waiting:
            found = _FROM_LINE.fullmatch(waiting)
            if found or (after_empty and _FIELD_LINE.match(line)):
                if mail is not None:
                    yield mail.piece(max_bytes)
                mail = _Mail(mail.number + 1 if mail else 1, _arrival(found))
            elif mail is not None:
                mail.add(waiting, max_bytes)
            waiting = b""
            after_empty = False
        if line.startswith(b"From "):
            waiting = line
        elif mail is not None:
            mail.add(line, max_bytes)
            after_empty = not line.strip(b"\r\n")
        elif line.strip():
            msg = "the file is no mbox: it does not begin with a line that says From, and a header"
            raise SettingsError(msg)
    if mail is not None:
        if waiting and not _FROM_LINE.fullmatch(waiting):
            mail.add(waiting, max_bytes)
        yield mail.piece(max_bytes)


def _starts_of_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Every line; of one that is longer than anybody's mail server allows, its parts, none of which starts a mail."""
    whole = True
    while line := file.readline(_LINE_BYTES):
        yield line if whole or not line.startswith(b"From ") else b" " + line
        whole = line.endswith(b"\n")


@dataclass
class _Mail:
    """A mail on its way out of the file; no more of it than is asked for is in memory."""

    number: int
    arrived_at: datetime | None
    content: bytearray = field(default_factory=bytearray)
    size_bytes: int = 0

    def add(self, line: bytes, max_bytes: int) -> None:
        self.size_bytes += len(line)
        self.content += line[: max(0, max_bytes + 2 - len(self.content))]

    def piece(self, max_bytes: int) -> Piece:
        """The mail, without the empty line that ends it in the file."""
        for end in (b"\r\n", b"\n"):
            if self.content.endswith(end * 2):
                del self.content[-len(end) :]
                self.size_bytes -= len(end)
                break
        raw = _QUOTED_FROM.sub(rb"\1", bytes(self.content))
        if self.size_bytes <= max_bytes:
            return Piece(self.number, self.number, raw, arrived_at=self.arrived_at)
        header = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0] + b"\n\n"
        return Piece(self.number, self.number, header, arrived_at=self.arrived_at, size_bytes=self.size_bytes)


def _arrival(found: re.Match[bytes] | None) -> datetime | None:
    if found is None:
        return None
    day, month, year, time = (found[name].decode() for name in ("day", "month", "year", "time"))
    try:
        return parsedate_to_datetime(f"{day} {month} {year} {time}{(found['zone'] or b' +0000').decode()}")
    except (ValueError, OverflowError):
        return None
