"""Another package adds a platform without an edit here: installed, it is received, read and answered.

The package is `onethread_pigeon` in this folder. It is built and installed as any other, without the network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GENERATED = "import hashlib; from console.generate import generated_files as g; print(sorted("
GENERATED += "(str(path), hashlib.sha256(text.encode()).hexdigest()) for path, text in g().items()))"
SLUGS = "from mappings.platforms import load_platforms; print(*load_platforms())"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, apart from everything else."""
    folder = tmp_path_factory.mktemp("pigeon")
    source = shutil.copytree(HERE / "onethread_pigeon", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", sys.executable,
         "--target", str(folder / "site"), str(source)],
        check=True, timeout=120,
    )  # fmt: skip
    return folder / "site"


def python(place: Path | None, *arguments: str, folder: Path = ROOT, timeout: float = 170) -> str:
    """Run Python with the package installed (or without); what it wrote."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ONETHREAD_")}
    paths = [str(ROOT), *([str(place)] if place else [])]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=timeout,
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_in_the_register_once_it_is_installed(place: Path) -> None:
    assert "pigeon" not in python(None, "-c", SLUGS).split()
    assert "pigeon" in python(place, "-c", SLUGS).split()


def test_a_pigeon_is_received_read_and_answered(place: Path, tmp_path: Path) -> None:
    told = json.loads(python(place, str(HERE / "flow.py"), str(tmp_path), folder=tmp_path))
    assert told["forged"] == 401
    assert told["messages"] == told["heard"]
    assert len(told["messages"]) == 3
    assert told["send"] == ["1 sent", "nothing to send"]
    assert [(one["to"], one["words"]) for one in told["state"]["sent"]] == [("ada", "It is back.")]
    assert told["state"]["webhooks"]["accepted_posts"] > told["state"]["webhooks"]["events"]


def test_it_passes_the_contract_suites_of_onethread(place: Path) -> None:
    tests = str(HERE / "onethread_pigeon" / "tests")
    options = ["-q", "-p", "no:cacheprovider", "--color=no", "-o", "addopts=--import-mode=importlib"]
    said = python(place, "-m", "pytest", *options, tests)
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None, said
    assert int(passed.group(1)) >= 40
    assert "skipped" not in said


def test_what_is_made_from_code_does_not_change(place: Path) -> None:
    assert python(place, "-c", GENERATED) == python(None, "-c", GENERATED)
