"""A folder of one's own for commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Commands read .env in the folder where they start, and change the process's umask and environment."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before, umask = dict(os.environ), os.umask(0o022)
    os.umask(umask)
    yield folder
    os.umask(umask)
    os.environ.clear()
    os.environ.update(before)
