"""What every tap shares.

A tap of ours is one generator, `OneThreadTap.read`, over everything it reads, in order. It yields canonical records of
any of its streams and, between them, a `Checkpoint`: "all before this is emitted, resume from here". The SDK would
read stream after stream; we must not, because one delivery holds records of several streams and a followed inbox never
ends. So the tap has one cursor, in ``bookmarks.cursor``, and a child stream's quadratic state cannot arise.

Traps of the SDK that this closes: a flush per line; an empty final STATE that wipes a bookmark; response bodies and
URLs with tokens in errors; Retry-After ignored; SIGTERM with exit code 0.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Generic, TypeVar

import backoff
import requests
from pydantic import SecretStr
from singer_sdk import Stream, Tap
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from singer_sdk.singerlib import Message as SingerMessage
from singer_sdk.singerlib.encoding.base import GenericSingerWriter

from mappings.errors import MissingFieldError, OneThreadError, RateLimitedError, SettingsError, UnavailableError
from mappings.http import error_for_status, http_date, redact, retry_after_seconds
from mappings.keywords import DEFAULT_KEYWORDS, Keywords, parse_keywords
from mappings.records import Record
from mappings.schema import singer_schema
from mappings.settings import PluginSettings, load_settings, settings_schema
from mappings.singer import encode_line
from stores.database import Stores
from stores.parked import Parked, ParkedItem

_FLUSH_BYTES = 256 * 1024
_STATE_EVERY_RECORDS = 1_000
_STATE_EVERY_SECONDS = 1.0
_TELL_EVERY_SECONDS = 30.0
CLOCK_SKEW = timedelta(minutes=1)
"""More than that is worth a word: deliveries whose signed time is five minutes off are refused."""

SettingsModel = TypeVar("SettingsModel", bound=PluginSettings)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything yielded before is complete; a later run that starts with `cursor` continues after it.

    `cursor` is merged into the tap's cursor, key by key. `heartbeat` forces the STATE out now, even unchanged: a
    followed pipe uses it so that the target notices time passing.
    """

    cursor: dict[str, Any]
    heartbeat: bool = False


class BufferedWriter(GenericSingerWriter[bytes, SingerMessage]):
    """Collects lines and writes them in large pieces; every STATE is pushed out at once, after what precedes it."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()

    def serialize_message(self, message: SingerMessage) -> bytes:
        """The message as one line."""
        return encode_line(message.to_dict())

    def write_message(self, message: SingerMessage) -> None:
        """Add one message; a STATE flushes."""
        self._buffer += self.format_message(message)
        if message.type == "STATE" or len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def write_record(self, stream: str, record: dict[str, Any]) -> None:
        """Add one RECORD without building a message object."""
        self._buffer += encode_line({"type": "RECORD", "stream": stream, "record": record})
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write everything collected to standard output."""
        if not self._buffer:
            return
        data = bytes(self._buffer)
        self._buffer.clear()
        raw = getattr(sys.stdout, "buffer", None)
        if raw is None:  # a test's StringIO
            sys.stdout.write(data.decode())
        else:
            raw.write(data)
        sys.stdout.flush()


class RecordStream(Stream):
    """A stream whose schema, name and key come from a canonical record; its records come from the tap's `read`."""

    record_model: ClassVar[type[Record]]

    def get_records(self, context: Mapping[str, Any] | None) -> Iterable[dict[str, Any]]:
        """This stream's share of what the tap reads (the SDK's dry run asks for it; a sync does not)."""
        del context
        tap = self._tap
        if not isinstance(tap, OneThreadTap):  # only such taps make these streams
            return
        for item in tap.read():
            if isinstance(item, Record) and item.stream == self.name:
                yield item.model_dump(mode="json")


def stream_class(model: type[Record]) -> type[RecordStream]:
    """The stream of a record model."""
    return type(
        f"{model.__name__}Stream",
        (RecordStream,),
        {
            "__doc__": model.__doc__,
            "record_model": model,
            "name": model.stream,
            "schema": singer_schema(model),
            "primary_keys": model.key_properties,
            "replication_key": None,
        },
    )


class OneThreadTap(Tap, Generic[SettingsModel]):
    """Base of all taps. A subclass names its settings and records, and writes `read`."""

    package_name = "onethread"
    settings_model: ClassVar[type[PluginSettings]]
    record_models: ClassVar[tuple[type[Record], ...]]
    message_writer_class = BufferedWriter
    capabilities: ClassVar[list[Any]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "settings_model" in cls.__dict__:
            cls.config_jsonschema = settings_schema(cls.settings_model)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop_requested = False
        self.emitted: dict[str, int] = {}
        self.share_read: float | None = None
        """How much of what this run has to read is read, from 0 to 1, where a subclass can tell; for the log."""

    # What a subclass uses

    @cached_property
    def settings(self) -> SettingsModel:
        """The tap's settings; raises `SettingsError` that names each wrong field."""
        return load_settings(self.settings_model, self.config, self.name)  # type: ignore[return-value]

    @cached_property
    def stores(self) -> Stores:
        """The stores behind `state_url`."""
        return Stores(self.settings.state_url, self.settings.key_file)

    @property
    def cursor(self) -> dict[str, Any]:
        """Where the last run ended: the merged checkpoints, empty at first."""
        bookmarks: dict[str, dict[str, Any]] = self.state.get("bookmarks", {})
        return dict(bookmarks.get("cursor", {}))

    @property
    def stop_requested(self) -> bool:
        """Whether a termination signal came: `read` should yield a checkpoint soon and return."""
        return self._stop_requested

    @property
    def selected_streams(self) -> set[str]:
        """The names of the streams that the catalog selects."""
        return {name for name, stream in self.streams.items() if stream.selected}

    def read(self) -> Iterator[Record | Checkpoint]:
        """Everything since `cursor`, in order; the only method that a tap must write."""
        raise NotImplementedError

    def check(self) -> Iterator[Check]:
        """What ``onethread doctor`` wants to know of this account; asks the platform, changes nothing."""
        yield Check("settings", ok=True, detail=f"{type(self.settings).__name__} is complete")

    def park(self, stream: str, key: str, error: Exception, payload: Any, raw_ref: str | None = None) -> None:
        """Put aside what could not be understood, with the reason; the rest goes on."""
        self.logger.warning("parked one %s (%s): %s", stream, type(error).__name__, error)
        Parked(self.stores).park(self.name, stream, key, error, payload, raw_ref)

    def replay(
        self, account: tuple[str, str] | str, map_again: Callable[[ParkedItem], Iterable[Record]]
    ) -> Iterator[Record | Checkpoint]:
        """Map again what was parked and asked for (``onethread parked replay``).

        A row is marked as replayed by the next run, when the bookmark shows that the target has taken its records.

        Args:
            account: by what this tap knows what it parked itself: name and value of a field of the payload, or how its
                references to raw records begin; of these only the selected streams are mapped.
            map_again: the records of one row; it parks what cannot be mapped again.
        """
        parked = Parked(self.stores)
        done = int(self.cursor.get("replayed", 0))
        confirmed: list[int] = []
        for row in parked.to_replay(self.name):
            if isinstance(account, str):
                ours = row.stream in self.selected_streams and (row.raw_ref or "").startswith(account)
            else:
                ours = row.payload.get(account[0]) == account[1]
            if not ours:
                continue
            sequence = row.replay_sequence or 0
            if sequence <= done:
                confirmed.append(row.parked_id)
                continue
            yield from map_again(row)
            yield Checkpoint({"replayed": sequence})
        parked.mark_replayed(confirmed)

    # How the SDK drives it

    @classmethod
    def invoke(cls, **options: Any) -> None:
        """Run from the command line; an error of ours is one clear line instead of a traceback."""
        try:
            super().invoke(**options)
        except OneThreadError as error:
            cls.logger.error("%s: %s", type(error).__name__, error)
            sys.exit(1)

    def discover_streams(self) -> Sequence[Stream]:
        """One stream for each record model."""
        return [stream_class(model)(self) for model in self.record_models]

    def sync_all(self) -> None:  # type: ignore[misc]  # final in the SDK, for its stream-by-stream order; see above
        """Emit all that `read` yields: schemas first, then records, a STATE at checkpoints."""
        streams = {name: stream for name, stream in self.streams.items() if stream.selected}
        for stream in streams.values():
            stream._write_schema_message()
        whole = {name for name, stream in streams.items() if all(stream.mask.values())}
        progress = _Progress()
        pace = _Pace()
        completed = False
        try:
            for item in self.read():
                if isinstance(item, Checkpoint):
                    self._merge(item.cursor)
                    if item.heartbeat or progress.state_is_due():
                        self._write_state(force=item.heartbeat)
                        progress.restart()
                        if told := pace.told(self.share_read):
                            self.logger.info("%s", told)
                elif item.stream in streams:
                    record = item.model_dump(mode="json")
                    if item.stream in whole:
                        self._writer.write_record(item.stream, record)
                    else:
                        streams[item.stream]._write_record_message(record)
                    self.emitted[item.stream] = self.emitted.get(item.stream, 0) + 1
                    progress.records += 1
                    pace.records += 1
            completed = True
        finally:
            # After a failure the last checkpoint still holds: what it covers was emitted before it.
            self._write_state(force=False)
            self._writer.flush()
            self.logger.info("emitted %s", self.emitted or "nothing")
        if completed and self._stop_requested:
            sys.exit(143)

    @property
    def _writer(self) -> BufferedWriter:
        writer = self.message_writer
        if not isinstance(writer, BufferedWriter):
            msg = f"{self.name} needs a BufferedWriter, not {type(writer).__name__}"
            raise TypeError(msg)
        return writer

    def _merge(self, cursor: dict[str, Any]) -> None:
        self.state.setdefault("bookmarks", {}).setdefault("cursor", {}).update(cursor)

    def _write_state(self, *, force: bool) -> None:
        """Write the STATE if it says something: an empty one would wipe the bookmark of the last run."""
        if not self.cursor:
            return
        if force:
            self.state_writer._last_emitted_state = None
        self.state_writer.write_state(self.state)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """First signal: finish what is being read, then stop with a true STATE. Second: stop at once."""
        del frame
        if self._stop_requested:
            sys.exit(128 + signum)
        self.logger.info("signal %d: stopping at the next checkpoint", signum)
        self._stop_requested = True


@dataclass(slots=True)
class _Progress:
    """How much was emitted since the last STATE."""

    records: int = 0
    since: float = field(default_factory=time.monotonic)

    def state_is_due(self) -> bool:
        return self.records >= _STATE_EVERY_RECORDS or time.monotonic() - self.since >= _STATE_EVERY_SECONDS

    def restart(self) -> None:
        self.records = 0
        self.since = time.monotonic()


@dataclass(slots=True)
class _Pace:
    """How fast a long run goes. A pipe goes as fast as its slowest part, so the tap's pace is that of the whole."""

    records: int = 0
    started: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def told(self, share: float | None) -> str | None:
        """A line for the log, from time to time: records, records a second, and how long it will still take."""
        now = time.monotonic()
        if now - self.last < _TELL_EVERY_SECONDS:
            return None
        self.last = now
        seconds = now - self.started
        text = f"{self.records:,} records so far, {self.records / seconds:,.0f} a second"
        if share is None or not 0 < share < 1:
            return text
        return f"{text}; {share:.0%} read, about {duration(seconds * (1 - share) / share)} to go"


def duration(seconds: float) -> str:
    """Roughly, in words: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that ``onethread doctor`` looked at.

    Attributes:
        what: e.g. ``access token``.
        ok: ``None`` says that it cannot be told (the platform does not say).
        detail: what was found, e.g. ``valid until 2026-12-01``; never a secret.
        fix: what to do when it is not ok.
    """

    what: str
    ok: bool | None
    detail: str
    fix: str = ""


def read_keywords(path: str | None, tap_name: str) -> Keywords:
    """The opt-out and opt-in words in force: those of the file, or the packaged ones; raises `SettingsError`."""
    if path is None:
        return DEFAULT_KEYWORDS
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        msg = f"{tap_name}: keywords_file cannot be read ({type(error).__name__})"
        raise SettingsError(msg) from None
    return parse_keywords(text)


class HttpSession:
    """JSON from one platform: a timeout on every call, Retry-After honoured, bounded retries, redacted errors.

    Only for calls that may be repeated (reading): every call is tried again when the answer is lost.

    Args:
        platform: display name for errors.
        base_url: scheme and host, no trailing slash.
        headers: sent with every request.
        auth: user and password for Basic authentication.
        secrets: values that must never be seen in an error.
        max_seconds: give up retrying after that long; a platform that asks for a longer wait ends the run's polling.

    Attributes:
        budget: what `budget_of` said of the last answer that said anything.
        answered_at: the platform's clock at its last answer.
    """

    def __init__(
        self,
        platform: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        secrets: Iterable[SecretStr] = (),
        timeout_seconds: float = 30,
        max_tries: int = 5,
        max_seconds: float = 120,
    ) -> None:
        self.platform = platform
        self._base_url = base_url.rstrip("/")
        self._secrets = [secret.get_secret_value() for secret in secrets]
        self._timeout_seconds = timeout_seconds
        self._session = requests.Session()
        self._session.headers.update(headers or {})
        self._session.auth = auth
        self.budget: str | None = None
        self.answered_at: datetime | None = None
        self._fetch = backoff.on_exception(
            backoff.runtime,
            (RateLimitedError, UnavailableError),
            value=_WaitSeconds(),
            jitter=None,
            giveup=lambda error: (getattr(error, "retry_after_seconds", None) or 0) > max_seconds,
            max_tries=max_tries,
            max_time=max_seconds,
            logger=logging.getLogger(__name__),
        )(self._fetch_once)

    def fetch_json(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer of ``GET path``; `path` may be a whole next-page URL of the same host.

        Raises:
            OneThreadError: by status, see `mappings.http.error_for_status`; after the last retry too.
        """
        return self._fetch("GET", path, parameters, {})

    def call_json(self, method: str, path: str, parameters: Mapping[str, Any] | None = None, **body: Any) -> Any:
        """The same for another method; `body` is ``json=`` or ``data=`` of requests."""
        return self._fetch(method, path, parameters, body)

    def check_answer(self, endpoint: str, body: Any) -> None:
        """Raise the error of a 2xx answer that is none; platforms that answer 200 to everything override this."""

    def budget_of(self, headers: Mapping[str, str]) -> str | None:
        """What is left of the platform's rate limit, for the log, e.g. ``13 of 15 until 14:45 UTC``."""
        del headers
        return None

    def check_clock(self, now: datetime | None = None) -> Check:
        """How far this machine's clock is from the platform's; to be asked after a call."""
        if self.answered_at is None:
            return Check("clock", ok=None, detail=f"{self.platform} told no time")
        skew = abs((now or datetime.now(UTC)) - self.answered_at)
        fix = "" if skew <= CLOCK_SKEW else "set the clock (NTP)"
        return Check("clock", not fix, f"{skew.total_seconds():.0f} s apart from {self.platform}'s", fix)

    def error_code(self, body: Any) -> str | None:
        """The platform's own error code in an error body; Graph's ``error.code`` by default."""
        error = body.get("error") if isinstance(body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        return None if code is None else str(code)

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """The error for an answer; a platform with codes of its own overrides this."""
        code = self.error_code(body)
        return error_for_status(self.platform, endpoint, status, retry_after=retry_after, code=code)

    def _fetch_once(self, method: str, path: str, parameters: Mapping[str, Any] | None, body: Mapping[str, Any]) -> Any:
        url = path if path.startswith(f"{self._base_url}/") else f"{self._base_url}/{path.lstrip('/')}"
        endpoint = f"{method} {url.removeprefix(self._base_url).partition('?')[0]}"
        try:
            response = self._session.request(method, url, params=parameters, timeout=self._timeout_seconds, **body)
        except requests.RequestException as error:
            msg = f"{self.platform}: {endpoint} did not answer ({type(error).__name__}); trying again later"
            raise UnavailableError(redact(msg, self._secrets)) from None
        self.answered_at = http_date(response.headers.get("Date"))
        self.budget = self.budget_of(response.headers) or self.budget
        endpoint = redact(endpoint, self._secrets)
        try:
            answer = response.json()
        except ValueError:
            answer = None
            if response.status_code < 400:
                msg = f"{self.platform}: {endpoint} answered {response.status_code} without JSON"
                raise MissingFieldError(msg) from None
        if response.status_code < 400:
            self.check_answer(endpoint, answer)
            return answer
        wait = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
        raise self.classify(endpoint, response.status_code, answer, wait)


class _WaitSeconds:
    """How long to wait before the next try: what the platform said, else 1, 2, 4 ... seconds, at most 60."""

    def __init__(self) -> None:
        self._tries = 0

    def __call__(self, error: Exception) -> float:
        asked = getattr(error, "retry_after_seconds", None)
        if asked is not None:
            return float(asked)
        self._tries = min(self._tries + 1, 7)
        return float(min(2 ** (self._tries - 1), 60))
