"""tap-hubspot: the contacts of a HubSpot account, and the replies that agents queue on them or write in the inbox.

Pages: developers.hubspot.com/docs/api-reference/crm-contacts-v3/guide, /docs/api-reference/search/guide (5 requests a
second, 200 a page, the first 10,000 results, index lags behind), read 2026-11, documented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    PayloadError,
    UnavailableError,
)
from mappings.from_hubspot import (
    CONTACT_FIELDS,
    CRM,
    contact_from_hubspot,
    moment_from_hubspot,
    raw_ref,
    replies_from_hubspot,
)
from mappings.hubspot_login import HubSpotLogin
from mappings.hubspot_paths import Paths
from mappings.records import Contact, Record, Reply
from mappings.settings import PluginSettings
from mappings.to_hubspot import REPLY_STATUS, datetime_text, property_definitions
from stores.parked import ParkedItem
from taps.base import Check, Checkpoint, OneThreadTap
from taps.hubspot_api import HubSpotAccount, HubSpotReader, login_of, results_of
from taps.hubspot_inbox import InboxReplies

_CONTACTS = "contacts"
_LIST_PAGE = 100
_HISTORY_BATCH = 50
_MOST_SEEN = 10_000
_NEEDED = {"contacts": "crm.objects.contacts.read", "communications": "crm.objects.contacts.read"}


class HubSpotSettings(HubSpotLogin):
    """What to read and how."""

    default_region: str | None = Field(
        None,
        pattern="^[A-Z]{2}$",
        description="Country of phone numbers typed without country code, e.g. GB.",
    )
    overlap_seconds: float = Field(
        300, ge=0, description="Read this much again with each run: HubSpot's search shows changes late."
    )
    deleted_interval_seconds: float = Field(
        3600, ge=0, description="Look for deleted contacts at most this often; it takes a call per 100 of them."
    )
    reply_max_age_days: float = Field(7, gt=0, description="Replies that were queued longer ago are left alone.")
    search_page_size: int = Field(200, ge=1, le=200, description="Contacts per search; HubSpot gives 200.")
    search_interval_seconds: float = Field(
        0.25, ge=0, description="Time between two searches; HubSpot allows five a second for the whole account."
    )
    inbox_route: str = Field(
        "default",
        description="The last part of the webhook's path to which HubSpot posts what agents write in the inbox.",
    )
    fetch_files: bool = Field(
        True,
        description="Fetch the files of agents' answers and keep them encrypted in the state folder; else they are a"
        " link, good for some hours.",
    )
    media_max_bytes: int = Field(25 * 2**20, gt=0, description="Larger files stay a link.")
    media_private_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts (host or host:port) in your own network that files may be fetched from, also without TLS.",
    )


class TapHubSpot(OneThreadTap[HubSpotSettings]):
    """Reads one HubSpot account. Select `contacts`, `replies` or both."""

    name = "tap-hubspot"
    settings_model: ClassVar[type[PluginSettings]] = HubSpotSettings
    record_models: ClassVar[tuple[type[Record], ...]] = (Contact, Reply)

    @cached_property
    def reader(self) -> HubSpotReader:
        """The account."""
        return HubSpotReader(self.settings, self.stores)

    @property
    def paths(self) -> Paths:
        """The API's paths, without opening any store."""
        return Paths(self.settings.api_version)

    @cached_property
    def inbox(self) -> InboxReplies:
        """What agents wrote in its inbox."""

        def park(key: str, error: PayloadError, payload: dict[str, Any]) -> None:
            self.park(Reply.stream, key, error, payload, f"crm:{CRM}/{self.settings.portal_id}/inbox")

        return InboxReplies(self.settings, self.stores, self.reader, park)

    def read(self) -> Iterator[Record | Checkpoint]:
        """Contacts first (replies need their persons), then replies."""
        yield from self.replay(f"crm:{CRM}/{self.settings.portal_id}/", self._parked)
        if Contact.stream in self.selected_streams:
            yield from self._read_contacts()
        if Reply.stream in self.selected_streams and not self.stop_requested:
            yield from self.inbox.read(self.name, int(self.cursor.get("inbox_delivery_id") or 0))
            yield from self._read_replies()

    # Contacts

    def _read_contacts(self) -> Iterator[Record | Checkpoint]:
        if self.cursor.get("contacts_since"):
            yield from self._read_changed()
        else:
            yield from self._read_all()
        if self.cursor.get("contacts_since") and not self.stop_requested:
            yield from self._read_deleted()

    def _read_all(self) -> Iterator[Record | Checkpoint]:
        """Every contact, page by page; what changes meanwhile is read by the next run."""
        began = self.cursor.get("contacts_began_at") or datetime_text(datetime.now(UTC))
        seen = self._seen_contacts()
        after = self.cursor.get("contacts_page")
        while True:
            page = self.reader.list_contacts(after)
            yield from self._contacts(page, seen)
            after = _next_page(page, after)
            if after is None:
                break
            yield Checkpoint({"contacts_began_at": began, "contacts_page": after, **self._noted(seen)})
            if self.stop_requested:
                return
        if seen.newest:
            yield Checkpoint({"contacts_deleted_since": began})
            yield self._contacts_done(seen, began)

    def _read_changed(self) -> Iterator[Record | Checkpoint]:
        """Contacts modified since the last run, in the order of their ids.

        Each search asks for ids above the last one seen, so no search ever reaches result 10,000, however many
        contacts one import stamped with the same moment (github.com/airbytehq/airbyte issue 43317 loops there).
        """
        began = self.cursor.get("contacts_began_at") or datetime_text(datetime.now(UTC))
        seen = self._seen_contacts()
        since = self._with_overlap(self.cursor["contacts_since"])
        changed = [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": _milliseconds(since)}]
        for page, last_id in self._search([changed], CONTACT_FIELDS, self.cursor.get("contacts_last_id")):
            yield from self._contacts(page, seen)
            yield Checkpoint({"contacts_began_at": began, "contacts_last_id": last_id, **self._noted(seen)})
            if self.stop_requested:
                return
        yield self._contacts_done(seen, began)

    def _seen_contacts(self) -> _Seen:
        newest = self.cursor.get("contacts_newest") or self.cursor.get("contacts_since") or ""
        return _Seen(dict(self.cursor.get("contacts_seen") or {}), newest)

    def _noted(self, seen: _Seen) -> dict[str, Any]:
        return {"contacts_newest": seen.newest, "contacts_seen": seen.since(self._with_overlap(seen.newest))}

    def _contacts_done(self, seen: _Seen, began: str) -> Checkpoint:
        """All contacts up to the newest one are read; what changed after the run began may be missing."""
        since = max(min(seen.newest, began), self.cursor.get("contacts_since") or "")
        return Checkpoint(
            {
                "contacts_since": since,
                "contacts_seen": seen.since(self._with_overlap(since)),
                "contacts_began_at": None,
                "contacts_page": None,
                "contacts_last_id": None,
                "contacts_newest": None,
            }
        )

    def _read_deleted(self) -> Iterator[Record | Checkpoint]:
        """Contacts deleted since we looked last. There is no filter for them, so all archived ones are paged."""
        now = datetime.now(UTC)
        looked = moment_from_hubspot(self.cursor["contacts_deleted_since"], "tap-hubspot: contacts_deleted_since")
        if now - looked < timedelta(seconds=self.settings.deleted_interval_seconds):
            return
        since = looked - timedelta(seconds=self.settings.overlap_seconds)
        after = None
        while True:
            page = self.reader.list_contacts(after, archived=True)
            for record in self._contacts(page, _Seen({}, "")):
                if record.modified_at >= since:
                    yield record
            after = _next_page(page, after)
            if after is None or self.stop_requested:
                break
        if after is None:
            yield Checkpoint({"contacts_deleted_since": datetime_text(now)})

    def _contacts(self, page: Mapping[str, Any], seen: _Seen) -> Iterator[Contact]:
        """The contacts of a page that were not seen as they are now."""
        for payload in results_of(page):
            if seen.add(str(payload.get("id")), _modified(payload)):
                contact = self._contact(payload)
                if contact is not None:
                    yield contact

    def _contact(self, payload: Mapping[str, Any]) -> Contact | None:
        try:
            return contact_from_hubspot(
                payload, portal_id=self.settings.portal_id, default_region=self.settings.default_region
            )
        except PayloadError as error:
            self._park(Contact.stream, payload, error)
            return None

    def _parked(self, row: ParkedItem) -> Iterator[Record]:
        """What was put aside, mapped again."""
        if "received_at" in row.payload:
            yield from self.inbox.parked(row.payload)
        elif row.stream == Reply.stream:
            yield from self._replies(row.payload, datetime.now(UTC) - timedelta(days=self.settings.reply_max_age_days))
        elif (contact := self._contact(row.payload)) is not None:
            yield contact

    # Replies

    def _read_replies(self) -> Iterator[Record | Checkpoint]:
        """Replies queued since the last run, from the history of the contacts that may have one.

        Candidates are contacts that are queued now, and those that changed lately and were queued once: the status
        moves on while a reply is sent. Of each contact the moment of the last reply is kept.
        """
        now = datetime.now(UTC)
        not_before = now - timedelta(days=self.settings.reply_max_age_days)
        bookmark = self.cursor.get("replies_since") or ""
        since = max(not_before, self._with_overlap(bookmark)) if bookmark else not_before
        told = dict(self.cursor.get("replies_seen") or {})
        newest = bookmark
        groups = [
            [
                {"propertyName": REPLY_STATUS, "operator": "EQ", "value": "QUEUED"},
                {"propertyName": "lastmodifieddate", "operator": "GTE", "value": _milliseconds(not_before)},
            ],
            [
                {"propertyName": REPLY_STATUS, "operator": "HAS_PROPERTY"},
                {"propertyName": "lastmodifieddate", "operator": "GTE", "value": _milliseconds(since)},
            ],
        ]
        for page, _ in self._search(groups, [REPLY_STATUS, "lastmodifieddate"], None):
            newest = max([newest, *map(_modified, results_of(page))])
            candidates = [str(one["id"]) for one in results_of(page) if "id" in one]
            for start in range(0, len(candidates), _HISTORY_BATCH):
                for payload in self.reader.read_with_history(candidates[start : start + _HISTORY_BATCH]):
                    for reply in self._replies(payload, not_before):
                        moment = datetime_text(reply.written_at)
                        if moment > told.get(reply.record_id, ""):
                            yield reply
                            told[reply.record_id] = moment
            yield Checkpoint({"replies_seen": _Seen(told, "").since(not_before)})
            if self.stop_requested:
                return
        if newest:
            yield Checkpoint({"replies_since": max(bookmark, min(newest, datetime_text(now)))})

    def _replies(self, payload: Mapping[str, Any], not_before: datetime) -> list[Reply]:
        try:
            replies = replies_from_hubspot(
                payload,
                portal_id=self.settings.portal_id,
                not_before=not_before,
                default_region=self.settings.default_region,
            )
            if any(reply.author_name for reply in replies):
                replies = replies_from_hubspot(
                    payload,
                    portal_id=self.settings.portal_id,
                    not_before=not_before,
                    default_region=self.settings.default_region,
                    agent_names=self.reader.agent_names,
                )
        except PayloadError as error:
            self._park(Reply.stream, payload, error)
            return []
        return replies

    # onethread doctor

    def check(self) -> Iterator[Check]:
        """Token and account, what the token may read, our properties, the clock. Changes nothing."""
        yield from super().check()
        try:
            account = self._account_with_token()
            yield from self._check_account(account)
            yield from self._check_access(account)
            yield from self._check_properties(account)
        except CredentialsError as error:
            fix = "set a valid access_token" if self.settings.refresh_token is None else "see the command above"
            yield Check("access token", ok=False, detail=str(error), fix=fix)
        except OneThreadError as error:
            yield Check("HubSpot API", ok=False, detail=str(error), fix="check api_url; try again later")

    def _account_with_token(self) -> HubSpotAccount:
        """Opens the stores for an OAuth app only: its access token is kept there."""
        lasting = self.settings.access_token
        login = None if lasting is not None else login_of(self.settings, self.stores)
        return HubSpotAccount(self.settings, login.access_token() if login else lasting or SecretStr(""))

    def _check_account(self, account: HubSpotAccount) -> Iterator[Check]:
        told = account.fetch_json(self.paths.account_details().lstrip("/"))
        found = str(told.get("portalId")) if isinstance(told, dict) else "unknown"
        yield Check("access token", ok=True, detail="accepted")
        ours = found == self.settings.portal_id
        detail = f"the token is of account {found}" + ("" if ours else f", portal_id says {self.settings.portal_id}")
        yield Check("account", ok=ours, detail=detail, fix="" if ours else "put the right one of the two")
        yield account.check_clock()

    def _check_access(self, account: HubSpotAccount) -> Iterator[Check]:
        for kind, scope in _NEEDED.items():
            try:
                account.fetch_json(self.paths.objects(kind).lstrip("/"), {"limit": 1})
            except CredentialsError:
                yield Check(f"read {kind}", ok=False, detail="refused", fix=f"give the token the scope {scope}")
            else:
                yield Check(f"read {kind}", ok=True, detail="allowed")
        for what, path, without, scope in (
            ("owners", self.paths.owners(), "agents are named by their user id", "crm.objects.owners.read"),
            ("files", self.paths.files("search"), "no file of agents is fetched, none of customers uploaded", "files"),
        ):
            try:
                account.fetch_json(path.lstrip("/"), {"limit": 1})
            except CredentialsError:
                fix = f"give the token the scope {scope}"
                yield Check(f"read {what}", ok=None, detail=f"refused: {without}", fix=fix)
            else:
                yield Check(f"read {what}", ok=True, detail="allowed")

    def _check_properties(self, account: HubSpotAccount) -> Iterator[Check]:
        told = account.fetch_json(self.paths.properties(_CONTACTS).lstrip("/"))
        rows = told.get("results") if isinstance(told, dict) else None
        there = {str(one.get("name")) for one in rows or [] if isinstance(one, dict)}
        missing = [one["name"] for one in property_definitions([]) if one["name"] not in there]
        detail = f"missing: {', '.join(missing)}" if missing else "all set up"
        yield Check("properties", ok=not missing, detail=detail, fix="onethread setup hubspot" if missing else "")

    # Both

    def _search(
        self, groups: Sequence[Sequence[Mapping[str, Any]]], properties: Sequence[str], last_id: str | None
    ) -> Iterator[tuple[Mapping[str, Any], str]]:
        """Pages of contacts that match any of `groups`, by ascending id, each with its last id."""
        position = int(last_id or 0)
        while True:
            above = {"propertyName": "hs_object_id", "operator": "GT", "value": str(position)}
            page = self.reader.search_contacts(
                {
                    "filterGroups": [{"filters": [*filters, above]} for filters in groups],
                    "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
                    "properties": list(properties),
                    "limit": self.settings.search_page_size,
                }
            )
            ids = [int(one["id"]) for one in results_of(page) if str(one.get("id", "")).isdigit()]
            if not ids:
                return
            if max(ids) <= position:
                msg = "HubSpot: POST contacts/search does not move on; the bookmark stays where it is"
                raise UnavailableError(msg)
            position = max(ids)
            yield page, str(position)
            if len(ids) < self.settings.search_page_size:
                return

    def _with_overlap(self, bookmark: str) -> datetime:
        moment = moment_from_hubspot(bookmark, "tap-hubspot: bookmark")
        return moment - timedelta(seconds=self.settings.overlap_seconds)

    def _park(self, stream: str, payload: Mapping[str, Any], error: PayloadError) -> None:
        record_id = str(payload.get("id"))
        self.park(stream, record_id, error, dict(payload), raw_ref(self.settings.portal_id, record_id))


class _Seen:
    """What was read of the time that the next run reads again: record id -> when it was modified."""

    def __init__(self, moments: dict[str, str], newest: str) -> None:
        self._moments = moments
        self.newest = newest

    def add(self, record_id: str, moment: str) -> bool:
        """Note a record; whether it was not noted with that moment before."""
        self.newest = max(self.newest, moment)
        if moment and self._moments.get(record_id) == moment:
            return False
        self._moments[record_id] = moment
        return True

    def since(self, moment: datetime) -> dict[str, str]:
        """Those modified since `moment`, the newest of them: what is left out is read again, which does no harm."""
        first = datetime_text(moment)
        kept = sorted((at, record_id) for record_id, at in self._moments.items() if at >= first)
        self._moments = {record_id: at for at, record_id in kept[-_MOST_SEEN:]}
        return dict(self._moments)


def _next_page(page: Mapping[str, Any], before: str | None) -> str | None:
    paging = page.get("paging")
    following = paging.get("next") if isinstance(paging, dict) else None
    after = following.get("after") if isinstance(following, dict) else None
    if after is None:
        return None
    if str(after) == before:
        msg = "HubSpot: GET contacts gives the same page again; the bookmark stays where it is"
        raise UnavailableError(msg)
    return str(after)


def _modified(payload: Mapping[str, Any]) -> str:
    """When a contact was modified, as text whose order is the order in time; empty when it does not say."""
    properties = payload.get("properties")
    raw = properties.get("lastmodifieddate") if isinstance(properties, dict) else None
    try:
        return datetime_text(moment_from_hubspot(raw, "lastmodifieddate")) if isinstance(raw, str) else ""
    except PayloadError:
        return ""


def _milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))
