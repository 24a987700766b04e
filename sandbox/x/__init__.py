"""A stand-in for X's API v2 around direct messages, with one account of ours: its calls, its webhooks, people to play.

It keeps the platform's own account (`XApp.state`): what each person wrote and whether the webhook took it, what each
got from us. The page x.md beside this folder has the routes and the limits.
"""

from sandbox.x.api import XApp

__all__ = ["XApp"]
