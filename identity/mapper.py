"""map-identity: the Singer inline mapper that says whose each record is, and keeps the identity graph."""

from __future__ import annotations

import base64
import gc
import io
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import IO, Any, ClassVar

from pydantic import Field, ValidationError
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from singer_sdk.mapper_base import InlineMapper
from singer_sdk.singerlib.encoding.base import GenericSingerReader, GenericSingerWriter
from singer_sdk.singerlib.encoding.simple import Message

from identity.reading import MessageLine, read_message_line
from identity.resolver import Resolver
from identity.rules import load_rules
from identity.sightings import check
from mappings.errors import MissingFieldError, OneThreadError, PayloadError, SettingsError, UnknownShapeError
from mappings.records import STREAMS, Record
from mappings.settings import PluginSettings, describe_invalid, load_settings, settings_schema
from mappings.singer import decode_line, encode_line
from stores.database import Stores
from stores.graph import Graph
from stores.parked import Parked
from stores.removals import ask_removal

RESOLVED_STREAMS = frozenset({"messages", "message_changes", "consents", "contacts", "replies", "evidence"})
"""Streams whose records are read here. All others pass untouched."""

_PART = "map-identity"


class MapIdentitySettings(PluginSettings):
    """Settings of map-identity."""

    rules_file: str | None = Field(None, description="Your own rules of who is who. Default: the packaged rules.yml")
    batch_rows: int = Field(
        500, ge=1, le=100_000, description="Decide this many records in one transaction; a STATE ends a batch early."
    )


@dataclass(slots=True)
class Line(Message):
    """A message as the line that it is written as, newline included."""

    text: bytes

    def to_dict(self) -> dict[str, Any]:
        """The message on the line."""
        message: dict[str, Any] = decode_line(self.text)
        return message


class LineWriter(GenericSingerWriter[bytes, Message]):
    """Gathers what is written until `flush`: flushing each line costs more than everything else here."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[bytes] = []

    def serialize_message(self, message: Message) -> bytes:
        """The message as one line."""
        return message.text if isinstance(message, Line) else encode_line(message.to_dict())

    def write_message(self, message: Message) -> None:
        """Take one message."""
        self._waiting.append(self.format_message(message))

    def flush(self) -> None:
        """Write everything taken so far to standard output."""
        lines, self._waiting = self._waiting, []
        self.write_lines(lines)

    @staticmethod
    def write_lines(lines: Iterable[bytes]) -> None:
        """Write whole lines to standard output, at once."""
        text = b"".join(lines)
        if not text:
            return
        if hasattr(sys.stdout, "buffer"):
            sys.stdout.buffer.write(text)
        else:
            sys.stdout.write(text.decode())
        sys.stdout.flush()


class LineReader(GenericSingerReader[str]):
    """Reads Singer messages and hands over lines that are none, instead of ending the run and logging the line."""

    default_input = sys.stdin

    def __init__(self) -> None:
        super().__init__()
        self.line = ""
        self.on_bad_line: Callable[[str, PayloadError], None] | None = None
        # Called for every message: it takes `undisturbed` itself, where it must not be stopped.
        self.on_message: Callable[[MessageLine], None] | None = None
        self._busy = False
        self._exit_code: int | None = None

    def process_lines(
        self, file_input: IO[str] | None, callbacks: dict[str, Callable[[dict[str, Any]], None]]
    ) -> Counter[str]:
        """Give each message to the callback of its type; how many there were of each type."""
        source = file_input or sys.stdin
        lines: Iterable[str | bytes] = source
        if isinstance(source, io.TextIOWrapper):
            lines = source.buffer
            if source is sys.__stdin__:  # as much at once as a pipe holds: Python itself asks again every few lines
                lines = io.BufferedReader(io.FileIO(source.fileno(), closefd=False), 64 * 1024)
        counts: Counter[str] = Counter()
        on_message = self.on_message
        for raw in lines:
            if isinstance(raw, bytes):
                if on_message is not None and (message_line := read_message_line(raw)) is not None:
                    on_message(message_line)
                    counts["RECORD"] += 1
                    continue
                line = raw.decode("utf-8", "surrogateescape")
            else:
                line = raw
            if not line.strip():
                continue
            with self.undisturbed():
                self.line = line
                try:
                    message = self.deserialize_json(line)
                    if message["type"] not in callbacks:
                        msg = "the line is a message of a type that Singer does not have"
                        raise UnknownShapeError(msg)
                    callbacks[message["type"]](message)
                    counts[message["type"]] += 1
                except PayloadError as error:
                    if self.on_bad_line is None:
                        raise
                    self.on_bad_line(line, error)
        return counts

    def deserialize_json(self, line: str) -> dict[str, Any]:
        """The message on `line`; raises `UnknownShapeError`, which says nothing of what is on it."""
        try:
            message = decode_line(line)
        except (ValueError, RecursionError) as error:
            raise UnknownShapeError(str(error)) from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            msg = "the line is not a Singer message"
            raise UnknownShapeError(msg)
        return message

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let `stop` take effect only at the end of this block."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._exit_code is not None:
            raise SystemExit(self._exit_code)

    def stop(self, exit_code: int) -> None:
        """End the run: now when waiting for input (or asked twice), else when the line in hand is done."""
        again, self._exit_code = self._exit_code is not None, exit_code
        if again or not self._busy:
            raise SystemExit(exit_code)


@dataclass(slots=True)
class _Waiting:
    """What waits for its batch: to pass as it came (`text`), or to be stamped with the person of `record`."""

    text: bytes | None
    message: dict[str, Any] | None = None
    record: Record | None = None
    parked_id: int | None = None

    def stamped(self, person_id: str | None) -> bytes:
        """The line to write, with that person where there is a place for one."""
        if self.message is None:
            return self.text or b""
        self.message["record"]["person_id"] = person_id
        return _encode(self.message)


class MapIdentity(InlineMapper):
    """Buffers records up to `batch_rows` or a STATE, decides them in one transaction, and passes them in order.

    A STATE never goes ahead of a record: what is lost with this process comes again from the tap, and coming again is
    harmless. A record that cannot be read is parked with its reason; the rest goes on.
    """

    name = _PART
    settings_model: ClassVar[type[MapIdentitySettings]] = MapIdentitySettings
    package_name = "onethread"
    config_jsonschema: ClassVar[dict[str, Any]] = settings_schema(MapIdentitySettings)
    capabilities: ClassVar[list[CapabilitiesEnum]] = [PluginCapabilities.ABOUT, PluginCapabilities.STRUCTURED_LOGGING]
    message_reader_class = LineReader
    message_writer_class = LineWriter
    message_reader: LineReader
    message_writer: LineWriter

    def __init__(
        self,
        *,
        config: dict[str, Any] | PurePath | str | list[PurePath | str] | None = None,
        parse_env_config: bool = False,
        validate_config: bool = True,
    ) -> None:
        super().__init__(config=config, parse_env_config=parse_env_config, validate_config=validate_config)
        self.message_reader.on_bad_line = self._park_line
        self.message_reader.on_message = self._take_line
        self._settings = load_settings(MapIdentitySettings, self.config, _PART)
        rules = load_rules(self._settings.rules_file)
        stores = self._stores = Stores(self._settings.state_url, self._settings.key_file)
        self._parked = Parked(stores)
        self._resolver = Resolver(Graph(stores), rules)
        if self._resolver.follow_rules():
            self.logger.info("the identity rules are new to this graph; all persons were decided anew")
        self._batch_rows = self._settings.batch_rows
        self._waiting: list[_Waiting | MessageLine] = []
        self._replays: defaultdict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        self._replayed: list[int] = []
        self._parked_count: Counter[str] = Counter()
        for item in self._parked.to_replay(_PART):
            self._replays[item.stream].append((item.parked_id, item.payload))

    @classmethod
    def invoke(cls, **options: Any) -> None:
        """Run from the command line; an error of ours is one clear line instead of a traceback."""
        tame_the_collector()
        try:
            super().invoke(**options)
        except OneThreadError as error:
            cls.logger.error("%s: %s", type(error).__name__, error)
            sys.exit(1)

    def map_schema_message(self, message_dict: dict[str, Any]) -> Iterable[Message]:
        """The message as it came, and behind it the parked records of its stream that are to be tried again."""
        self._waiting.append(_Waiting(self._text(message_dict)))
        for parked_id, payload in self._replays.pop(message_dict.get("stream", ""), []):
            self._take({"type": "RECORD", "stream": message_dict["stream"], "record": payload}, None, parked_id)
        return self._settle_when_full()

    def map_record_message(self, message_dict: dict[str, Any]) -> Iterable[Message]:
        """Nothing, until the batch is full; then the records of the batch."""
        self._take(message_dict, self._text(message_dict))
        return self._settle_when_full()

    def map_state_message(self, message_dict: dict[str, Any]) -> Iterable[Message]:
        """All records that wait, then the state."""
        text = self._text(message_dict)
        return [*map(Line, self._settle()), Line(text)]

    def map_activate_version_message(self, message_dict: dict[str, Any]) -> Iterable[Message]:
        """The message as it came, in its place."""
        self._waiting.append(_Waiting(self._text(message_dict)))
        return self._settle_when_full()

    def map_batch_message(self, message_dict: dict[str, Any]) -> Iterable[Message]:  # noqa: ARG002
        """Refused: a manifest of files has no records to decide, and passing it on would skip them."""
        msg = "map-identity does not read BATCH messages; turn batch_config off in the tap"
        raise SettingsError(msg)

    def process_endofpipe(self) -> None:
        """Decide and write what still waits."""
        with self.message_reader.undisturbed():
            self.message_writer.write_lines(self._settle())
            # Only now: a target that died would have broken the pipe before.
            if self._replayed:
                self._parked.mark_replayed(self._replayed)
        done, parked = self._resolver.tally, self._parked_count.total()
        self.logger.info(
            "decided %d records: %d new persons, %d merges, %d splits", done.records, done.persons, done.merges,
            done.splits,
        )  # fmt: skip
        if done.erased:
            self.logger.info("left out %d records of erased persons", done.erased)
        if parked:
            self.logger.warning("parked %d records or lines that could not be read", parked)

    def _write_messages(self, messages: Iterable[Message]) -> None:
        super()._write_messages(messages)
        self.message_writer.flush()

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Stop between two lines. What waits is dropped: its STATE was not passed on, so it comes again."""
        reader: LineReader | None = self.__dict__.get("message_reader")
        if reader is None:
            raise SystemExit(128 + signum)
        reader.stop(128 + signum)

    def _text(self, message: dict[str, Any]) -> bytes:
        """The line that `message` came on, or would."""
        line = self.message_reader.line
        if line:
            return line.rstrip("\r\n").encode("utf-8", "surrogateescape") + b"\n"
        return _encode(message)

    def _take(self, message: dict[str, Any], text: bytes | None, parked_id: int | None = None) -> None:
        stream, fields = message.get("stream"), message.get("record")
        if not isinstance(stream, str) or not isinstance(fields, dict):
            msg = "the line is a RECORD without stream or record"
            raise UnknownShapeError(msg)
        if stream not in RESOLVED_STREAMS:
            self._waiting.append(_Waiting(text or _encode(message)))
            return
        try:
            record = _record_from(stream, fields)
        except PayloadError as error:
            self._park(stream, fields, error)
            return
        stamped = "person_id" in type(record).model_fields
        self._waiting.append(
            _Waiting(None if stamped else text or _encode(message), message if stamped else None, record, parked_id)
        )

    def _take_line(self, line: MessageLine) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= self._batch_rows:
            with self.message_reader.undisturbed():
                self.message_writer.write_lines(self._settle())

    def _settle_when_full(self) -> Iterable[Message]:
        return map(Line, self._settle()) if len(self._waiting) >= self._batch_rows else ()

    def _settle(self) -> list[bytes]:
        """Decide everything that waits in one transaction; its lines, in their order."""
        waiting, self._waiting = self._waiting, []
        known = [item if isinstance(item, MessageLine) else item.record for item in waiting]
        records = [record for record in known if record is not None]
        persons = enumerate(self._resolver.resolve(records) if records else ())
        erased = self._resolver.erased
        lines: list[bytes] = []
        for item, record in zip(waiting, known, strict=True):
            place, person_id = next(persons) if record is not None else (-1, None)
            if place in erased:
                # Older than the erasure of whom it is about: it goes no further, and its raw bytes are to go.
                ask_removal(self._stores, filter(None, [getattr(record, "raw_ref", None)]))
            else:
                lines.append(item.stamped(person_id))
        self._replayed += [one.parked_id for one in waiting if isinstance(one, _Waiting) and one.parked_id is not None]
        return lines

    def _park(self, stream: str, fields: dict[str, Any], error: PayloadError) -> None:
        key = json.dumps(fields, sort_keys=True)
        raw_ref = fields.get("raw_ref")
        self._parked.park(
            _PART, stream, key, error, json.loads(key), raw_ref=raw_ref if isinstance(raw_ref, str) else None
        )
        self._count_parked(stream, error)

    def _park_line(self, line: str, error: PayloadError) -> None:
        raw = base64.b64encode(line.encode("utf-8", "surrogateescape")).decode()
        self._parked.park(_PART, "line", raw, error, {"base64": raw})
        self._count_parked("line", error)

    def _count_parked(self, stream: str, error: PayloadError) -> None:
        self._parked_count[stream] += 1
        if self._parked_count[stream] == 1:
            self.logger.warning("parked the first of %s: %s: %s", stream, type(error).__name__, error)


def tame_the_collector() -> None:
    """Let the garbage collector look less often: what is made here lives for one batch, and looking is a fifth of all.

    Only a process of its own should do so.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(500_000, 20, 100)


def _record_from(stream: str, fields: dict[str, Any]) -> Record:
    """The record; raises `PayloadError`, which names fields and never their values."""
    try:
        record = STREAMS[stream].model_validate(
            {name: value for name, value in fields.items() if not name.startswith("_sdc_")}
        )
    except ValidationError as error:
        missing = any(one["type"] == "missing" for one in error.errors())
        raise (MissingFieldError if missing else PayloadError)(describe_invalid(error, f"{_PART} {stream}")) from None
    except OverflowError:
        msg = f"{_PART} {stream}: a time is outside the calendar"
        raise PayloadError(msg) from None
    check(record)
    return record


def _encode(message: dict[str, Any]) -> bytes:
    try:
        return encode_line(message)
    except OverflowError:  # whole numbers beyond 64 bits, which JSON has and msgspec does not write
        return json.dumps(message, ensure_ascii=False).encode() + b"\n"
