"""A stand-in for the Bot API of one bot: its queue of updates, its webhook, files, sends, and people to play.

It keeps the platform's own account (`TelegramApp.state`): what each person wrote, whether the webhook took it or
``getUpdates`` confirmed it, and what each person got. The page telegram.md beside this folder has the rules and limits.
"""

from sandbox.telegram.api import TelegramApp

__all__ = ["TelegramApp"]
