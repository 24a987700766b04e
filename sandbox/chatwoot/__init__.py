"""A stand-in for one Chatwoot account: website chat, agents, notes, files, webhooks and the application API.

It keeps the platform's own account (`ChatwootApp.state`): what each visitor wrote and whether the webhook took it. The
page chatwoot.md beside this folder has the routes and the limits.
"""

from sandbox.chatwoot.api import ChatwootApp

__all__ = ["ChatwootApp"]
