"""A stand-in for the LINE Platform of one channel: access tokens, profiles, files, sends, and people to play.

It keeps the platform's own account (`LineApp.state`): what each person wrote and whether the webhook took it, what each
got from us. The page line.md beside this folder has the routes and the limits.
"""

from sandbox.line.api import LineApp

__all__ = ["LineApp"]
