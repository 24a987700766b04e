"""The stand-in of Infobip: see `sandbox.infobip.api.InfobipApp`."""

from __future__ import annotations

from sandbox.infobip.account import Account
from sandbox.infobip.api import InfobipApp

__all__ = ["Account", "InfobipApp"]
