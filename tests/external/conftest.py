"""The tests of the package in this folder run where it is installed: `test_another_package.py` installs it."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("pigeonpost") else ["onethread_pigeon"]
