"""Tryton, the writing side: see tryton.md beside this folder."""

from targets.tryton.settings import TrytonTargetSettings
from targets.tryton.setup import setup_tryton
from targets.tryton.target import TargetTryton

__all__ = ["TargetTryton", "TrytonTargetSettings", "setup_tryton"]
