"""A folder for what a rebuild puts on the disk meanwhile: only for us, and gone after it, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "onethread-rebuild-"


class Scratch:
    """A temporary folder; what rebuilds that were killed have left behind goes when the next one starts.

    Each holds a lock on its folder, which the kernel frees when a process dies: what nobody holds is left over.
    """

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))  # with mode 0700
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self.path.exists():  # another one may have taken it for left over before it was locked
                break
            os.close(self._lock)
        for path in self.path.parent.glob(f"{_PREFIX}*"):
            if path != self.path:
                _remove_left_over(path)

    def close(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_left_over(path: Path) -> None:
    try:
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            return
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    except OSError:  # gone meanwhile, or not ours to open
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:  # a rebuild at work
        pass
    finally:
        os.close(lock)
