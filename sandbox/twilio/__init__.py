"""A stand-in for one Twilio account: messages both ways, their list, media, webhooks, and people to play.

It keeps the platform's own account (`TwilioApp.state`): what each person wrote and whether the webhook took it, what
each person got and who has stopped. The page twilio.md beside this folder has the routes and the limits.
"""

from sandbox.twilio.api import TwilioApp

__all__ = ["TwilioApp"]
