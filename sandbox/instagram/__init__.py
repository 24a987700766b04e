"""A stand-in for Instagram messaging of one professional account: webhooks, conversations, tokens, and people to play.

It keeps the platform's own account (`InstagramApp.state`): what each person wrote and whether the webhook took it, what
each person got from us. The page instagram.md beside this folder has the routes and the limits.
"""

from sandbox.instagram.api import InstagramApp

__all__ = ["InstagramApp"]
