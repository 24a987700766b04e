"""A stand-in HubSpot account with HubSpot's own client pointed at it, and what its tests share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import requests
from hubspot import HubSpot

from sandbox.base import SandboxApp, SandboxServer
from sandbox.hubspot import HubSpotApp

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
TO_CONTACT = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 81}
KEY = {"name": "onethread_key", "label": "Key", "type": "string", "fieldType": "text", "hasUniqueValue": True}
TOKEN = {"Authorization": "Bearer sandbox-token"}

Test = TypeVar("Test", bound=Callable[..., None])


def covers(*names: str) -> Callable[[Test], Test]:
    """Say which rules a test would notice if they were not enforced; `covered` reads it from the files."""
    assert names
    return lambda test: test


def covered() -> set[str]:
    """Every rule that a test of the account says that it covers."""
    files = sorted(Path(__file__).parent.glob("test_hubspot*.py"))
    marks = re.findall(r"@covers\(([^)]*)\)", "".join(one.read_text(encoding="utf-8") for one in files))
    return {name for mark in marks for name in re.findall(r'"(\w+)"', mark)}


class Account:
    """A running stand-in and HubSpot's client pointed at it; API objects are made once, as they hold a pool each."""

    def __init__(self, app: HubSpotApp, url: str) -> None:
        self.app = app
        self.url = url
        self.client = HubSpot(access_token="sandbox-token", host=url, client_side_validation=True)
        self.contacts = self.client.crm.contacts.basic_api
        self.contact_batches = self.client.crm.contacts.batch_api
        self.contact_search = self.client.crm.contacts.search_api
        self.communications = self.client.crm.objects.communications.basic_api
        self.communication_batches = self.client.crm.objects.communications.batch_api
        self.communication_search = self.client.crm.objects.communications.search_api
        self.associations = self.client.crm.associations.v4.batch_api
        self.association_basics = self.client.crm.associations.v4.basic_api
        self.properties = self.client.crm.properties.core_api
        self.property_batches = self.client.crm.properties.batch_api
        self.property_groups = self.client.crm.properties.groups_api

    def contact(self, **properties: str) -> str:
        """Create a contact through the API."""
        return str(self.contacts.create({"properties": properties}).id)

    def unique_property(self, on: str = "contacts") -> None:
        """Create our unique property."""
        group = "contactinformation" if on == "contacts" else "communication"
        self.properties.create(on, {**KEY, "groupName": group})

    def post(self, path: str, body: Any) -> requests.Response:
        """POST without the client, to see status, headers and body as they are."""
        headers = {"Authorization": "Bearer sandbox-token"}
        return requests.post(self.url + path, json=body, headers=headers, timeout=10)

    def found(self, *filters: dict[str, Any]) -> list[str]:
        """Contact ids that a search with one group of filters finds."""
        body = {"filterGroups": [{"filters": list(filters)}], "limit": 200}
        return [one.id for one in self.contact_search.do_search(body).results]


def stopped(app: HubSpotApp) -> HubSpotApp:
    """`app` with a clock that stands at noon until a test moves it."""
    moment = [NOON]
    app.clock.epoch = lambda: moment[0]  # type: ignore[method-assign]
    app.clock.advance = lambda seconds: moment.append(moment.pop() + seconds)  # type: ignore[method-assign]
    return app


def running(**options: Any) -> Iterator[Account]:
    """An account with a server of its own."""
    app = stopped(HubSpotApp(**options))
    with SandboxServer(app) as server:
        yield Account(app, server.url)


class _Switch(SandboxApp):
    """Hands requests to the account of the current test: stopping a server takes half a second, a new account none."""

    current: SandboxApp

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.current(environ, start_response)


class AccountServer(SandboxServer):
    """One server for the accounts of a module's tests, one after the other."""

    def __init__(self) -> None:
        self._switch = _Switch()
        super().__init__(self._switch)

    def account(self) -> Account:
        """A new account, whose search knows everything at once."""
        app = stopped(HubSpotApp(search_lag_seconds=0))
        self._switch.current = app
        return Account(app, self.url)


def message(text: str = "Hello", **more: str) -> dict[str, str]:
    """The properties of a communication."""
    return {
        "hs_timestamp": "2026-11-01T10:00:00.000Z",
        "hs_communication_channel_type": "WHATS_APP",
        "hs_communication_logged_from": "CRM",
        "hs_communication_body": text,
        **more,
    }


def linked_message(contact_id: str, **more: str) -> dict[str, Any]:
    """A communication on a contact."""
    return {"properties": message(**more), "associations": [{"to": {"id": contact_id}, "types": [TO_CONTACT]}]}


def reason(refused: Any) -> dict[str, Any]:
    """The body of a refusal."""
    body: dict[str, Any] = json.loads(refused.value.body)
    return body


def code(refused: Any) -> str:
    """The code of its first error."""
    return str(reason(refused)["errors"][0]["code"])
