"""The CRMs that the demo's story can be played with: how each is started, and what differs in the telling."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sandbox.base import SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.salesforce import SalesforceApp
from sandbox.salesforce_shop import SalesforceShop
from sandbox.tryton import AGENT, DATABASE, TrytonServer
from sandbox.tryton_shop import TrytonShop


class Counted(Protocol):
    """A CRM that tells how often it was asked and what it holds, so that the demo can show what a repeat costs."""

    def records(self) -> dict[str, Any]:
        """Everything it holds, by record id."""

    def api_calls(self) -> int:
        """How often it was called so far."""


@dataclass(frozen=True, slots=True)
class DemoCrm:
    """One CRM, running.

    Attributes:
        slug: as `onethread setup` and the jobs know it.
        name: how people call it.
        app: what people do in it and what it then holds: HubSpot's stand-in, or what acts like it
            (``create_contact_as_person``, ``edit_contact_as_agent``, ``state``).
        environment: the variables that connect tap, target and set-up to it.
        set_up: what it has after set-up, in the words of the narrator.
        put_away: what happens to contacts that turn out to be somebody else's second self.
        guide: lines that say how to look at it while it is left running.
        counted: where it counts its calls; then a repeat and a split are played, too.
    """

    slug: str
    name: str
    app: Any
    environment: dict[str, str] = field(default_factory=dict)
    set_up: str = ""
    put_away: str = "archived"
    guide: tuple[str, ...] = ()
    counted: Counted | None = None


def open_crm(slug: str, stack: ExitStack, folder: Path, hubspot: HubSpotApp) -> DemoCrm:
    """The CRM of this name, running until `stack` is closed.

    Args:
        slug: one of `CRMS`.
        stack: what is opened is closed with it.
        folder: of the performance; every performance begins with an empty CRM.
        hubspot: the stand-in that runs in any case.

    Raises:
        TrytonMissingError: Tryton cannot be installed here.
    """
    return CRMS[slug](stack, folder, hubspot)


def _hubspot(stack: ExitStack, folder: Path, hubspot: HubSpotApp) -> DemoCrm:
    del stack, folder
    return DemoCrm("hubspot", "HubSpot", hubspot, set_up="HubSpot has its properties; ")


def _salesforce(stack: ExitStack, folder: Path, hubspot: HubSpotApp) -> DemoCrm:
    del folder, hubspot
    app = SalesforceApp()
    server = stack.enter_context(SandboxServer(app))
    shop = SalesforceShop(app, server.url)
    guide = (
        f"org:     {server.url}/_sandbox/state  (GET: contacts, conversations, messages, calls, as JSON)",
        f"         {server.url}/_sandbox/write_reply_as_agent  (POST an answer, as JSON: conversation_id, text)",
    )
    return DemoCrm(
        "salesforce", "Salesforce", shop, shop.environment(), "the org has its objects, fields and permission sets; ",
        "put into the recycle bin", guide, shop,
    )  # fmt: skip


def _tryton(stack: ExitStack, folder: Path, hubspot: HubSpotApp) -> DemoCrm:
    del hubspot
    # In a folder of its own: the next demo starts with an empty address book all the same.
    server = stack.enter_context(TrytonServer(folder / "tryton"))
    host = server.url.removeprefix("http://")
    guide = (
        f"Tryton:  host {host}, database {DATABASE}, user {AGENT}, password {server.password}",
        "         (with Tryton's desktop client; every note on a party is there, and so is @reply)",
    )
    return DemoCrm("tryton", "Tryton", TrytonShop(server), server.environment(), guide=guide)


CRMS: dict[str, Callable[[ExitStack, Path, HubSpotApp], DemoCrm]] = {
    "hubspot": _hubspot, "salesforce": _salesforce, "tryton": _tryton,
}  # fmt: skip
