"""HubSpot, the writing side: see hubspot.md beside this folder."""

from targets.hubspot.settings import HubSpotTargetSettings
from targets.hubspot.setup import setup_hubspot
from targets.hubspot.target import TargetHubSpot

__all__ = ["HubSpotTargetSettings", "TargetHubSpot", "setup_hubspot"]
