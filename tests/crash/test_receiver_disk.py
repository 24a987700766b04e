"""What was answered 200 survives a power cut; a slow disk is a 503, and one that fails is the end of the receiver.

A small library between the receiver and the kernel (disk.c) delays flushes or lets them fail, and keeps of each file
what its last flush made safe. A power cut takes everything else, or any part of it.
"""

from __future__ import annotations

import errno
import http.client
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.test_receiver import Load, new_body, post, receiving, stored_bodies

pytestmark = [pytest.mark.slow, pytest.mark.sqlite, pytest.mark.timeout(300)]

BLOCK_BYTES = 4096
FILES = ("deliveries.db", "deliveries.db-wal")
WITHOUT_FLUSHES = """
from stores import database
_open = database.Database.__init__
def _without_flushes(self, path, *, read_only=False):
    _open(self, path, read_only=read_only)
    self._connection.execute("PRAGMA synchronous = OFF")
database.Database.__init__ = _without_flushes
"""


@dataclass
class Disk:
    """The state folder, what flushes have made safe of it, and what the next flushes are to do."""

    state: Path
    synced: Path
    orders: Path
    library: Path

    @property
    def state_url(self) -> str:
        return f"sqlite:///{self.state}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library),
            "DISK_FOLDER": f"{self.state}/deliveries",
            "DISK_SYNCED": str(self.synced),
            "DISK_ORDERS": str(self.orders),
        }

    def order(self, milliseconds: int = 0, number: int = 0) -> None:
        """What flushes do from now on."""
        draft = self.orders.with_suffix(".draft")
        draft.write_text(f"{milliseconds} {number}", encoding="ascii")
        draft.rename(self.orders)

    def after_power_cut(self, image: Path, chance: random.Random | None) -> str:
        """The state URL of what is left: what was flushed and, by `chance`, any blocks of what was not."""
        shutil.copytree(self.state, image, ignore=shutil.ignore_patterns("*.db-wal", "*.db-shm"))
        for name in FILES:
            safe, all_written = ((one / name).read_bytes() if (one / name).exists() else b"" for one in
                                 (self.synced, self.state))  # fmt: skip
            left = bytearray(safe)
            if chance is not None:
                for start_at in range(0, len(all_written), BLOCK_BYTES):
                    if chance.random() < 0.5:
                        block = all_written[start_at : start_at + BLOCK_BYTES]
                        left += bytes(max(0, start_at + len(block) - len(left)))
                        left[start_at : start_at + len(block)] = block
            (image / name).write_bytes(left)
        return f"sqlite:///{image}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here: faults of the disk cannot be played")
    built = tmp_path_factory.mktemp("disk") / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl"], check=True, timeout=60)
    return built


@pytest.fixture
def disk(tmp_path: Path, library: Path) -> Disk:
    """Of a receiver that has run before: its files exist and are safe."""
    made = Disk(tmp_path / "state", tmp_path / "synced", tmp_path / "orders", library)
    made.synced.mkdir()
    made.order()
    with receiving(made.state_url) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    for name in FILES:
        if (made.state / name).exists():
            shutil.copy(made.state / name, made.synced / name)
    return made


def run_until_power_cut(disk: Disk, acked: int, first: str = "") -> Load:
    """Clients that send until the receiver is killed, some time after that many answers."""
    with receiving(disk.state_url, first, **disk.environment) as (process, port):
        load = Load(port, "0", size=3000)
        load.wait_for(acked)
        process.kill()
        load.join()
    return load


def test_a_power_cut_loses_nothing_that_was_answered_200(disk: Disk, tmp_path: Path) -> None:
    load = run_until_power_cut(disk, acked=1500)  # enough for SQLite to copy its log into the file, and begin it anew
    safe = (disk.synced / FILES[0]).stat().st_size
    assert safe > 1_000_000, "the log was never copied: send more"
    for number in range(6):
        image = disk.after_power_cut(tmp_path / f"image{number}", random.Random(number) if number else None)
        stored = stored_bodies(image)
        assert {*load.acked} <= {*stored}
        assert {*stored} <= {*load.sent}
        assert len(stored) == len({*stored})
        with sqlite3.connect(tmp_path / f"image{number}" / FILES[0]) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_the_power_cut_is_one_that_takes_what_was_not_flushed(disk: Disk, tmp_path: Path) -> None:
    """The same with a store that flushes nothing: the test above would see it."""
    load = run_until_power_cut(disk, acked=300, first=WITHOUT_FLUSHES)
    assert {*load.acked} <= {*stored_bodies(disk.state_url)}  # the kill alone takes nothing
    image = disk.after_power_cut(tmp_path / "image", None)
    assert len(stored_bodies(image)) < len(load.acked)


def send(port: int, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        return post(connection, body)
    finally:
        connection.close()


def status_of(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_flush_of_two_seconds_is_waited_for(disk: Disk) -> None:
    bodies = [new_body(str(number)) for number in range(8)]
    with receiving(disk.state_url, **disk.environment) as (_, port), ThreadPoolExecutor(8) as pool:
        assert send(port, new_body("first")) == 200  # the log's first commit flushes more than once
        disk.order(milliseconds=2000)
        answers = list(pool.map(lambda body: send(port, body), bodies))
        assert answers == [200] * 8
        assert {*bodies} < {*stored_bodies(disk.state_url)}
        disk.order()


def test_a_flush_that_hangs_is_503_for_all_until_it_is_over_and_a_repeat_is_stored_once(disk: Disk) -> None:
    bodies = [new_body(str(number)) for number in range(8)]
    with receiving(disk.state_url, **disk.environment) as (_, port), ThreadPoolExecutor(8) as pool:
        disk.order(milliseconds=8000)
        assert set(pool.map(lambda body: send(port, body), bodies)) == {503}
        assert (status_of(port, "/ready"), status_of(port, "/health")) == (503, 200)
        assert send(port, new_body("late")) == 503
        disk.order()
        give_up_at = time.monotonic() + 60
        while status_of(port, "/ready") != 200:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        assert [send(port, body) for body in bodies] == [200] * 8
        assert sorted(stored_bodies(disk.state_url)) == sorted(bodies)


def test_a_flush_that_fails_ends_the_receiver_which_says_why_and_nothing_answered_is_lost(disk: Disk) -> None:
    with receiving(disk.state_url, **disk.environment) as (process, port):
        acked = [new_body(str(number)) for number in range(20)]
        assert [send(port, body) for body in acked] == [200] * 20
        disk.order(number=errno.EIO)
        failed = new_body("failed")
        assert send(port, failed) == 503
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "the disk of the state folder fails" in errors
        assert "Look at the disk" in errors
        assert "wamid" not in errors
    disk.order()
    with receiving(disk.state_url, **disk.environment) as (_, port):
        assert send(port, failed) == 200
    assert sorted(stored_bodies(disk.state_url)) == sorted([*acked, failed])
