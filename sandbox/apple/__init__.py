"""A stand-in for Apple Messages for Business, towards one messaging service provider.

It keeps the platform's own account (`AppleApp.state`): what each customer wrote and whether the webhook took it, what
they got and who has closed the chat. The page apple.md beside this folder has the routes and the limits.
"""

from sandbox.apple.api import AppleApp

__all__ = ["AppleApp"]
