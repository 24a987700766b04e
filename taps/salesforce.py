"""tap-salesforce: the contacts of a Salesforce org, and the replies that agents queue in it.

Pages: developer.salesforce.com/docs, REST API Developer Guide (Query, QueryAll, ``nextRecordsUrl``) and SOQL and SOSL
Reference (WHERE, date formats), read 2026-11, documented.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import jwt
import requests
from pydantic import Field

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.from_salesforce import (
    CONTACT_FIELDS,
    contact_from_salesforce,
    moment_from_salesforce,
    reply_from_salesforce,
)
from mappings.records import Contact, Record, Reply
from mappings.salesforce_login import (
    PLATFORM,
    SalesforceLogin,
    log_in_without_answer,
    odd_log_in,
    refused_log_in,
    unreadable_key_file,
)
from mappings.settings import PluginSettings
from mappings.to_salesforce import CONTACT, CRM, MESSAGE, moment_text, salesforce_id
from stores.control import Pauses
from stores.database import Stores
from stores.parked import ParkedItem
from stores.patience import while_unavailable
from taps.base import Check, Checkpoint, OneThreadTap

_FIELD = r"^[A-Za-z][A-Za-z0-9_]*$"
_MOST_SEEN = 10_000


class SalesforceSettings(SalesforceLogin):
    """What to read and how."""

    default_region: str | None = Field(
        None, pattern="^[A-Z]{2}$", description="Country of phone numbers typed without country code, e.g. GB."
    )
    identity_field: str = Field(
        "Identity_Key__c", pattern=_FIELD, description="Field of Contact in which the target writes the person id."
    )
    projection_field: str = Field(
        "Thread_Made_By_onethread__c",
        pattern=_FIELD,
        description="Field of Contact in which the target says that it made the contact.",
    )
    overlap_seconds: float = Field(
        300, ge=0, description="Read this much again with each run: a change can become visible late."
    )
    reply_max_age_days: float = Field(7, gt=0, description="Replies that were written longer ago are left alone.")


class TapSalesforce(OneThreadTap[SalesforceSettings]):
    """Reads one Salesforce org. Select `contacts`, `replies` or both."""

    name = "tap-salesforce"
    settings_model: ClassVar[type[PluginSettings]] = SalesforceSettings
    record_models: ClassVar[tuple[type[Record], ...]] = (Contact, Reply)

    @cached_property
    def reader(self) -> SalesforceReader:
        """The org."""
        return SalesforceReader(self.settings, self.stores)

    def read(self) -> Iterator[Record | Checkpoint]:
        """Contacts first (replies need their persons), then replies."""
        yield from self.replay(f"crm:{CRM}/{self.settings.org_id}/", self._parked)
        if Contact.stream in self.selected_streams:
            yield from self._read_contacts()
        if Reply.stream in self.selected_streams and not self.stop_requested:
            yield from self._read_replies()

    # Contacts

    def _read_contacts(self) -> Iterator[Record | Checkpoint]:
        """All contacts at first, later those modified since, with those deleted and merged away.

        They come in the order of (SystemModstamp, Id), so the bookmark moves with every page and a run that breaks off
        goes on where it was. What an import stamped with one moment is told apart by the ids already seen.
        """
        since = self.cursor.get("contacts_since")
        seen = dict(self.cursor.get("contacts_seen") or {})
        where = ["IsDeleted = false"] if since is None else [f"SystemModstamp >= {self._with_overlap(since)}"]
        if since is None and (resumed := self.cursor.get("contacts_first_pass")):
            where.append(f"SystemModstamp >= {self._with_overlap(resumed)}")
        newest = since or self.cursor.get("contacts_first_pass") or ""
        for page in self.reader.pages(self._contacts_query(where), deleted=True):
            for payload in page:
                modified = _modified(payload)
                newest = max(newest, modified)
                if seen.get(str(payload.get("Id"))) != modified:
                    seen[str(payload.get("Id"))] = modified
                    yield from self._contacts(payload)
            kept = _recent(seen, self._with_overlap(newest) if newest else "")
            name = "contacts_first_pass" if since is None else "contacts_since"
            if newest:
                yield Checkpoint({name: newest, "contacts_seen": kept})
            if self.stop_requested:
                return
        if since is None and newest:
            yield Checkpoint({"contacts_since": newest, "contacts_first_pass": None})

    def _contacts_query(self, where: list[str]) -> str:
        """Names are our own or checked by the settings, moments are written by us; nothing else is in it."""
        fields = dict.fromkeys((*CONTACT_FIELDS, *self.reader.own_fields))
        return (
            f"SELECT {', '.join(fields)} FROM {CONTACT} WHERE {' AND '.join(where)}"  # noqa: S608  # see docstring
            " ORDER BY SystemModstamp, Id"
        )

    def _contacts(self, payload: Mapping[str, Any]) -> Iterator[Contact]:
        """One contact; one that was merged away is told with its survivor, which names it."""
        try:
            contact = self._contact(payload)
            master = payload.get("MasterRecordId")
            if contact.deleted and isinstance(master, str) and master:
                survivor = self.reader.survivor(master, self._contacts_query)
                if survivor is not None:
                    merged = [*self._contact(survivor).merged_record_ids, contact.record_id]
                    yield self._contact(survivor).model_copy(update={"merged_record_ids": merged})
            yield contact
        except PayloadError as error:
            self._park(Contact.stream, payload, error)

    def _contact(self, payload: Mapping[str, Any]) -> Contact:
        return contact_from_salesforce(
            payload,
            org_id=self.settings.org_id,
            default_region=self.settings.default_region,
            identity_field=self.settings.identity_field,
            projection_field=self.settings.projection_field,
        )

    # Replies

    def _read_replies(self) -> Iterator[Record | Checkpoint]:
        """What is queued: each record once, until the target has told it that it was taken up.

        A record stays Queued until its reply is in the outbox and the target has written Sending, so nothing is lost
        when a run dies; the key is the record's, so nothing is sent twice when it is read again.
        """
        now = datetime.now(UTC)
        oldest = moment_text(now - timedelta(days=self.settings.reply_max_age_days))
        seen = dict(self.cursor.get("replies_seen") or {})
        since = self.cursor.get("replies_since")
        where = ["Direction__c = 'Outbound'", "Status__c = 'Queued'", f"CreatedDate >= {oldest}"]
        if since is not None:
            where.append(f"SystemModstamp >= {self._with_overlap(since)}")
        newest = since or ""
        for page in self.reader.pages(self._replies_query(where)):
            for payload in page:
                modified = _modified(payload)
                newest = max(newest, modified)
                if seen.get(str(payload.get("Id"))) is None:
                    seen[str(payload.get("Id"))] = modified
                    reply = self._reply(payload)
                    if reply is not None:
                        yield reply
            if newest:
                kept = _recent(seen, self._with_overlap(newest))
                yield Checkpoint({"replies_since": newest, "replies_seen": kept})
            if self.stop_requested:
                return

    def _replies_query(self, where: list[str]) -> str:
        contact = ("Id", "Email", "Phone", "MobilePhone", "HomePhone", "OtherPhone", self.settings.identity_field)
        fields = [
            "Id", "Body__c", "Channel__c", "Template__c", "Template_Language__c", "Template_Parameters__c",
            "CreatedDate", "SystemModstamp", "CreatedBy.Name", "CreatedBy.UserType", "Conversation__r.Channel__c",
            "Conversation__r.External_Id__c",
            *(f"Contact__r.{name}" for name in contact), *(f"Conversation__r.Contact__r.{name}" for name in contact),
        ]  # fmt: skip
        return (
            f"SELECT {', '.join(fields)} FROM {MESSAGE} WHERE {' AND '.join(where)}"  # noqa: S608  # names of our own
            " ORDER BY SystemModstamp, Id"
        )

    def _reply(self, payload: Mapping[str, Any]) -> Reply | None:
        try:
            return reply_from_salesforce(
                payload,
                org_id=self.settings.org_id,
                default_region=self.settings.default_region,
                identity_field=self.settings.identity_field,
            )
        except PayloadError as error:
            self._park(Reply.stream, payload, error)
            return None

    # Both

    def _with_overlap(self, moment: str) -> str:
        earlier = moment_from_salesforce(moment, self.name) - timedelta(seconds=self.settings.overlap_seconds)
        return moment_text(earlier) or moment

    def _park(self, stream: str, payload: Mapping[str, Any], error: PayloadError) -> None:
        record_id = str(payload.get("Id"))
        kind = CONTACT if stream == Contact.stream else MESSAGE
        ref = f"crm:{CRM}/{self.settings.org_id}/{kind}/{record_id}"
        self.park(stream, record_id, error, dict(payload), ref)

    def _parked(self, row: ParkedItem) -> Iterator[Record]:
        """What was put aside, mapped again."""
        if row.stream == Contact.stream:
            yield from self._contacts(row.payload)
            return
        # The agent may have filled in what was missing since.
        for page in self.reader.pages(self._replies_query([f"Id = '{salesforce_key(row.payload)}'"])):
            yield from (reply for one in page if (reply := self._reply(one)) is not None)

    # onethread doctor

    def check(self) -> Iterator[Check]:
        """Log-in and org, what the user may read, the calls left. Changes nothing."""
        yield from super().check()
        try:
            yield from self._check_org()
        except CredentialsError as error:
            yield Check("log-in", ok=False, detail=str(error), fix="check the External Client App and its policies")
        except OneThreadError as error:
            yield Check("Salesforce API", ok=False, detail=str(error), fix="check domain and api_url; try again later")

    def _check_org(self) -> Iterator[Check]:
        found = self.reader.org_id()
        yield Check("log-in", ok=True, detail="accepted")
        ours = found == self.settings.org_id
        detail = f"the app logs in to org {found}" + ("" if ours else f", org_id says {self.settings.org_id}")
        yield Check("org", ours, detail, "" if ours else "put the right one of the two")
        for kind, query in (
            (CONTACT, self._contacts_query(["IsDeleted = false"])),
            (MESSAGE, self._replies_query(["Direction__c = 'Outbound'"])),
        ):
            try:
                self.reader.first_page(f"{query} LIMIT 1")
            except (RejectedError, CredentialsError) as error:
                fix = "run `onethread setup salesforce`; give the user the permission set onethread_Integration"
                yield Check(f"read {kind}", ok=False, detail=str(error), fix=fix)
            else:
                yield Check(f"read {kind}", ok=True, detail="allowed")
        if self.reader.usage is not None:
            used, allowed = self.reader.usage
            enough = used < allowed * 0.9
            fix = "" if enough else "see Setup, Company Information: another integration may use them up"
            yield Check("API calls", enough, f"{allowed - used} of {allowed} left of the last 24 hours", fix)


class SalesforceReader:
    """Queries one org: a timeout on every call, a new session when one has expired, bounded retries.

    Attributes:
        usage: API calls used and allowed in 24 hours, as the org said last.
    """

    def __init__(self, settings: SalesforceSettings, stores: Stores) -> None:
        self._settings = settings
        self._account = settings.account
        self._pauses = Pauses(stores)
        self._client: Any = None
        self._survivors: dict[str, dict[str, Any] | None] = {}
        self.usage: tuple[int, int] | None = None
        self._fetch = while_unavailable(self._fetch_once, settings)

    @cached_property
    def own_fields(self) -> tuple[str, ...]:
        """Our fields of Contact, if the org has them: contacts can be read before set-up has run."""
        answer = self._fetch(f"sobjects/{CONTACT}/describe", {})
        listed = answer.get("fields")
        there = {one.get("name") for one in listed if isinstance(one, dict)} if isinstance(listed, list) else set()
        return tuple(one for one in (self._settings.identity_field, self._settings.projection_field) if one in there)

    def org_id(self) -> str:
        """The org's id, 18 characters."""
        (record,) = self.first_page("SELECT Id FROM Organization")
        return salesforce_id(str(record.get("Id")))

    def first_page(self, soql: str) -> list[dict[str, Any]]:
        """The first page of a query."""
        return next(self.pages(soql))

    def pages(self, soql: str, *, deleted: bool = False) -> Iterator[list[dict[str, Any]]]:
        """The pages of a query; only a missing ``nextRecordsUrl`` is the end, a page can be short (documented)."""
        path: str | None = "queryAll/" if deleted else "query/"
        parameters = {"q": soql}
        before: set[str] = set()
        while path is not None:
            answer = self._fetch(path, parameters)
            listed = answer.get("records")
            if not isinstance(listed, list):
                msg = f"{PLATFORM}: GET query answered without records; the bookmark stays where it is"
                raise UnavailableError(msg)
            yield [one for one in listed if isinstance(one, dict)]
            following = answer.get("nextRecordsUrl")
            path, parameters = (following if isinstance(following, str) else None), {}
            if path in before:
                msg = f"{PLATFORM}: GET query gives the same page again; the bookmark stays where it is"
                raise UnavailableError(msg)
            before.add(path or "")

    def survivor(self, record_id: str, query: Any) -> dict[str, Any] | None:
        """The live contact at the end of a chain of merges, ``None`` when that was deleted."""
        if record_id not in self._survivors:
            found = self.first_page_all(query([f"Id = '{salesforce_key({'Id': record_id})}'"]))
            record = found[0] if found else None
            if record is not None and record.get("IsDeleted") is True:
                master = record.get("MasterRecordId")
                self._survivors[record_id] = None  # a circle ends here
                record = self.survivor(master, query) if isinstance(master, str) and master != record_id else None
            self._survivors[record_id] = record
        return self._survivors[record_id]

    def first_page_all(self, soql: str) -> list[dict[str, Any]]:
        """The first page of a query, deleted records too."""
        return next(self.pages(soql, deleted=True))

    def _fetch_once(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        left = self._pauses.seconds_left(self._account)
        if left:
            until = datetime.now(UTC) + timedelta(seconds=left)
            msg = f"{PLATFORM}: org paused, its API calls are used up; run again after {until:%H:%M} UTC"
            raise RateLimitedError(msg, retry_after_seconds=left)
        response = self._send(path, parameters)
        if response.status_code == 401:
            self._client = None
            response = self._send(path, parameters)
        endpoint = f"GET {path.partition('?')[0]}"
        try:
            body = json.loads(response.text) if response.text else {}
        except ValueError:
            body = None
        codes = _codes(body)
        what = f"{PLATFORM}: {endpoint} answered {response.status_code}" + (f" ({', '.join(codes)})" if codes else "")
        if "REQUEST_LIMIT_EXCEEDED" in codes and "concurrent" not in response.text.lower():
            self._pauses.pause(self._account, self._settings.limit_pause_seconds)
            until = datetime.now(UTC) + timedelta(seconds=self._settings.limit_pause_seconds)
            raise RateLimitedError(f"{what}: the day's calls are used up. Run again after {until:%H:%M} UTC")
        if response.status_code in {401, 403} and "REQUEST_LIMIT_EXCEEDED" not in codes:
            raise CredentialsError(f"{what}; check the integration user's permission sets")
        if response.status_code in {400, 404}:
            raise RejectedError(f"{what}; was `onethread setup salesforce` run?", code=codes[0] if codes else None)
        if response.status_code == 410:
            raise SettingsError(f"{what}: this API version is retired; raise api_version")
        if response.status_code >= 300 or not isinstance(body, dict):
            raise UnavailableError(f"{what}; trying again later")
        return body

    def _send(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        if self._client is None:
            self._client = _log_in(self._settings)
        client = self._client
        root = f"https://{client.sf_instance}"
        url = f"{root}{path}" if path.startswith("/") else f"{root}/services/data/v{self._settings.api_version}/{path}"
        headers = {"Authorization": f"Bearer {client.session_id}"}
        try:
            response: requests.Response = client.session.request("GET", url, params=parameters, headers=headers)
        except requests.RequestException as error:
            msg = f"{PLATFORM}: GET {path.partition('?')[0]} gave no answer ({type(error).__name__})"
            raise UnavailableError(msg) from None
        found = response.headers.get("Sforce-Limit-Info", "").partition("api-usage=")[2].partition(";")[0].split("/")
        if len(found) == 2 and found[0].isdigit() and found[1].isdigit():
            self.usage = int(found[0]), int(found[1])
        return response


class _Session(requests.Session):
    """A timeout on every call (simple-salesforce has none), and another base URL where one is set."""

    def __init__(self, base_url: str | None, timeout_seconds: float) -> None:
        super().__init__()
        self._base = urlsplit(base_url.rstrip("/")) if base_url else None
        self._timeout_seconds = timeout_seconds

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        """As `requests.Session.request`."""
        if options.get("timeout") is None:
            options["timeout"] = self._timeout_seconds
        if self._base is not None:
            url = urlunsplit(urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc))
        return super().request(method, url, *arguments, **options)


def salesforce_key(payload: Mapping[str, Any]) -> str:
    """The record id of a payload, safe between quotes; raises `RejectedError` on anything else."""
    record_id = str(payload.get("Id"))
    if not (record_id.isascii() and record_id.isalnum() and len(record_id) in {15, 18}):
        msg = f"{PLATFORM}: a parked record has no id that could be asked for"
        raise RejectedError(msg)
    return record_id


def _log_in(settings: SalesforceSettings) -> Any:
    """A logged-in client; see `mappings.salesforce_login`."""
    from simple_salesforce.api import Salesforce
    from simple_salesforce.exceptions import SalesforceAuthenticationFailed

    session = _Session(settings.api_url, settings.timeout_seconds)
    options = settings.client_options(_key_of_file(settings.needed_key_file))
    try:
        return Salesforce(**options, session=session)
    except SalesforceAuthenticationFailed as error:
        raise refused_log_in(getattr(error, "code", None)) from None
    except requests.RequestException as error:
        raise log_in_without_answer(error) from None
    except (ValueError, TypeError, KeyError, AttributeError, jwt.PyJWTError) as error:
        raise odd_log_in(error, settings) from None


def _key_of_file(path: str | None) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii") if path else None
    except (OSError, UnicodeError) as error:
        raise unreadable_key_file(error) from None


def _codes(body: Any) -> list[str]:
    listed = body if isinstance(body, list) else [body]
    found = [one.get("errorCode") for one in listed if isinstance(one, dict)]
    return [one for one in found if isinstance(one, str) and one.replace("_", "").isalnum()]


def _modified(payload: Mapping[str, Any]) -> str:
    """When a record was modified, as text whose order is the order in time; empty when it does not say."""
    raw = payload.get("SystemModstamp")
    try:
        return moment_text(moment_from_salesforce(raw, "SystemModstamp")) or "" if isinstance(raw, str) else ""
    except PayloadError:
        return ""


def _recent(seen: Mapping[str, str], since: str) -> dict[str, str]:
    """What the overlap can show again, the newest first if that is very much."""
    kept = [(record_id, modified) for record_id, modified in seen.items() if modified >= since]
    return dict(sorted(kept, key=lambda one: one[1])[-_MOST_SEEN:])
