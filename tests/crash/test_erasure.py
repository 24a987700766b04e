"""An erasure is killed at every bad moment: whoever comes next goes on with it, and nothing is left or comes back."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from identity.erasure import Eraser
from identity.rules import load_rules
from stores.database import Stores
from stores.graph import Graph
from stores.graph.erasures import Erasures
from tests.identity.erasure_world import BEN, EMAIL, PAGE, PHONE, Life, leftovers

pytestmark = pytest.mark.sqlite

RUN = """
import sys
from datetime import UTC, datetime, timedelta
import identity.erasure, stores.archive, stores.database, stores.erasing, stores.graph.erasures, stores.media
from identity.erasure import Eraser
from identity.rules import load_rules
from stores.archive import Archive
from stores.database import Database, Stores
from stores.erasing import Rows
from stores.graph.erasures import Erasures
from stores.media import Media

def dying(owner, name, *, before=False, call=1):
    original, calls = getattr(owner, name), []
    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and before:
            __import__('os').kill(__import__('os').getpid(), 9)
        result = original(*args, **kwargs)
        if len(calls) == call:
            __import__('os').kill(__import__('os').getpid(), 9)
        return result
    setattr(owner, name, wrapped)

[MOMENT]
Eraser(Stores(sys.argv[1]), load_rules()).erase(sys.argv[2], due=timedelta(days=30))
"""
MOMENTS = {
    "before the graph's transaction is committed": "dying(Erasures, 'begin')",
    "when the graph has forgotten": "dying(Eraser, '_carry_out', before=True)",
    "when the rest is found": "dying(Eraser, '_erase_rows', before=True)",
    "after the ledgers": "dying(Rows, 'erase_from_ledgers')",
    "after the files": "dying(Media, 'erase')",
    "after the replies": "dying(Rows, 'erase_replies')",
    "before the items": "dying(Rows, 'erase_items', before=True)",
    "after the archive": "dying(Archive, 'erase')",
    "before it is told": "dying(Eraser, '_tell', before=True)",
    "when it is told": "dying(Eraser, '_tell')",
    "while the files are written anew": "dying(Database, 'sweep', call=3)",
}
FEW = ("when the graph has forgotten", "after the replies", "after the archive")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with Ana in every store, made once."""
    folder = tmp_path_factory.mktemp("full") / "state"
    stores = Stores(str(folder))
    Life(stores, str(folder)).live()
    stores.close()
    return folder


@pytest.fixture
def folder(full: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full, tmp_path / "state"))


def ana_in(folder: Path) -> str:
    stores = Stores(str(folder))
    found = Graph(stores).person_of(PAGE) or ""
    stores.close()
    return found


def run(folder: Path, person_id: str, moment: str = "") -> int:
    script = RUN.replace("[MOMENT]", moment)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), person_id], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def check_gone(folder: Path) -> None:
    """Nothing of Ana is left, all of Ben is, and nothing comes back."""
    stores = Stores(str(folder))
    life = Life(stores, str(folder))
    (waiting,) = Eraser(stores, load_rules()).waiting()
    life.run_tap(again=True)
    life.run_tap()
    life.run_tap()
    life.confirm(waiting.erasure)
    assert Eraser(stores, load_rules()).waiting() == []
    assert leftovers(folder, stores) == []
    life.everything_again()
    assert [life.graph.person_of(one) for one in (PAGE, EMAIL, PHONE)] == [None, None, None]
    assert life.words_of(life.graph.person_of(BEN) or "") == ["I am Ben and I have a dog.", "The dog is fine."]
    changes = [record for _, record in life.archive.changes("person_changes") if record["change"] == "erase"]
    assert len(changes) == 1
    stores.close()


@pytest.mark.parametrize(
    "moment", [one if one in FEW else pytest.param(one, marks=pytest.mark.slow) for one in MOMENTS]
)
def test_a_kill_at_any_moment_leaves_nothing_half_erased(folder: Path, moment: str) -> None:
    ana = ana_in(folder)
    assert run(folder, ana, MOMENTS[moment]) == -signal.SIGKILL
    assert run(folder, ana) == 0
    check_gone(folder)


@pytest.mark.slow
def test_kill_after_kill_ends_where_a_clean_run_ends(folder: Path) -> None:
    ana = ana_in(folder)
    for moment in MOMENTS.values():
        run(folder, ana, moment)
    assert run(folder, ana) == 0
    check_gone(folder)


def test_two_processes_at_once_erase_once(folder: Path) -> None:
    ana = ana_in(folder)
    command = [sys.executable, "-c", RUN.replace("[MOMENT]", ""), str(folder), ana]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    stores = Stores(str(folder))
    assert len(Erasures.of(stores).open()) == 1
    stores.close()
    check_gone(folder)
