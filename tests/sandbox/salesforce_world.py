"""A stand-in org with a small package of custom objects, simple-salesforce pointed at it, and what its tests share."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import requests
from simple_salesforce.api import Salesforce

from sandbox.salesforce import SalesforceApp, SalesforceSandbox
from tests.sandbox.conftest import ROOT

PACKAGE = ROOT / "tests" / "fixtures" / "salesforce_package"
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
ALLOW = {"Sforce-Duplicate-Rule-Header": "allowSave=true; includeRecordDetails=true; runAsCurrentUser=true"}
Test = TypeVar("Test", bound=Callable[..., None])


def covers(*names: str) -> Callable[[Test], Test]:
    """Say which rules a test would notice if they were not enforced; `covered` reads it from the files."""
    assert names
    return lambda test: test


def covered() -> set[str]:
    """Every rule that a test of the org says that it covers."""
    files = sorted(Path(__file__).parent.glob("test_salesforce*.py"))
    marks = re.findall(r"@covers\(([^)]*)\)", "".join(one.read_text(encoding="utf-8") for one in files))
    return {name for mark in marks for name in re.findall(r'"(\w+)"', mark)}


def package(changes: dict[str, str | None] | None = None, *, folder: str = "") -> bytes:
    """The package as a zip, with other texts (or no file) at some paths."""
    texts: dict[str, str | None] = {
        one.relative_to(PACKAGE).as_posix(): one.read_text(encoding="utf-8")
        for one in sorted(PACKAGE.rglob("*"))
        if one.is_file() and one.name != "README.md"
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in {**texts, **(changes or {})}.items():
            if text is not None:
                archive.writestr(folder + path, text)
    return buffer.getvalue()


def part(path: str) -> str:
    """One file of the package."""
    return (PACKAGE / path).read_text(encoding="utf-8")


class World:
    """An org whose clock stands at noon until a test moves it."""

    def __init__(self, server: SalesforceSandbox, app: SalesforceApp, *, installed: bool = True) -> None:
        self.server, self.app = server, server.use(app)
        moment = [NOON]
        app.clock.epoch = lambda: moment[0]  # type: ignore[method-assign]
        app.clock.advance = lambda seconds: moment.append(moment.pop() + seconds)  # type: ignore[method-assign]
        if installed:
            app.install_package_as_admin(package())
        self.session = server.session()
        self.sf: Any = self.client()

    def client(self, token: str | None = None, version: str = "67.0") -> Any:
        """simple-salesforce as the integration user, or as whoever has this token."""
        token = token or self.app.session_id
        return Salesforce(instance_url=self.server.url, session_id=token, session=self.session, version=version)

    def send(self, method: str, path: str, *, version: str = "v67.0", **options: Any) -> requests.Response:
        """A call without the client, to see status, headers and body as they are."""
        headers = {"Authorization": f"Bearer {self.app.session_id}", **options.pop("headers", {})}
        url = f"{self.server.url}/services/data/{version}/{path}"
        return self.session.request(method, url, headers=headers, timeout=30, **options)

    def upsert(self, type_name: str, key: str, *rows: dict[str, Any], **more: Any) -> Any:
        """A collection's upsert."""
        records = [{"attributes": {"type": type_name}, **row} for row in rows]
        path = f"composite/sobjects/{type_name}/{key}"
        return self.sf.restful(path, method="PATCH", json={"records": records, **more})

    def composite(self, *subrequests: tuple[str, str, str, Any], **more: Any) -> list[dict[str, Any]]:
        """A composite call of (reference, method, path below the version, body)."""
        listed = [
            {"referenceId": reference, "method": method, "url": f"/services/data/v67.0/{path}", "body": body}
            for reference, method, path, body in subrequests
        ]
        answer = self.sf.restful("composite", method="POST", json={"compositeRequest": listed, **more})
        found: list[dict[str, Any]] = answer["compositeResponse"]
        return found

    def contact(self, last_name: str = "Doe", **values: Any) -> str:
        """A Contact made through the API; its id."""
        return str(self.sf.Contact.create({"LastName": last_name, **values})["id"])

    def conversation(self, key: str = "t1", **values: Any) -> str:
        """A conversation; its id."""
        return str(self.sf.Conversation__c.create({"External_Id__c": key, **values})["id"])

    def message(self, key: str, conversation: str = "t1", **values: Any) -> dict[str, Any]:
        """The row of a message that names its conversation by its external id."""
        return {
            "External_Id__c": key, "Direction__c": "Inbound", "Body__c": f"text of {key}",
            "Conversation__r": {"External_Id__c": conversation}, **values,
        }  # fmt: skip

    def found(self, soql: str, *, deleted: bool = False) -> list[dict[str, Any]]:
        """All records of a query."""
        records: list[dict[str, Any]] = self.sf.query_all(soql, include_deleted=deleted)["records"]
        return records


def error(refused: Any) -> dict[str, Any]:
    """The error in a refusal that simple-salesforce raised."""
    found: dict[str, Any] = refused.value.content[0]
    return found


def reason(refused: Any) -> tuple[int, str]:
    """Its status and code."""
    return refused.value.status, error(refused)["errorCode"]
