"""tap-infobip: what Infobip's webhooks delivered; the SMS inbox, which gives each message out once; conversations.

The inbox (``GET /sms/1/inbox/reports``) forgets what it has handed over: its answer is on disk before anybody tries to
understand it. The Conversations API is the only history; its ids are its own, so what a webhook brought is recognised
there by its words, customer and minute.

Sources: api.infobip.com/platform/1/openapi/{sms,whatsapp,subscriptions-api}, version 3.210.0 (inbox: at most 1000, 48
hours, once; media; profiles), dev.infobip.com/conversations/get-messages (pages, filters), read 2026-11, documented.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, OneThreadError, PayloadError, SettingsError
from mappings.fields import objects_of, optional_object_of, optional_text_of, text_of
from mappings.from_infobip import InfobipContext, records_from_infobip
from mappings.records import Attachment, Message, Record
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.spool import KEEP, Spool, SpoolEntry
from taps.base import Check, Checkpoint
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.infobip_api import InfobipSession, infobip_time
from taps.infobip_words import ToldWords
from taps.webhooks import infobip
from taps.webhooks.items import Item
from taps.webhooks.meta import key_of_content, parse_body

_PAGE = 50
_MOST_READS = 1000
_MINUTE = 60
_OVERLAP = timedelta(minutes=5)
_LATE = timedelta(days=2)
_SENDER = re.compile(r"(sms|whatsapp|viber|apple):(.+)")
_INBOX = "/sms/1/inbox/reports"


class InfobipSettings(DeliverySettings):
    """The settings of tap-infobip."""

    api_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#]+/?$",
        description="Base URL of your account, e.g. https://abc123.api.infobip.com (portal, API keys).",
    )
    api_key: SecretStr | None = Field(
        None, description="API key, for the inbox, for conversations, for files and for `onethread doctor`."
    )
    senders: list[str] = Field(
        default_factory=list,
        description='Our senders by channel, e.g. ["sms:+447700900990", "whatsapp:+447700900990", "viber:Shop"]: '
        "reports do not say their channel, and those of WhatsApp not even the sender.",
    )
    report_channel: Literal["sms", "whatsapp", "viber", "apple"] | None = Field(
        None, description="The channel of reports on this route, where one number is used on several channels."
    )
    portfolio_id: str | None = Field(
        None, description="WhatsApp: the Meta business portfolio, which scopes user ids. Default: our own number does."
    )
    default_region: str | None = Field(
        None, pattern=r"^[A-Z]{2}$", description="Country of phones on contact cards without country code, e.g. GB."
    )
    inbox: bool = Field(
        False,
        description="Read the SMS inbox. It hands each message out once, to whoever asks first: leave it off where "
        "messages are forwarded by webhook, or where another program reads it.",
    )
    inbox_limit: int = Field(1000, ge=1, le=1000, description="Messages per read of the inbox.")
    conversations: bool = Field(
        False, description="Read the Conversations API: its history, and what no webhook brought (needs that product)."
    )
    history_days: float = Field(
        1, ge=0, le=365, description="How far back the very first look at conversations reaches."
    )
    settle_minutes: float = Field(
        15, ge=0, le=1440, description="Messages of the last minutes are left to their webhook."
    )
    page_size: int = Field(200, ge=1, le=999, description="Rows per page of the Conversations API.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        wrong = [one for one in self.senders if not _SENDER.fullmatch(one)]
        if wrong:
            msg = f"senders: {len(wrong)} of them do not begin with sms:, whatsapp:, viber: or apple:"
            raise ValueError(msg)
        if (self.inbox or self.conversations) and not self.asks:
            msg = "inbox and conversations need api_url and api_key"
            raise ValueError(msg)
        return self

    @property
    def asks(self) -> bool:
        """Whether the API can be asked."""
        return self.api_url is not None and self.api_key is not None

    @property
    def named_senders(self) -> tuple[tuple[str, str], ...]:
        """(channel, sender) of each."""
        matches = [_SENDER.fullmatch(one) for one in self.senders]
        return tuple((match.group(1), match.group(2)) for match in matches if match)


class TapInfobip(DeliveryTap[InfobipSettings]):
    """Reads one route of Infobip's webhooks, and the account's inbox and conversations if asked to."""

    name = "tap-infobip"
    platform = "infobip"
    settings_model = InfobipSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pending = 0

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.infobip.split`."""
        del headers
        return infobip.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_infobip`."""
        context = InfobipContext(
            received_at=received_at,
            raw_ref=raw_ref,
            portfolio_id=self.settings.portfolio_id,
            default_region=self.settings.default_region,
            report_channel=self.settings.report_channel,
            senders=self.settings.named_senders,
            keywords=self.keywords,
        )
        return records_from_infobip(item, context)

    def account_of(self, item: Item) -> object:
        """The address that the event came to, or that a report is about; ids are Infobip's own."""
        result = item.payload.get("result")
        return result.get("to") if isinstance(result, dict) else None

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; compared with what conversations told, when those are read as well."""
        message = next((one for one in outcome.records if isinstance(one, Message)), None)
        if message is not None and self.settings.conversations and outcome.item.kind == "message":
            if self._words.was_told(message, outcome.item.key):
                self.ignored["message that conversations had told"] += 1
                return
            words = Sighting(self._words.key(message), "history:words", outcome.raw_ref, 0, message.sent_at)
            Items(self.stores).claim(self.platform, [words])
        yield from super().emit(outcome)

    # Files

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """The file; WhatsApp's are at Infobip's API, which wants the key, and nobody else gets it."""
        del message
        if attachment.url is None:
            return None
        own, host = urlsplit(self.settings.api_url or "").hostname, urlsplit(attachment.url).hostname or ""
        key = self.settings.api_key
        if key is None or own is None or not (host == own or host.endswith(".api.infobip.com")):
            return MediaRequest(attachment.url)
        return MediaRequest(
            attachment.url,
            headers={"Authorization": f"App {key.get_secret_value()}"},
            hosts=frozenset({host, ".infobip.com"}),
        )

    # Polling

    @cached_property
    def api(self) -> InfobipSession:
        """Infobip's API with our key."""
        return InfobipSession(self.settings.api_url or "", self.settings.api_key or SecretStr(""))

    @cached_property
    def _taken_by_the_target(self) -> int:
        """The bookmark that this process was given: only up to there are records known to be with the target."""
        return int(self.cursor.get("spool_id", 0))

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The inbox, then the conversations, as far as they are switched on."""
        spool, route = Spool(self.stores), self.settings.route
        last, after = spool.last_id(self.platform, route), self._taken_by_the_target
        if 0 < last < after:
            msg = f"{self.name}: the state folder is not the one that the bookmark is of. Run once with --full-refresh"
            raise SettingsError(msg)
        if self.settings.inbox or last > after:
            yield from self._poll_inbox(spool, items)
        if self.settings.conversations and not self.stop_requested:
            yield from self._poll_conversations(items)

    def _poll_inbox(self, spool: Spool, items: Items) -> Iterator[Record | Checkpoint]:
        """What the inbox holds: stored as it came, and only then read."""
        route = self.settings.route
        spool.forget(self.platform, route, self._taken_by_the_target, self.now() - KEEP)
        yield from self._read_spool(spool, items)
        reads = 0
        while self.settings.inbox and not self.stop_requested and reads < _MOST_READS:
            body = self.api.fetch_bytes(_INBOX, {"limit": self.settings.inbox_limit})
            reads += 1
            count, self.pending = _counted(body)
            if count == 0:
                break
            key = hashlib.sha256(body).hexdigest()
            spool.add(self.platform, route, [(key, {"base64": base64.b64encode(body).decode()})])
            yield from self._read_spool(spool, items)
            if count is None or not self.pending:
                break
        if self.pending:
            self.logger.warning("the inbox still holds %d messages; the next run goes on with them", self.pending)

    def _read_spool(self, spool: Spool, items: Items) -> Iterator[Record | Checkpoint]:
        """The records of what was stored after the bookmark."""
        route, after = self.settings.route, int(self.cursor.get("spool_id", 0))
        while page := spool.read(self.platform, route, after, _PAGE):
            for entry in page:
                outcomes = self._spooled(entry)
                answers = items.claim_polled(
                    self.platform,
                    [
                        Sighting(
                            self.item_key(self.account_of(one.item), self.identity_of(one.item)),
                            # The inbox has what was not forwarded, so nothing in it was missed by a webhook.
                            f"history:{one.item.kind}",
                            one.raw_ref,
                            entry.spool_id,
                        )
                        for one in outcomes
                    ],
                )
                for outcome, unseen in zip(outcomes, answers, strict=True):
                    if unseen:
                        yield from self.emit(outcome)
                    else:
                        self.repeats += 1
                after = entry.spool_id
                yield Checkpoint({"spool_id": after})
                if self.stop_requested:
                    return

    def _spooled(self, entry: SpoolEntry) -> list[Outcome]:
        body, raw_ref = base64.b64decode(entry.payload["base64"]), f"spool:{entry.spool_id}"
        try:
            found = self.split(body, {})
        except PayloadError as error:
            self._park_body(body, {}, entry.added_at, raw_ref, error)
            return []
        return [self.outcome(item, entry.added_at, f"{raw_ref}#{item.index}") for item in found]

    def _poll_conversations(self, items: Items) -> Iterator[Record | Checkpoint]:
        """The messages of every conversation that changed since the last look; a look that was cut off goes on."""
        number = int(self.cursor.get("poll_pass", 0)) + 1
        told = optional_text_of(self.cursor, "look_began", "cursor")
        began = datetime.fromisoformat(told) if told else self.now()
        last = optional_text_of(self.cursor, "looked_to", "cursor")
        since = datetime.fromisoformat(last) if last else began - timedelta(days=self.settings.history_days)
        since -= _OVERLAP + timedelta(minutes=self.settings.settle_minutes)
        page = int(self.cursor.get("look_page", 0)) if told else 0
        limit = self.settings.page_size
        changed = {"updatedAfter": infobip_time(since)}
        for number_of_page, rows in self.api.pages(
            "/ccaas/1/conversations", "conversations", changed, page=page, limit=limit
        ):
            for row in rows:
                path = f"/ccaas/1/conversations/{quote(text_of(row, 'id', 'Infobip conversations'), safe='')}/messages"
                created = {"createdAfter": infobip_time(since)}
                for _, messages in self.api.pages(path, "messages", created, page=0, limit=limit):
                    yield from self._news(messages, items, number, began)
            yield Checkpoint({"look_began": began.isoformat(), "look_page": number_of_page + 1})
            if self.stop_requested:
                return
        done = {"poll_pass": number, "looked_to": began.isoformat()}
        yield Checkpoint({**done, "look_began": None, "look_page": None})

    def _news(self, rows: list[dict[str, Any]], items: Items, number: int, began: datetime) -> Iterator[Record]:
        """The records of those messages that nobody had: what we sent, and what no webhook brought."""
        raw_ref, settled = f"poll:{number}", began - timedelta(minutes=self.settings.settle_minutes)
        found: list[tuple[Outcome, Message | None]] = []
        for row in rows:
            row_id = row.get("id")
            key = f"message:{row_id}" if isinstance(row_id, str) else key_of_content("message", row)
            outcome = self.outcome(Item(0, "conversation_message", {"result": row}, key), self.now(), raw_ref)
            message = next((one for one in outcome.records if isinstance(one, Message)), None)
            message = message if message is not None and message.direction == "inbound" else None
            if (
                message is None
                or not self._is_brought
                or (message.sent_at <= settled and not self._words.came(message, items))
            ):
                found.append((outcome, message))
        counted = self._receives and self.cursor.get("looked_to") is not None
        sightings = [
            Sighting(
                self.item_key(self.account_of(outcome.item), self.identity_of(outcome.item)),
                "message" if message is not None and counted else "history:message",
                raw_ref,
                number,
                message.sent_at if message else None,
            )
            for outcome, message in found
        ]
        answers = items.claim_polled(self.platform, sightings)
        news = [one for one, unseen in zip(found, answers, strict=True) if unseen]
        self._words.note([message for _, message in news if message is not None])
        for outcome, message in news:
            self.missed += message is not None and counted
            yield from super().emit(outcome)

    @cached_property
    def _words(self) -> ToldWords:
        return ToldWords(self.stores, self.settings.route, self.now)

    @property
    def _is_brought(self) -> bool:
        """Whether messages come by another way as well, so that they must be compared."""
        return self._receives or self.settings.inbox

    # Doctor

    def check(self) -> Iterator[Check]:
        """Whether the key is taken, what it may read, where webhooks go, how they prove themselves, and the clock."""
        yield from super().check()
        if not self.settings.asks:
            yield Check("API key", None, "no api_url and api_key: Infobip was not asked", "Set both.")
            return
        try:
            # Not the inbox: to look into it is to empty it.
            self.api.fetch_object("/sms/3/logs", {"limit": 1})
            yield Check("API key", True, "taken; it tells no end")
        except CredentialsError as error:
            yield Check("API key", False, str(error), "Make a key in the portal, with the scopes on the page.")
            return
        except OneThreadError as error:
            yield Check("API", False, str(error), "Check api_url and the network.")
            return
        yield self.api.check_clock(self.now())
        if self.settings.conversations:
            yield self._may_read_conversations()
        yield from self._webhooks()
        if self.settings.inbox:
            detail = "is emptied by each run, and by every other program that reads it"
            yield Check("inbox", None, detail, "Let one program read it, and forward nothing to it.")

    def _may_read_conversations(self) -> Check:
        try:
            self.api.fetch_object("/ccaas/1/conversations", {"limit": 1, "page": 0})
        except OneThreadError as error:
            return Check("conversations", False, str(error), "Give the key the scope, or set conversations to false.")
        return Check("conversations", True, "can be read")

    def _webhooks(self) -> Iterator[Check]:
        """The notification profiles whose address is ours."""
        route = self.settings.route
        wanted = "/webhooks/infobip" + ("" if route == "default" else f"/{route}")
        try:
            profiles = objects_of(
                self.api.fetch_object("/subscriptions/1/profiles", {"size": 100}), "results", "Infobip profiles"
            )
            ours = [one for one in profiles if _path_of(one).endswith(wanted)]
        except OneThreadError as error:
            yield Check("webhook", None, str(error), "Give the key the scope for subscriptions.")
            return
        if not ours:
            fix = f"A number's own forwarding is not told here; else make a profile to https://<your host>{wanted}."
            yield Check("webhook", None, "no notification profile posts here", fix)
        for one in ours:
            security = optional_object_of(one, "security", "Infobip profiles")
            proves = bool(security) or bool(one.get("headers")) or bool(one.get("clientCertificateId"))
            detail = "posts here" if proves else "posts here without any proof of where it comes from"
            yield Check(
                "webhook", proves, detail, "" if proves else "Add a security setting or a header to the profile."
            )


def _path_of(profile: Mapping[str, Any]) -> str:
    webhook = optional_object_of(profile, "webhook", "Infobip profiles") or {}
    return urlsplit(optional_text_of(webhook, "notifyUrl", "Infobip profiles") or "").path.rstrip("/")


def _counted(body: bytes) -> tuple[int | None, int]:
    """How many results an answer of the inbox has, and how many wait; ``None`` when it cannot be read."""
    try:
        whole = parse_body(body)
    except PayloadError:
        return None, 0
    results, pending = whole.get("results"), whole.get("pendingMessageCount")
    if not isinstance(results, list):
        return None, 0
    return len(results), pending if isinstance(pending, int) and not isinstance(pending, bool) else 0


if __name__ == "__main__":
    TapInfobip.cli()
