"""A stand-in for HubSpot's CRM API (v3 objects and properties, v4 associations); see hubspot.md beside this folder."""

from sandbox.hubspot.app import HubSpotApp

__all__ = ["HubSpotApp"]
