"""What the stand-in of WhatsApp keeps: templates, customers, messages both ways, media; and the titles of errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sandbox.deliverer import Event

DAY = 86_400

# Code -> title, as the error page has it. What a test provokes with `fail_next` need not be in it.
TITLES = {
    100: "Invalid parameter",
    130429: "Rate limit hit",
    131008: "Required parameter is missing",
    131009: "Parameter value is not valid",
    131026: "Message undeliverable",
    131047: "Re-engagement message",
    131049: "This message was not delivered to maintain healthy ecosystem engagement.",
    131050: "User has stopped receiving marketing messages from this business",
    131051: "Unsupported message type",
    131053: "Media upload error",
    131056: "(Business Account, Consumer Account) pair rate limit hit",
    131062: "Business-scoped User ID (BSUID) recipients are not supported for this message.",
    132000: "Number of parameters does not match the expected number of params",
    132001: "Template name does not exist in the translation",
}
MEDIA_KINDS = ("image", "video", "audio", "document", "sticker")


@dataclass(frozen=True, slots=True)
class Template:
    """A message template; `body` has its variables as ``{{1}}``, ``{{2}}``."""

    name: str
    language: str = "en_US"
    category: str = "UTILITY"
    body: str = "Hello"
    status: str = "APPROVED"

    @property
    def variables(self) -> int:
        """How many different variables the body has."""
        return len(set(re.findall(r"\{\{\w+\}\}", self.body)))


TEMPLATES = (
    Template("hello_world", body="Welcome and congratulations!"),
    Template("order_update", "en", body="Hello {{1}}, your order {{2}} is on its way."),
    Template("spring_sale", "en", "MARKETING", "Hello {{1}}, everything is cheaper this week."),
    Template("login_code", "en", "AUTHENTICATION", "{{1}} is your code."),
    Template("not_yet", "en", body="Still in review.", status="PENDING"),
)


@dataclass(slots=True)
class Customer:
    """A person with WhatsApp. `phone` is digits only; without `shows_phone` the platform keeps it to itself."""

    customer: str
    name: str
    phone: str | None
    user_id: str | None
    username: str | None = None
    shows_phone: bool = True
    aliases: tuple[str, ...] = ()
    last_message_at: float | None = None
    marketing_stopped: bool = False

    @property
    def wa_id(self) -> str | None:
        """The phone number as webhooks show it."""
        return self.phone if self.shows_phone else None


@dataclass(slots=True)
class Said:
    """What a customer did, with the event that tells it."""

    id: str
    customer: str
    kind: str
    text: str | None
    at: float
    event: Event


@dataclass(slots=True)
class Sent:
    """A message that was accepted from the business."""

    id: str
    customer: str | None
    by_user_id: bool
    to: str
    kind: str
    text: str | None
    content: Any
    token: str | None
    at: float
    category: str = "service"
    statuses: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether the platform told that it was not delivered."""
        return any(status["status"] == "failed" for status in self.statuses)


@dataclass(frozen=True, slots=True)
class Media:
    """A stored file; `by` says who uploaded it, which decides how long it is kept."""

    data: bytes
    mime_type: str
    filename: str | None
    by: str
    at: float


def digits(number: Any) -> str:
    """A phone number without its plus, spaces and brackets."""
    return re.sub(r"\D", "", str(number))
