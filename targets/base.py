"""What every target shares.

Traps of the SDK that this closes: STATE only at the end or every five minutes (here: after N rows or T seconds, at a
STATE); sinks drained in parallel and in no order (here: one after the other, in schema order); a SIGTERM that reports
rows as written that were not; jsonschema on every record (80 % of a target's time; here the record is parsed once, by
its pydantic model); one bad record that ends the run (here it is parked).

A target of a CRM carries out the erasure of a person when a `person_changes` record with ``change: erase`` comes. For
each of its `from_person_ids` it deletes the records that it made (`Ledger.messages_of_person`), for good where the CRM
can, deletes the contact if it made that itself (`LedgerContact.projection`) and no other person has it, and else
empties its own fields there and leaves the rest, which is people's. It forgets the rows (`Ledger.erase_messages`,
`forget_contact`, `forget_record`). When all is done, and not before, it files its receipt with
`Ledger.mark_carried_out(sequence, counts)`, in which `counts` says what was removed; until then the erasure is open
(`onethread identity erasures`). Coming again is harmless; what fails raises, and is parked and replayed. By then the
ledger holds nothing of the person but ids of records: no handle, no text, no marks of values (`LedgerContact.written`
has names of fields alone).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import Field, ValidationError
from singer_sdk import Target
from singer_sdk.helpers.capabilities import PluginCapabilities
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.sinks import BatchSink, Sink

from mappings.errors import MissingFieldError, OneThreadError
from mappings.records import Record
from mappings.settings import PluginSettings, describe_invalid, load_settings, settings_schema
from mappings.singer import decode_line
from stores.database import Stores
from stores.parked import Parked


class TargetSettings(PluginSettings):
    """What every target of ours takes."""

    drain_rows: int = Field(500, ge=1, description="Write out, and so save state, after this many records.")
    drain_seconds: float = Field(2.0, ge=0, description="Write out, and so save state, after this many seconds.")


SettingsModel = TypeVar("SettingsModel", bound=TargetSettings)
RecordModel = TypeVar("RecordModel", bound=Record)


class LineReader(GenericSingerReader[str]):
    """Reads Singer lines with msgspec; an unreadable line is named by its length, never shown."""

    default_input = sys.stdin

    def deserialize_json(self, line: str) -> dict[str, Any]:
        """One line as a message."""
        from singer_sdk.singerlib.exceptions import InvalidInputLine

        try:
            message: dict[str, Any] = decode_line(line)
        except ValueError as error:
            raise InvalidInputLine(str(error)) from None
        return message


class OneThreadTarget(Target, Generic[SettingsModel]):
    """Base of all targets. A subclass names its settings and a sink class for each stream that it takes."""

    package_name = "onethread"
    settings_model: ClassVar[type[TargetSettings]] = TargetSettings
    sink_classes: ClassVar[dict[str, type[Sink]]] = {}
    message_reader_class = LineReader
    capabilities: ClassVar[list[Any]] = [PluginCapabilities.ABOUT, PluginCapabilities.STRUCTURED_LOGGING]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "settings_model" in cls.__dict__:
            cls.config_jsonschema = settings_schema(cls.settings_model)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_parallelism = 1
        self.counts: dict[str, int] = {}
        self._pending_rows = 0
        self._busy = False
        self._stop_signal: int | None = None

    # What a subclass uses

    @cached_property
    def settings(self) -> SettingsModel:
        """The target's settings; raises `SettingsError` that names each wrong field."""
        return load_settings(self.settings_model, self.config, self.name)  # type: ignore[return-value]

    @cached_property
    def stores(self) -> Stores:
        """The stores behind `state_url`."""
        return Stores(self.settings.state_url, self.settings.key_file)

    def count(self, what: str, number: int = 1) -> None:
        """Add to the summary that is logged at the end (``messages written``, ``parked``)."""
        self.counts[what] = self.counts.get(what, 0) + number

    def park(self, stream: str, key: str, error: Exception, record: Any, raw_ref: str | None = None) -> None:
        """Put aside one record that could not be written, with the reason; the rest goes on."""
        self.logger.warning("parked one of %s (%s): %s", stream, type(error).__name__, error)
        Parked(self.stores).park(self.name, stream, key, error, record, raw_ref)
        self.count("parked")

    # How the SDK drives it

    @classmethod
    def invoke(cls, **options: Any) -> None:
        """Run from the command line; an error of ours is one clear line instead of a traceback."""
        try:
            super().invoke(**options)
        except OneThreadError as error:
            cls.logger.error("%s: %s", type(error).__name__, error)
            sys.exit(1)

    def get_sink_class(self, stream_name: str) -> type[Sink]:
        """The sink of a stream; streams that this target has no use for are read and left."""
        return self.sink_classes.get(stream_name, UnusedStreamSink)

    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        self._pending_rows += 1
        super()._process_record_message(message_dict)

    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        super()._process_state_message(message_dict)
        elapsed = time.time() - self._last_full_drain_at
        if self._pending_rows and (
            self._pending_rows >= self.settings.drain_rows or elapsed >= self.settings.drain_seconds
        ):
            self.drain_all()

    def _drain_all(self, sink_list: Any, parallelism: int) -> None:
        """Drain in order; a signal that arrives meanwhile waits until what is being written is written."""
        with self.uninterrupted():
            super()._drain_all(sink_list, parallelism)

    @contextmanager
    def uninterrupted(self) -> Iterator[None]:
        """While this is held, a termination signal is only noted."""
        was_busy, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = was_busy

    def _write_state_message(self, state: dict[str, Any]) -> None:
        """Called by the SDK when everything before `state` has been written or parked."""
        self._pending_rows = 0
        super()._write_state_message(state)
        self._stop_if_asked()

    def process_endofpipe(self) -> None:
        """Write what is left, replay what was asked for, and say what was done."""
        super().process_endofpipe()
        for sink in self._sinks_active.values():
            if isinstance(sink, CanonicalSink):
                sink.replay_parked()
        self.logger.info("done: %s", ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items())) or "nothing")

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """Never drain from inside a drain: it would report rows as written that were not. Stop, state unmoved."""
        del frame
        self._stop_signal = signum
        if not self._busy:
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._stop_signal is not None:
            self.logger.info("signal %d: stopped; what is not covered by the state comes again", self._stop_signal)
            sys.exit(128 + self._stop_signal)


class CanonicalSink(BatchSink, Generic[RecordModel]):
    """A sink of one canonical stream: records arrive parsed, bad ones are parked, `write` gets the rest in batches.

    Records that were parked and whose replay was asked for are written at the end of the pipe.
    """

    record_model: ClassVar[type[Record]]
    MAX_SIZE_DEFAULT = 5_000

    def __init__(
        self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        if not isinstance(target, OneThreadTarget):
            msg = f"{type(self).__name__} belongs to a OneThreadTarget"
            raise TypeError(msg)
        self.target: OneThreadTarget[Any] = target

    def get_validator(self) -> None:
        """None: the record's own model validates it, once."""
        return

    def _validate_and_parse(self, record: dict[str, Any]) -> dict[str, Any]:
        return record

    def _singer_validate_message(self, record: dict[str, Any]) -> None:
        """A missing key is found by the record's model, which parks the record instead of ending the run."""

    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        """Parse one record; park it if it is not what its stream promises."""
        parsed = self.parse(record)
        if parsed is not None:
            context.setdefault("records", []).append(parsed)

    def process_batch(self, context: dict[str, Any]) -> None:
        """Hand the batch to `write`. An exception ends the run with the state of the last complete drain."""
        records: list[RecordModel] = context.get("records", [])
        if records:
            with self.target.uninterrupted():
                self.write(records)

    def replay_parked(self) -> None:
        """Write the records of this stream whose replay was asked for; one that fails again is parked again."""
        parked = Parked(self.target.stores)
        waiting = list(parked.to_replay(self.target.name, stream=self.stream_name))
        records = [record for item in waiting if (record := self.parse(item.payload)) is not None]
        if records:
            with self.target.uninterrupted():
                self.write([self.renew(record) for record in records])
        parked.mark_replayed([item.parked_id for item in waiting])

    def renew(self, record: RecordModel) -> RecordModel:
        """What is written in the place of a record that was parked: itself, unless it may be out of date by now."""
        return record

    def _after_process_record(self, context: dict[str, Any]) -> None:
        """Nothing: the SDK would put whole records into its debug log."""

    def write(self, records: list[RecordModel]) -> None:
        """Write a batch. Each record is written, parked by `park`, or the method raises."""
        raise NotImplementedError

    def park(self, record: RecordModel, error: Exception) -> None:
        """Put one record aside with the reason."""
        key = "|".join(str(getattr(record, name)) for name in record.key_properties)
        raw_ref = getattr(record, "raw_ref", None)
        self.target.park(self.stream_name, key, error, record.model_dump(mode="json"), raw_ref)

    def parse(self, record: dict[str, Any]) -> RecordModel | None:
        """The record as its model; ``None`` when it was parked. Fields of other connectors (``_sdc_*``) are dropped."""
        own = {name: value for name, value in record.items() if not name.startswith("_sdc_")}
        try:
            return self.record_model.model_validate(own)  # type: ignore[return-value]
        except ValidationError as error:
            reason = MissingFieldError(describe_invalid(error, f"{self.target.name} {self.stream_name}"))
            key = "|".join(str(record.get(name)) for name in self.record_model.key_properties)
            self.target.park(self.stream_name, key, reason, record, record.get("raw_ref"))
            return None


class UnusedStreamSink(BatchSink):
    """Takes a stream that the target has no use for: counted, named once, not stored."""

    def __init__(
        self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None
    ) -> None:
        super().__init__(target, stream_name, schema, key_properties)
        self.target = target

    def get_validator(self) -> None:
        """None: what is not used need not be valid."""
        return

    def setup(self) -> None:
        """Say once that the stream is not used."""
        super().setup()
        self.logger.info("stream %r is not used by %s", self.stream_name, self.target.name)

    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        """Count it."""
        del record, context
        if isinstance(self.target, OneThreadTarget):
            self.target.count(f"{self.stream_name} not used")

    def process_batch(self, context: dict[str, Any]) -> None:
        """Nothing to write."""
