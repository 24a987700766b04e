"""Environments of the judges that a vendor made: one for each, under ``.venvs``, from ``tests/judges/<name>.txt``."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

JUDGES = Path(__file__).parent
ROOT = JUDGES.parents[1]


def judge_python(name: str) -> Path:
    """The interpreter of a judge's environment, which is made when it is not there or its list has changed."""
    wanted, place = JUDGES / f"{name}.txt", ROOT / ".venvs" / name
    mark = place / "made-from"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    place.parent.mkdir(exist_ok=True)
    with (place.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != digest:
            uv = str(Path(sys.executable).with_name("uv"))
            python = str(place / "bin" / "python")
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)],
                [uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted)],
            ):
                try:
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=150)
                except (OSError, subprocess.SubprocessError) as error:
                    reason = (getattr(error, "stderr", None) or str(error)).strip()[-300:]
                    pytest.skip(f"the environment of the judge {name} cannot be made here: {reason}")
            mark.write_text(digest)
    return place / "bin" / "python"


def ask_judge(name: str, script: str, work: Any) -> Any:
    """Run a script of ``tests/judges`` in a judge's environment, with JSON on its stdin; the JSON that it wrote."""
    done = subprocess.run(
        [str(judge_python(name)), str(JUDGES / script)],
        input=json.dumps(work), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
