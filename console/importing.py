"""`onethread import`: files into the archive, through the same tap, mapper and target as everything else.

They run one after the other in this process, a few thousand records at a time, so that a file of any size fits. No
bookmark is kept between two runs: a file that is read again doubles nothing, because its messages have the same keys.
"""

from __future__ import annotations

import base64
import contextlib
import io
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from types import FrameType
from typing import Any

from console.run import EXIT_PARKED
from identity.mapper import MapIdentity
from mappings.errors import PayloadError, SettingsError
from mappings.records import Message, Record
from stores.database import Stores
from stores.parked import Parked
from taps.base import Checkpoint
from taps.importing import TapImport
from targets.archive import TargetArchive

AT_A_TIME = 4_000
MOST_PROBLEMS = 20
_SAY_EVERY = 20_000

Say = Callable[[str], None]


class _InParts(TapImport):
    """A tap whose every sync goes on where the last one stopped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.finished = False
        self._reading: Iterator[Record | Checkpoint] | None = None

    def read(self) -> Iterator[Record | Checkpoint]:
        """The next part."""
        self._reading = self._reading or super().read()
        taken = 0
        for item in islice(self._reading, AT_A_TIME):
            taken += 1
            yield item
        self.finished = taken < AT_A_TIME


def import_files(stores: Stores, config: dict[str, Any], say: Say) -> int:
    """Read the files of `config` (see `taps.importing.ImportSettings`) into the archive; the exit code for the shell.

    Returns:
        0 done; 3 done, and something was parked.
    """
    with _own_signals():
        tap = _InParts(config=config)
        tap.__dict__["stores"] = stores
        place = str(stores.folder)
        mapper, target = MapIdentity(config={"state_url": place}), TargetArchive(config={"state_url": place})
        target.__dict__["stores"] = stores
    said = 0
    while not tap.finished:
        lines = _output_of(tap.sync_all)
        lines = _output_of(partial(mapper.listen, io.StringIO(lines)))
        _output_of(partial(target.listen, io.StringIO(lines)))
        if tap.pieces_read - said >= _SAY_EVERY:
            said = tap.pieces_read
            say(f"{said:,} read")
    _mark_replayed(stores, int(tap.cursor.get("replayed", 0)))
    say(f"{tap.pieces_read:,} read: {_counted(tap.emitted)}; new or changed in the archive: {_changed(target.counts)}")
    if not tap.parked_pieces:
        return 0
    say(f"{tap.parked_pieces:,} parked, with file, line and reason; see `onethread parked`")
    return EXIT_PARKED


def look_at_files(config: dict[str, Any], say: Say) -> int:
    """Say what an import of these files would give, and the first problems; nothing is written. 1 with problems."""
    with _own_signals():
        tap = TapImport(config=config)
    counts: dict[str, Counter[str]] = {}
    problems: list[PayloadError] = []
    wrong = 0
    for path, _, outcome in tap.look():
        of_file = counts.setdefault(path.name, Counter())
        if isinstance(outcome, PayloadError):
            wrong += 1
            of_file["lines or mails that cannot be read"] += 1
            problems += [outcome] if len(problems) < MOST_PROBLEMS else []
        else:
            of_file.update(_name_of(record) for record in outcome)
    for name, of_file in counts.items():
        say(f"{name}: {_counted(of_file)}")
    if not counts:
        say("nothing to read")
    for problem in problems:
        say(f"  {problem}")
    if wrong > len(problems):
        say(f"  and {wrong - len(problems):,} more")
    return 1 if wrong else 0


def columns_of(given: Sequence[str]) -> dict[str, str]:
    """``COLUMN=FIELD`` arguments as column -> field; the last sign of equality counts, for a column may have one."""
    pairs = [one.rpartition("=") for one in given]
    wrong = [one for one, (column, _, field) in zip(given, pairs, strict=True) if not column or not field]
    if wrong:
        msg = f"--map {wrong[0]}: write it as COLUMN=FIELD; FIELD is - to leave the column out"
        raise SettingsError(msg)
    return {column: field for column, _, field in pairs}


def new_secret() -> str:
    """A secret as Standard Webhooks has it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _name_of(record: Record) -> str:
    return f"messages of kind {record.kind}" if isinstance(record, Message) else record.stream


def _counted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(counts.items()) if number) or "nothing"


def _changed(counts: dict[str, int]) -> str:
    streams = (model.stream for model in TapImport.record_models)
    return _counted({stream: counts.get(f"{stream} changed", 0) for stream in streams})


def _output_of(run: Callable[[], None]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run()
    return output.getvalue()


def _mark_replayed(stores: Stores, last: int) -> None:
    """What was asked for again is through: the whole pipe has ended."""
    parked = Parked(stores)
    rows = parked.to_replay(TapImport.name)
    parked.mark_replayed([row.parked_id for row in rows if (row.replay_sequence or 0) <= last])


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Plugins take the signals of the process for themselves when they are made; here they would stop half a pipe."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        with contextlib.suppress(ValueError):  # another thread than the main one has no signals
            signal.signal(number, _end if handler == signal.SIG_DFL else handler)


def _end(signum: int, frame: FrameType | None) -> None:
    """Between two lines: a transaction that is under way is rolled back, and reading it again doubles nothing."""
    del frame
    sys.exit(128 + signum)
