"""A stand-in for the Messenger Platform of one page: sends, echoes, receipts, conversations, and people to play.

It keeps the platform's own account (`MessengerApp.state`): what each person wrote and whether the webhook took it,
what each person got from us and how often. The page messenger.md beside this folder has the routes and the limits.
"""

from sandbox.messenger.api import MessengerApp

__all__ = ["MessengerApp"]
