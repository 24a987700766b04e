"""The committer: one thread, one connection, that commits everything waiting in one transaction.

A commit costs a flush to disk, whether it holds one row or a thousand. Requests that arrive while one commit runs
share the next one, so that durability costs next to nothing under load and a lone request waits for its own flush
only. No lingering: waiting 1 to 3 ms for company gave no consistent gain (measured).
"""

from __future__ import annotations

import logging
import queue
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from mappings.errors import UnavailableError
from stores.deliveries import Deliveries, DeliveryRow
from taps.webhooks.metrics import Metrics

log = logging.getLogger("onethread.receiver")

MAX_BATCH_ROWS = 1_000
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_WAITING_ROWS = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
STALLED_SECONDS = 5.0
_DISK_CHECK_SECONDS = 1.0
_REST_SECONDS = 60.0
"""After a failure of the housekeeping."""


Done = Callable[[str | None], None]
"""Is told ``None`` once the row is on disk, or why it is not known to be."""


class _DiskUsage(Protocol):
    @property
    def total(self) -> int: ...
    @property
    def free(self) -> int: ...


class Committer:
    """Commits rows.

    Args:
        deliveries: the writer; nobody else may use it meanwhile.
        folder: where the free space is watched.
        minimum_free_bytes: with less than this, nothing is taken: a full disk must not be found out by SQLite.
        minimum_free_percent: the same, as a share of the disk.
        on_delivery: called in the committer's thread after a commit that stored something new.
        disk_usage: free and total bytes of the disk that holds a folder.
        metrics: where commits are counted.
        housekeeping: called in the committer's thread between commits, first at once; says in how many seconds again.

    Attributes:
        broken: why nothing will be committed any more; ``None`` while all is well.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        folder: Path,
        *,
        minimum_free_bytes: int,
        minimum_free_percent: float,
        on_delivery: Callable[[], None] | None = None,
        disk_usage: Callable[[Path], _DiskUsage] = shutil.disk_usage,
        metrics: Metrics | None = None,
        housekeeping: Callable[[], float] | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._folder = folder
        self._minimum_free_bytes = minimum_free_bytes
        self._minimum_free_percent = minimum_free_percent
        self._on_delivery = on_delivery
        self._disk_usage = disk_usage
        self._metrics = metrics or Metrics()
        self._metrics.watch(
            waiting=self._waiting_rows, disk_free_bytes=self._disk_free_bytes, log_bytes=deliveries.log_bytes
        )
        self._housekeeping = housekeeping
        self._housekeeping_due_at = float("-inf") if housekeeping else float("inf")
        self._disk_is_low = False
        self._disk_checked_at = float("-inf")
        self._call_soon: Callable[[Callable[[], None]], object] = lambda call: call()
        self._on_broken: Callable[[], None] = lambda: None
        self.broken: str | None = None
        self._waiting: queue.SimpleQueue[tuple[DeliveryRow, Done] | None] = queue.SimpleQueue()
        # What is held is the difference: each has one thread that writes it, so neither needs a lock.
        self._taken_bytes = self._settled_bytes = 0
        self._batch_began_at: float | None = None
        self._closing = self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def tell(self, call_soon: Callable[[Callable[[], None]], object], on_broken: Callable[[], None]) -> None:
        """Say how those who wait are called back, once for a whole commit, and what to do when all is over."""
        self._call_soon, self._on_broken = call_soon, on_broken

    def check(self) -> None:
        """Nothing, when a row would be committed soon.

        Raises:
            UnavailableError: it would not; the message says why, for ``/ready`` and the log.
        """
        if self.broken:
            raise UnavailableError(self.broken)
        if self._closing:
            msg = "the receiver is stopping"
            raise UnavailableError(msg)
        began_at = self._batch_began_at
        if self._has_ended or (began_at is not None and time.monotonic() - began_at > STALLED_SECONDS):
            msg = f"a commit has not come back for {STALLED_SECONDS:.0f} s"
            raise UnavailableError(msg)
        if self._waiting.qsize() > MAX_WAITING_ROWS or self._taken_bytes - self._settled_bytes > MAX_WAITING_BYTES:
            msg = f"more than {MAX_WAITING_ROWS} deliveries, or {MAX_WAITING_BYTES >> 20} MiB, wait to be committed"
            raise UnavailableError(msg)
        if self._is_disk_low():
            msg = "the disk is nearly full"
            raise UnavailableError(msg)

    def submit(self, row: DeliveryRow, done: Done) -> None:
        """Take `row`; `done` is called when it is on disk (or has been before), or could not be written.

        Always from the same thread.

        Raises:
            UnavailableError: it is not taken; `done` will not be called.
        """
        self.check()
        self._taken_bytes += len(row.body)
        self._waiting.put((row, done))

    def close(self, timeout_seconds: float = STALLED_SECONDS) -> bool:
        """Take nothing more, commit what waits; whether that was done in time."""
        self._closing = True
        self._waiting.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._commit_until_closed()
        finally:
            self._has_ended = True

    def _commit_until_closed(self) -> None:
        running = True
        while running:
            try:
                taken = self._waiting.get(timeout=self._seconds_to_housekeeping())
            except queue.Empty:
                self._keep_house()
                continue
            batch: list[tuple[DeliveryRow, Done]] = []
            size = 0
            while taken is not None:
                batch.append(taken)
                size += len(taken[0].body)
                if len(batch) >= MAX_BATCH_ROWS or size >= MAX_BATCH_BYTES:
                    break
                try:
                    taken = self._waiting.get_nowait()
                except queue.Empty:
                    break
            else:
                running = False
            if batch:
                self._commit(batch)
            if self.broken:
                return
            self._keep_house()

    def _commit(self, batch: list[tuple[DeliveryRow, Done]]) -> None:
        self._batch_began_at = began_at = time.monotonic()
        new: Counter[tuple[str, str]] = Counter()
        failure = None
        try:
            new = self._deliveries.add([row for row, _ in batch])
        except Exception as error:  # noqa: BLE001 (whatever it is, the waiters get it and the next batch is tried)
            failure = "the commit failed"
            log.error("receiver: a commit of %d deliveries failed: %s: %s", len(batch), type(error).__name__, error)
            if _is_beyond_repair(error):
                self.broken = failure = f"the disk of the state folder fails ({error})"
        self._batch_began_at = None
        seconds = time.monotonic() - began_at
        if failure:
            self._metrics.commit_failed(seconds)
        else:
            self._metrics.committed(seconds, Counter((row.platform, row.route) for row, _ in batch), new)
        self._settled_bytes += sum(len(row.body) for row, _ in batch)
        try:
            self._call_soon(partial(_settle, [done for _, done in batch], failure))
        except RuntimeError:
            log.debug("receiver: the server was gone before a commit could be answered")
        if self.broken:
            self._on_broken()
        if new and self._on_delivery is not None:
            try:
                self._on_delivery()
            except Exception as error:  # noqa: BLE001 (the deliveries are safe; what follows must not stop the next ones)
                log.error("receiver: what follows a delivery failed: %s", type(error).__name__)

    def _seconds_to_housekeeping(self) -> float | None:
        """``None`` when there is no housekeeping to do."""
        if self._closing or self._housekeeping is None:
            return None
        return max(0.0, self._housekeeping_due_at - time.monotonic())

    def _keep_house(self) -> None:
        """Call the housekeeping when it is due; a commit in its place would be watched, so it is watched too."""
        if self._closing or self._housekeeping is None or time.monotonic() < self._housekeeping_due_at:
            return
        self._batch_began_at = time.monotonic()
        rest = _REST_SECONDS
        try:
            rest = self._housekeeping()
        except Exception as error:  # noqa: BLE001 (deliveries are taken whether or not old ones can be removed)
            log.error("receiver: the housekeeping failed: %s", type(error).__name__)
        self._batch_began_at = None
        self._housekeeping_due_at = time.monotonic() + rest

    def _waiting_rows(self) -> float:
        return self._waiting.qsize()

    def _disk_free_bytes(self) -> float:
        return self._disk_usage(self._folder).free

    def _is_disk_low(self) -> bool:
        now = time.monotonic()
        if now - self._disk_checked_at >= _DISK_CHECK_SECONDS:
            self._disk_checked_at = now
            usage = self._disk_usage(self._folder)
            low = usage.free < self._minimum_free_bytes or usage.free * 100 < self._minimum_free_percent * usage.total
            if low != self._disk_is_low:
                log.warning("receiver: the disk is %s", "nearly full, refusing deliveries" if low else "free again")
            self._disk_is_low = low
        return self._disk_is_low


def _settle(waiting: Sequence[Done], failure: str | None) -> None:
    for done in waiting:
        done(failure)


def _is_beyond_repair(error: Exception) -> bool:
    """Whether the file must not be written any further.

    After a failed flush Linux counts the pages as written: the next flush succeeds and proves nothing
    (lwn.net/Articles/752063, read 2026-11, documented). A failed *write* left nothing behind: the disk was full.
    """
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code != sqlite3.SQLITE_IOERR_WRITE
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
