"""Files piece by piece: no fault in one costs more than its own piece, and no file is read whole."""

from __future__ import annotations

import csv
import io
import mailbox
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from itertools import repeat
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import PayloadError, SettingsError
from taps import import_files
from taps.import_files import Piece, Table, format_of, json_pieces, mail_pieces, values_of_row


def lines(data: bytes) -> list[Piece]:
    return list(json_pieces(io.BytesIO(data)))


def table(text: str | bytes, encoding: str = "utf-8") -> Table:
    return Table(io.BytesIO(text if isinstance(text, bytes) else text.encode(encoding)), encoding)


def rows(text: str | bytes, encoding: str = "utf-8") -> list[tuple[int, list[str] | None]]:
    """(line, values) of each row; ``None`` for a broken one."""
    found = table(text, encoding)
    return [
        (one.line, None if one.error else values_of_row(one.raw.decode(), found.separator or ","))
        for one in found.pieces()
    ]


# Lines


def test_every_line_that_is_not_empty_is_a_piece_under_its_number() -> None:
    found = lines(b'\xef\xbb\xbf{"a":1}\n\n  \r\n{"b":2}\r\n{"c":3}')
    assert [(one.number, one.line, one.raw) for one in found] == [
        (1, 1, b'{"a":1}'),
        (2, 4, b'{"b":2}'),
        (3, 5, b'{"c":3}'),
    ]


def test_a_line_without_end_is_cut_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "MAX_PIECE_BYTES", 10)
    found = lines(b"12345678\n" + b"x" * 35 + b"\nnext\n" + b"y" * 10)
    assert [(one.line, one.raw[:4], one.error is not None) for one in found] == [
        (1, b"1234", False), (2, b"xxxx", True), (3, b"next", False), (4, b"yyyy", True),
    ]  # fmt: skip


def test_a_file_of_another_alphabet_is_refused_at_once() -> None:
    for read in (lines, table):
        with pytest.raises(SettingsError, match="UTF-16"):
            read('{"a":1}'.encode("utf-16"))


# Rows


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a,b\n1,2\n", ["1", "2"]),
        ("a;b\r\n1;2\r\n", ["1", "2"]),
        ("a\tb\n1\t2", ["1", "2"]),
        ("a|b\n1|2", ["1", "2"]),
        ('a,b\n"1,5","say ""hi"""\n', ["1,5", 'say "hi"']),
        ('a,b\n"two\nlines",2\n', ["two\nlines", "2"]),
        ('a,b\n"form\x0cfeed\u2028and more",2\n', ["form\x0cfeed\u2028and more", "2"]),
        ("a,b\nform\x0cfeed,2\n", ["form\x0cfeed", "2"]),
        ('a,b\n5" pipe,2\n', ['5" pipe', "2"]),
    ],
)
def test_a_row_is_read_as_programs_write_it(text: str, values: list[str]) -> None:
    assert rows(text) == [(2, values)]


def test_a_row_is_known_by_its_first_line() -> None:
    assert rows('a,b\n1,"x\ny\nz"\n\n,\n2,w\n') == [(2, ["1", "x\ny\nz"]), (7, ["2", "w"])]


def test_a_quote_that_nobody_closes_costs_its_line_and_no_other() -> None:
    assert rows('a,b\n1,x\n2,"open\n3,y\n4,z\n') == [(2, ["1", "x"]), (3, None), (4, ["3", "y"]), (5, ["4", "z"])]


def test_a_quote_that_is_closed_much_later_costs_its_line_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "MOST_LINES_OF_A_ROW", 3)
    text = 'a,b\n1,"open\n' + "".join(f"{n},x\n" for n in range(2, 9)) + '9,"x"\n'
    found = rows(text)
    assert found[0] == (2, None)
    assert [values for _, values in found[1:]] == [[str(n), "x"] for n in range(2, 10)]


def test_bytes_of_another_encoding_spoil_their_row_only() -> None:
    text = "a,b\n1,x\n2,Grüße\n3,y\n".encode("cp1252")
    assert rows(text) == [(2, ["1", "x"]), (3, None), (4, ["3", "y"])]
    assert rows(text, "cp1252")[1] == (3, ["2", "Grüße"])


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        (b"\n1,2\n", "utf-8", "must name the columns"),
        ("ä,b\n".encode("cp1252"), "utf-8", "name the file's encoding"),
        (b"a,b\n", "klingon", "name the file's encoding"),
        (b'"a,b\n1,2\n', "utf-8", "quotes are broken"),
    ],
)
def test_a_header_that_cannot_be_read_is_told(data: bytes, encoding: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        table(data, encoding)


def test_an_empty_table_has_no_rows() -> None:
    assert (table(b"").header, rows(b""), rows(b"a,b\n")) == ([], [], [])


_CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(st.lists(st.lists(_CELLS, min_size=2, max_size=2), max_size=6), st.sampled_from([",", ";", "\t"]))
def test_what_a_program_writes_is_what_is_read(written: list[list[str]], separator: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["a", "b"], *written])
    assert [values for _, values in rows(file.getvalue())] == [one for one in written if any(one)]


@given(
    st.lists(st.sampled_from(["1,2\n", '"\n', '"a\nb",c\n', ',"\n', "\xff\n", '""",\n', "\n", 'x"y,z\n']), max_size=12)
)
def test_whatever_a_file_holds_its_good_rows_are_read(parts: list[str]) -> None:
    data = "".join(["a,b\n", *parts]).encode("latin-1")
    found = rows(data)
    assert len(found) <= data.count(b"\n")
    numbers = [line for line, _ in found]
    assert numbers == sorted(set(numbers))


# Mails


START = b"From ada@mail.example Sun Mar  1 12:00:00 2026\n"


def mails(data: bytes, max_bytes: int = 10_000) -> list[Piece]:
    return list(mail_pieces(io.BytesIO(data), max_bytes))


def mail(number: int, body: str = "Hello\n") -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"] = f"<{number}@mail.example>"
    message["From"], message["To"], message["Subject"] = "ada@mail.example", "shop@shop.example", f"Mail {number}"
    message["Date"] = "Sun, 01 Mar 2026 12:00:00 +0000"
    message.set_content(body)
    return message


_BODY_LINES = st.sampled_from(
    ["", "Hello", "From here on", "From: ada@mail.example", ">From me", "Subject: x", "a" * 60]
)


@settings(max_examples=50)
@given(st.lists(st.lists(_BODY_LINES, max_size=6), max_size=4))
def test_what_the_standard_library_writes_is_what_is_read(bodies: list[list[str]]) -> None:
    written = [mail(number, "\n".join([*body, "end"])) for number, body in enumerate(bodies)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mbox"
        box = mailbox.mbox(path)
        for one in written:
            box.add(one)
        box.close()
        data = path.read_bytes()
    found = mails(data)
    read = [message_from_bytes(one.raw, policy=default) for one in found]
    assert [one["Message-ID"] for one in read] == [one["Message-ID"] for one in written]
    # What the library quotes loses one sign: a line that had one before loses that one (mboxo cannot tell).
    assert [one.get_content().replace(">From", "From") for one in read] == [
        one.get_content().replace(">From", "From") for one in written
    ]


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("From ada@mail.example Sun Mar  1 12:00:00 2026", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("From - Sun Mar 01 12:00:00 2026", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("From 1758@xxx Sun Mar 01 14:00:00 +0200 2026", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("From MAILER-DAEMON Sun Mar  1 12:00:00 UTC 2026\r", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ('From "Ada E." <ada@mail.example> Sun Mar  1 12:00:00 2026', datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("From ada@mail.example Sun Mar 41 12:00:00 2026", None),
        ("From ada@mail.example", None),
        ("From - ada@mail.example  Sun Mar 01 2026 12:00:00 GMT-0700", None),
    ],
)
def test_the_line_before_a_mail_says_when_it_arrived(line: str, moment: datetime | None) -> None:
    found = mails(f"{line}\nSubject: one\n\nHello\n\n{line}\nSubject: two\n\nHello\n".encode())
    assert [one.arrived_at for one in found] == [moment, moment]
    assert [one.raw for one in found] == [b"Subject: one\n\nHello\n", b"Subject: two\n\nHello\n"]


@pytest.mark.parametrize("before", [b"Dear all,\n", b"\n", b""])
def test_a_line_of_a_mail_that_begins_with_from_does_not_cut_it(before: bytes) -> None:
    text = b"Subject: one\n\n" + before + b"From now on\nwe are closed.\n\nFrom here:\nhttps://shop.example\n"
    first, second = mails(START + text + b"\n" + START + b"Subject: two\n\nx\n")
    assert first.raw == text
    assert second.raw == b"Subject: two\n\nx\n"


def test_a_mail_that_ends_with_from_is_whole() -> None:
    (found,) = mails(START + b"Subject: one\n\nFrom now on")
    assert found.raw == b"Subject: one\n\nFrom now on"


def test_mails_need_no_empty_line_between_them_and_may_end_their_lines_as_windows_does() -> None:
    data = (START + b"Subject: one\n\nx\n" + START + b"Subject: two\n\ny\n").replace(b"\n", b"\r\n")
    assert [one.raw for one in mails(data)] == [b"Subject: one\r\n\r\nx\r\n", b"Subject: two\r\n\r\ny\r\n"]


def test_of_a_large_mail_only_the_header_is_read() -> None:
    large, small = mails(START + b"Subject: one\n\n" + b"x" * 5_000 + b"\n\n" + START + b"Subject: two\n\nx\n", 2_000)
    assert large.raw == b"Subject: one\n\n"
    assert large.size_bytes is not None
    assert large.size_bytes > 5_000
    assert (small.raw, small.size_bytes) == (b"Subject: two\n\nx\n", None)


def test_a_line_of_megabytes_starts_no_mail_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "_LINE_BYTES", len(START))
    filler = b"x" * len(START)
    (found,) = mails(START + b"Subject: one\n\n" + filler + START.strip() + b"\n")
    assert found.raw.count(b"x") == len(filler) + START.count(b"x")


@pytest.mark.parametrize("data", [b'{"kind":"message"}\n', b"Subject: x\n\n" + START, b"From me\nto you\n"])
def test_what_is_no_mbox_is_told(data: bytes) -> None:
    with pytest.raises(SettingsError, match="is no mbox"):
        mails(data)


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_mbox_has_no_mails(data: bytes) -> None:
    assert mails(data) == []


# All


@pytest.mark.parametrize(
    ("name", "form"), [("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.tsv", "csv"), ("a.mbox", "mbox")]
)
def test_the_format_is_in_the_name_unless_it_is_said(name: str, form: str) -> None:
    assert format_of(Path(name), None) == form
    assert format_of(Path(name), "csv") == "csv"


def test_a_name_that_says_nothing_is_told() -> None:
    with pytest.raises(SettingsError, match="of what format"):
        format_of(Path("export.xlsx"), None)


class _Endless(io.RawIOBase):
    """A file of many lines that is made while it is read."""

    def __init__(self, line: bytes) -> None:
        self._pieces: Iterator[bytes] = repeat(line * 100, 10_000_000 // (100 * len(line)))
        self._rest = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self._rest = self._rest or next(self._pieces, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@pytest.mark.parametrize(
    ("line", "read"),
    [
        (b'{"kind":"message","text":"%s"}\n' % (b"x" * 400), json_pieces),
        (b"1,2,3,4,5,6,7,%s\n" % (b"x" * 400), lambda file: Table(file).pieces()),
        (START + b"Subject: x\n\n" + b"x" * 4_000 + b"\n\n", lambda file: mail_pieces(file, 10_000)),
    ],
)
def test_a_file_of_any_size_needs_little_memory(line: bytes, read: Callable[[Any], Iterator[Piece]]) -> None:
    file = io.BufferedReader(cast("Any", _Endless(line)))
    tracemalloc.start()
    try:
        count = sum(1 for _ in read(file))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count > 2_000
    assert peak < 2_000_000


def test_a_broken_line_says_what_is_wrong_with_it() -> None:
    with pytest.raises(PayloadError, match="written twice"):
        values_of_row('"a"b,c', ",")
