"""Conversations as threads of HubSpot's inbox, by its custom channels: one channel per platform, one account per ours.

A message is one call: there is no batch. It is published under an idempotency id that is made of its key, so it can be
sent again after any failure. A thread stays with its contact in HubSpot; after a merge of persons its next messages
name the other contact.

Source: developers.hubspot.com/docs/api-reference/2026-03/conversations/custom-channels/guide and hubspot-sdk 0.1.0a9,
read 2026-11, documented. That the same idempotency id answers with the same message: assumed; the ledger asks for each
message once in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mappings.errors import OneThreadError, PayloadError, SettingsError
from mappings.hubspot_files import inbox_attachments
from mappings.ids import reply_key
from mappings.records import ArchivedMessage
from mappings.to_hubspot import (
    INBOX_RANKS,
    inbox_message,
    inbox_of_reply,
    inbox_record,
    inbox_status_of,
)
from stores.control import Facts
from stores.database import Stores
from stores.ledger import Ledger, LedgerMessage
from targets.hubspot.answers import Answer, Input, object_in, rejected
from targets.hubspot.api import HubSpotApi
from targets.hubspot.files import Files
from targets.hubspot.links import Links
from targets.hubspot.places import INBOX, Place, place_of
from targets.hubspot.settings import HubSpotTargetSettings

PUBLISHED = "PUBLISHED"
"""What the ledger says of the reply key of a message that we published: no agent wrote it; see `taps.hubspot_inbox`."""


def channel_fact(portal_id: str, channel: str, account: str | None = None) -> str:
    """Under which name `stores.control.Facts` keeps the id of a custom channel, or of our account in it."""
    return ":".join(filter(None, ("hubspot", portal_id, "inbox", channel, account)))


class Inbox:
    """The inbox of one HubSpot account. Called under the account's create-lock."""

    def __init__(
        self,
        api: HubSpotApi,
        ledger: Ledger,
        links: Links,
        files: Files,
        stores: Stores,
        settings: HubSpotTargetSettings,
        count: Callable[[str, int], None],
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._links = links
        self._files = files
        self._facts = Facts(stores)
        self._settings = settings
        self._count = count

    # Which messages

    def takes(self, message: ArchivedMessage) -> bool:
        """Whether a message that is nowhere yet belongs into the inbox."""
        if message.channel not in self._settings.inbox_channels:
            return False
        oldest = datetime.now(UTC) - timedelta(days=self._settings.inbox_history_days)
        return message.sent_at >= oldest and message.unsent_at is None

    def has_or_takes(self, message: ArchivedMessage) -> bool:
        """Whether a message that the ledger does not know belongs into the inbox, or is there."""
        return self.place_of_reply(message) is not None or self.takes(message)

    def place_of_reply(self, message: ArchivedMessage) -> Place | None:
        """Where the agent who wrote this message in the inbox already has it."""
        if message.direction == "inbound" or not message.reply_key:
            return None
        try:
            found = inbox_of_reply(message.reply_key, self._settings.portal_id)
        except PayloadError:  # another program's key: then no agent wrote it here
            return None
        return Place(INBOX, found[1], found[0]) if found else None

    # Writing

    def publish(self, messages: Sequence[tuple[ArchivedMessage, LedgerMessage]]) -> dict[str, OneThreadError]:
        """Publish messages, oldest first, each with its row for the ledger; message key -> why it is not there."""
        refused: dict[str, OneThreadError] = {}
        for message, entry in sorted(messages, key=lambda one: (one[0].sent_at, one[0].message_key)):
            channel_id = self._channel_id(message.channel)
            account_id = self._account_id(channel_id, message.channel, message.account)
            body = inbox_message(message, entry.contact_id or "", account_id, self._files.link)
            body["attachments"] = inbox_attachments(message, self._files.of(message) or {})
            if message.direction == "outbound":
                # HubSpot may tell our own webhook of it before it answers; the tap then finds this note.
                kept = {**(entry.kept or {}), INBOX: self._ledger.fingerprint(body["text"])}
                self._ledger.save_messages([replace(entry, state="intended", kept=kept)])
            answer, contact_id = self._send(channel_id, body, entry.contact_id or "")
            if body["attachments"] and 400 <= answer.status < 500:
                # The words count more than the files.
                self._files.refused(rejected("POST custom-channels/messages", answer.status, answer.body))
                self._files.withdraw(message)
                answer, contact_id = self._send(channel_id, {**body, "attachments": []}, entry.contact_id or "")
            if not answer.ok or "id" not in answer.body:
                self._ledger.forget_messages([entry.message])
                refused[message.message_key] = rejected("POST custom-channels/messages", answer.status, answer.body)
                continue
            self._save(answer, channel_id, replace(entry, contact_id=contact_id))
        return refused

    def _send(self, channel_id: str, body: Input, contact_id: str) -> tuple[Answer, str]:
        """The answer, and the contact that it was published for: a survivor, where the contact was merged away."""
        path = self._api.paths.channels(channel_id, "messages")
        answer = self._api.call("POST", path, "custom-channels/messages", body=body)
        if answer.ok or not contact_id:
            return answer, contact_id
        survivor = self._links.survivors([contact_id])[contact_id]
        if survivor in {None, contact_id}:
            return answer, contact_id
        again = {**body, "associateWithContactId": int(survivor or 0)}
        return self._api.call("POST", path, "custom-channels/messages", body=again), survivor or contact_id

    def _save(self, answer: Answer, channel_id: str, entry: LedgerMessage) -> None:
        message_id = str(answer.body["id"])
        key = reply_key("hubspot", self._settings.portal_id, inbox_record(channel_id), message_id)
        with self._ledger.transaction():
            self._ledger.save_messages([replace(entry, record_id=Place(INBOX, message_id, channel_id).text)])
            self._ledger.save_note(key, PUBLISHED)
        self._count("messages published", 1)
        if answer.body.get("truncationStatus") not in {None, "NOT_TRUNCATED"}:
            self._count("messages cut short by HubSpot", 1)

    def adopt(self, message: ArchivedMessage, entry: LedgerMessage, place: Place) -> None:
        """Note that an agent's own reply is in the inbox already; no call."""
        del message
        self._ledger.save_messages([replace(entry, record_id=place.text)])
        self._count("replies from the inbox recognised", 1)

    def follow(self, message: ArchivedMessage, entry: LedgerMessage, row: LedgerMessage) -> OneThreadError | None:
        """Tell what became of a message that is in the inbox: its status is all that can be changed there."""
        status = inbox_status_of(message)
        failed = None
        if message.unsent_at is not None:  # its words stay in the thread, its files need not
            self._files.withdraw(message)
        if status is not None and row.record_id is not None and not message.reply_key:
            told = {"statusType": status}
            if status == "FAILED":
                told["errorMessage"] = message.status_reason or "The platform did not take it."
            failed = self.tell(place_of(row.record_id), told)
        elif status is None:
            self._count("changes that the inbox cannot show", 1)
        if failed is None:
            self._ledger.save_messages(
                [replace(entry, record_id=row.record_id, contact_id=row.contact_id, person_id=row.person_id)]
            )
        return failed

    def tell(self, place: Place, told: Mapping[str, str]) -> OneThreadError | None:
        """Set the status of an inbox message, unless it got further already; why it could not be set."""
        key = reply_key("hubspot", self._settings.portal_id, inbox_record(place.channel_id or ""), place.record_id)
        mark = f"inbox status {key}"
        before = self._ledger.note(mark)
        if INBOX_RANKS.get(before or "", 0) >= INBOX_RANKS[told["statusType"]]:
            return None
        path = self._api.paths.channels(place.channel_id or "", "messages", place.record_id)
        answer = self._api.call("PATCH", path, "custom-channels/messages/id", body=dict(told))
        if not answer.ok:
            return rejected("PATCH custom-channels/messages/id", answer.status, answer.body)
        self._ledger.save_note(mark, told["statusType"])
        self._count("statuses told in the inbox", 1)
        return None

    def erase(self, places: Sequence[Place]) -> None:
        """Put the threads of these messages into the inbox's bin. A thread that is not there is no error.

        HubSpot removes a thread for good 30 days later, and at once with a contact that is deleted for privacy: both
        assumed (no page says so); the custom channels API has no way to delete a message.
        """
        threads: set[str] = set()
        for place in places:
            path = self._api.paths.channels(place.channel_id or "", "messages", place.record_id)
            answer = self._api.call("GET", path, "custom-channels/messages/id")
            if answer.ok and "conversationsThreadId" in answer.body:
                threads.add(str(answer.body["conversationsThreadId"]))
            elif not answer.ok and answer.status != 404:
                raise rejected("GET custom-channels/messages/id", answer.status, answer.body)
        for thread_id in sorted(threads):
            answer = self._api.call("DELETE", self._api.paths.thread(thread_id), "conversations/threads/id")
            if not answer.ok and answer.status != 404:
                raise rejected("DELETE conversations/threads/id", answer.status, answer.body)

    # Channels and accounts

    def _channel_id(self, channel: str) -> str:
        found = self._facts.load(channel_fact(self._settings.portal_id, channel))
        if not found:
            msg = (
                f"target-hubspot: the inbox of account {self._settings.portal_id} has no channel for {channel};"
                " run `onethread setup hubspot`"
            )
            raise SettingsError(msg)
        return str(found)

    def _account_id(self, channel_id: str, channel: str, account: str) -> str:
        fact = channel_fact(self._settings.portal_id, channel, account)
        found = self._facts.load(fact)
        if not found:
            found = ensure_account(self._api, self._settings, channel_id, channel, account)[0]
            self._facts.save(fact, found)
        return str(found)


def ensure_account(
    api: HubSpotApi, settings: HubSpotTargetSettings, channel_id: str, channel: str, account: str
) -> tuple[str, bool]:
    """The id of our account in a custom channel, and whether it was made now; one that is there is found again."""
    path = api.paths.channels(channel_id, "channel-accounts")
    for one in all_pages(api, path, "custom-channels/channel-accounts"):
        if object_in(one.get("deliveryIdentifier")).get("value") == account and one.get("archived") is not True:
            return str(one["id"]), False
    body = {
        "inboxId": settings.inbox_id,
        "name": settings.inbox_accounts.get(f"{channel}:{account}", account),
        "authorized": True,
        "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": account},
    }
    answer = api.call("POST", path, "custom-channels/channel-accounts", body=body)
    if not answer.ok or "id" not in answer.body:
        raise rejected("POST custom-channels/channel-accounts", answer.status, answer.body)
    return str(answer.body["id"]), True


def all_pages(api: HubSpotApi, path: str, endpoint: str) -> list[Input]:
    """Everything on a list, page by page; stops where a page repeats itself."""
    found: list[Input] = []
    after: str | None = None
    while True:
        query = {"limit": "100", **({"after": after} if after else {})}
        answer = api.call("GET", path, endpoint, query=query)
        if not answer.ok:
            raise rejected(f"GET {endpoint}", answer.status, answer.body)
        found += [one for one in answer.listed("results") if "id" in one]
        following = object_in(object_in(answer.body.get("paging")).get("next")).get("after")
        if not following or str(following) == after:
            return found
        after = str(following)
