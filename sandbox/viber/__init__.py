"""A stand-in for Viber's REST Bot API with one bot: its calls, its callbacks, and people to play.

It keeps the platform's own account (`ViberApp.state`): what each person wrote and whether the webhook took it, what
each got from us. The page viber.md beside this folder has the routes and the limits.
"""

from sandbox.viber.api import ViberApp

__all__ = ["ViberApp"]
