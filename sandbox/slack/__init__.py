"""A stand-in for Slack: one workspace with our app, channels shared with customers' workspaces, and people to play.

It keeps the platform's own account (`SlackApp.state`): what each person wrote and whether the event was taken, what
our app posted. The page slack.md beside this folder has the calls and the limits.
"""

from sandbox.slack.api import SlackApp

__all__ = ["SlackApp"]
