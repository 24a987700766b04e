"""Starts a job when something was delivered: one run at a time, and one more if something came meanwhile."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence

logger = logging.getLogger(__name__)


class JobStarter:
    """Runs ``onethread run JOB`` in the background after `notice`, at most one at a time.

    Args:
        jobs: names of Meltano jobs.
        quiet_seconds: how long to wait after the first delivery, so that a burst makes one run.
    """

    def __init__(self, jobs: Sequence[str], *, quiet_seconds: float = 1.0) -> None:
        self._jobs = list(jobs)
        self._quiet_seconds = quiet_seconds
        self._wanted = threading.Event()
        threading.Thread(target=self._work, daemon=True, name="job-starter").start()

    def notice(self) -> None:
        """Something was delivered. Returns at once."""
        self._wanted.set()

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            self._wanted.wait()
            pause.wait(self._quiet_seconds)
            self._wanted.clear()
            for job in self._jobs:
                try:
                    code = subprocess.run([sys.executable, "-m", "console.cli", "run", job], check=False).returncode
                except OSError as error:  # no memory for another process: the next delivery tries again
                    logger.error("job %s could not be started: %s", job, error)
                    continue
                if code:
                    logger.warning("job %s ended with exit code %d", job, code)
