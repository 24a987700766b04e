"""A stand-in for the WhatsApp Business Cloud API: sends, statuses, media, and customers that a test can play.

It keeps the platform's own account (`WhatsAppApp.state`): what each customer wrote and whether the webhook took it,
what each customer got from us and how often. The page whatsapp.md beside this folder has the routes and the limits.
"""

from sandbox.whatsapp.api import WhatsAppApp
from sandbox.whatsapp.records import TEMPLATES, Template

__all__ = ["TEMPLATES", "Template", "WhatsAppApp"]
