"""tap-telegram: what a bot's webhook delivered, or what its queue of updates holds. One of both, never both.

Telegram has no history, only a queue of 24 hours that forgets what it handed out: ``getUpdates`` with an offset deletes
everything below it. So an update is written to the spool, on disk, before the next call confirms it, and records are
made from the spool, whose ids are the bookmark. No offset outlives a run: a run begins with whatever is unconfirmed,
and what an interrupted one had stored already is found in the spool by its key.

Sources: core.telegram.org/bots/api (Bot API 10.1 of 2026-06-11, documented, read 2026-11) and
github.com/tdlib/telegram-bot-api @01a3679 (texts of the conflicts, the three seconds between two equal calls, update
numbers that start anew; observed in the code).
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import (
    CredentialsError,
    MissingFieldError,
    OneThreadError,
    PayloadError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.fields import objects_of, optional_text_of
from mappings.from_telegram import TelegramContext, migration_of, records_from_telegram
from mappings.from_telegram.codes import IGNORED
from mappings.records import Attachment, Consent, Evidence, Message, MessageChange, Record
from stores.control import Facts
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.spool import KEEP, Spool, SpoolEntry
from taps.base import Check, Checkpoint
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.telegram_api import BotSession, WebhookActiveError
from taps.webhooks import telegram
from taps.webhooks.items import Item
from taps.webhooks.meta import key_of_content

WANTED = tuple(name for name in telegram.UPDATES if name not in IGNORED)
"""What we ask Telegram to tell. Reactions are told only when they are named."""

_TOKEN = re.compile(r"([0-9]{1,20}):[A-Za-z0-9_-]{1,100}")
_PAGE = 100
# While following; a shorter wait is made three seconds by Telegram, a longer one would keep the pipe silent.
_LONG_POLL_SECONDS = 3
_LARGEST_FILE_BYTES = 20 * 1000 * 1000
_RECENT = timedelta(hours=24)


class TelegramSettings(DeliverySettings):
    """The settings of tap-telegram."""

    mode: Literal["webhook", "poll"] = Field(
        "webhook",
        description="Where updates come from: `webhook` reads what `onethread receive` stored, `poll` asks Telegram "
        "(getUpdates). A bot has one of both: while a webhook is set, Telegram refuses to be asked.",
    )
    bot_token: SecretStr | None = Field(
        None,
        description="The bot's token, from @BotFather. Needed for `poll`, for files and for `onethread doctor`.",
    )
    bot_id: str | None = Field(
        None,
        pattern=r"^[0-9]{1,20}$",
        description="The bot's number: it is part of every key. Default: the digits before the colon of bot_token.",
    )
    default_region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="Country of phone numbers that customers type without country code on contact cards, e.g. GB. "
        "Numbers that Telegram knows never need it.",
    )
    api_url: str = Field(
        "https://api.telegram.org", pattern=r"^https?://[^/?#]+", description="Base URL of the Bot API."
    )

    @model_validator(mode="after")
    def _names_the_bot(self) -> Self:
        token = self.bot_token.get_secret_value() if self.bot_token else None
        match = _TOKEN.fullmatch(token) if token is not None else None
        if token is not None and match is None:
            msg = "bot_token is not a bot's token (digits, a colon, letters)"
        elif match and self.bot_id not in {None, match.group(1)}:
            msg = "bot_id is not the number in bot_token: they are of two bots"
        elif self.mode == "poll" and token is None:
            msg = "mode poll needs bot_token"
        elif token is None and self.bot_id is None:
            msg = "bot_token or bot_id is needed: an update does not say whose it is"
        else:
            return self
        raise ValueError(msg)

    @property
    def account(self) -> str:
        """The bot's number."""
        token = self.bot_token.get_secret_value() if self.bot_token else ""
        return self.bot_id or token.partition(":")[0]


class TapTelegram(DeliveryTap[TelegramSettings]):
    """Reads one bot: the route of its webhook, or its queue."""

    name = "tap-telegram"
    platform = "telegram"
    settings_model = TelegramSettings
    # A bot is told nothing of delivery or reading.
    record_models = (Message, MessageChange, Consent, Evidence)

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.telegram.split`; remembers which group became which supergroup."""
        del headers
        items = telegram.split(body)
        for item in items:
            self._note_migration(item)
        return items

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_telegram`."""
        context = TelegramContext(
            received_at=received_at,
            raw_ref=raw_ref,
            bot_id=self.settings.account,
            moved=self._moved,
            default_region=self.settings.default_region,
            keywords=self.keywords,
            seen_by="poll" if raw_ref.startswith("spool:") else "webhook",
        )
        return records_from_telegram(item, context)

    def account_of(self, item: Item) -> object:
        """The bot."""
        del item
        return self.settings.account

    # Groups that moved

    @cached_property
    def _moved(self) -> dict[str, str]:
        """Supergroup -> the group that it was, as far as the bot was told."""
        found = Facts(self.stores).load(self._moved_name)
        return dict(found) if isinstance(found, dict) else {}

    @property
    def _moved_name(self) -> str:
        return f"telegram:{self.settings.account}:moved"

    def _note_migration(self, item: Item) -> None:
        found = migration_of(item)
        if found is not None and self._moved.get(found[0]) != found[1]:
            self._moved[found[0]] = found[1]
            Facts(self.stores).save(self._moved_name, self._moved)

    # Polling

    @cached_property
    def api(self) -> BotSession:
        """The Bot API with our token."""
        return BotSession(self.settings.api_url, self.settings.bot_token or SecretStr(""))

    @cached_property
    def _taken_by_the_target(self) -> int:
        """The bookmark that this process was given: only up to there are records known to be with the target."""
        return int(self.cursor.get("spool_id", 0))

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """What the queue holds, and with ``follow_seconds`` what comes into it meanwhile."""
        if self.settings.mode != "poll":
            return
        spool, route = Spool(self.stores), self.settings.route
        spool.forget(self.platform, route, self._taken_by_the_target, self.now() - KEEP)
        after = int(self.cursor.get("spool_id", 0))
        self._check_spool(0 < spool.last_id(self.platform, route) < after)
        deadline = time.monotonic() + self.settings.follow_seconds
        offset: int | None = None
        while True:
            after = yield from self._read_spool(spool, items, after)
            if self.stop_requested:
                return
            wait = max(0, min(_LONG_POLL_SECONDS, math.ceil(deadline - time.monotonic())))
            if wait:  # what was read must not wait with us
                yield Checkpoint({"spool_id": after}, heartbeat=True)
            updates = self._fetch_updates(offset, wait)
            if updates:
                # From here on they are ours: on disk before the next call tells Telegram to delete them.
                new = spool.add(self.platform, route, [(key_of_content(str(n), one), one) for n, one in updates])
                self._check_spool(bool(new) and spool.last_id(self.platform, route) <= after)
                offset = max(number for number, _ in updates) + 1
            elif time.monotonic() >= deadline:
                return

    def _fetch_updates(self, offset: int | None, wait_seconds: int) -> list[tuple[int, dict[str, Any]]]:
        """(number, update) of the oldest unconfirmed updates; `offset` confirms, and so deletes, those below it."""
        parameters = {"limit": _PAGE, "timeout": wait_seconds, "allowed_updates": json.dumps(WANTED)}
        if offset is not None:
            parameters["offset"] = offset
        try:
            found = objects_of({"result": self.api.ask("getUpdates", **parameters)}, "result", "Telegram updates")
        except WebhookActiveError:
            msg = (
                f"Telegram: the webhook to {self._webhook_host()} is active, so this bot cannot be polled. Set mode to "
                "webhook and receive it (onethread receive), or remove the webhook (deleteWebhook) to go on polling"
            )
            raise SettingsError(msg) from None
        numbers = [one.get("update_id") for one in found]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
            msg = "Telegram updates: an update has no number, so that it could not be confirmed"
            raise MissingFieldError(msg)
        return list(zip(numbers, found, strict=True))  # type: ignore[arg-type]  # just checked

    def _webhook_host(self) -> str:
        try:
            url = optional_text_of(self.api.ask("getWebhookInfo"), "url", "Telegram webhook")
        except OneThreadError:
            return "an address that Telegram does not tell"
        return urlsplit(url or "").hostname or "an address that is gone meanwhile"

    def _check_spool(self, begun_anew: bool) -> None:
        """Raise `SettingsError` when ids of the spool began anew below the bookmark: they would never be read."""
        if begun_anew:
            msg = f"{self.name}: the state folder is not the one that the bookmark is of. Run once with --full-refresh"
            raise SettingsError(msg)

    def _read_spool(self, spool: Spool, items: Items, after: int) -> Generator[Record | Checkpoint, None, int]:
        """The records of what was spooled after that id; returns the last id."""
        while page := spool.read(self.platform, self.settings.route, after, _PAGE):
            outcomes = [(entry.spool_id, outcome) for entry in page for outcome in self._spooled(entry)]
            answers = items.claim_polled(
                self.platform,
                [
                    Sighting(
                        self.item_key(self.account_of(one.item), self.identity_of(one.item)),
                        # The queue is the only source here, so nothing in it was missed by a webhook.
                        f"history:{one.item.kind}",
                        one.raw_ref,
                        spool_id,
                    )
                    for spool_id, one in outcomes
                ],
            )
            for (_, outcome), unseen in zip(outcomes, answers, strict=True):
                if unseen:
                    yield from self.emit(outcome)
                else:
                    self.repeats += 1
            after = page[-1].spool_id
            yield Checkpoint({"spool_id": after})
            if self.stop_requested:
                break
        return after

    def _spooled(self, entry: SpoolEntry) -> list[Outcome]:
        body, raw_ref = json.dumps(entry.payload).encode(), f"spool:{entry.spool_id}"
        try:
            found = self.split(body, {})
        except PayloadError as error:
            self._park_body(body, {}, entry.added_at, raw_ref, error)
            return []
        return [self.outcome(item, entry.added_at, f"{raw_ref}#{item.index}") for item in found]

    # Files

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """The file's present address, asked for by its id. It holds the token and is gone in an hour: never stored."""
        del message
        token, file_id = self.settings.bot_token, attachment.platform_media_id
        if token is None or file_id is None or (attachment.size_bytes or 0) > _LARGEST_FILE_BYTES:
            return None
        answer = self.api.ask("getFile", file_id=file_id)
        path = optional_text_of(answer, "file_path", "Telegram file") if isinstance(answer, dict) else None
        if path is None or path.startswith("/") or ".." in path.split("/"):
            msg = "Telegram file: file_path is missing or no path of the Bot API (a local server's is not supported)"
            raise MissingFieldError(msg)
        base = self.settings.api_url.rstrip("/")
        return MediaRequest(
            f"{base}/file/bot{token.get_secret_value()}/{quote(path)}",
            hosts=frozenset({urlsplit(base).hostname or ""}),
        )

    # Health

    def check(self) -> Iterator[Check]:
        """The token and whose it is, what the bot may see, who has its updates, and the clock."""
        yield from super().check()
        if self.settings.bot_token is None:
            yield Check("bot token", ok=None, detail="not set: Telegram was not asked", fix="set bot_token")
            return
        try:
            bot, webhook = self.api.ask("getMe"), self.api.ask("getWebhookInfo")
            if not isinstance(bot, dict) or not isinstance(webhook, dict):
                msg = "Telegram: getMe or getWebhookInfo gave no object"
                raise MissingFieldError(msg)
            name = optional_text_of(bot, "username", "Telegram bot") or "without a username"
            yield Check("bot token", ok=True, detail=f"of bot {self.settings.account} ({name}); it has no end")
            yield from _check_bot(bot)
            yield from self._check_updates(webhook)
        except CredentialsError as error:
            yield Check("bot token", ok=False, detail=str(error), fix="get the token from @BotFather, set bot_token")
            return
        except (RateLimitedError, UnavailableError, RejectedError, PayloadError, SettingsError) as error:
            yield Check("Bot API", ok=False, detail=str(error), fix="check api_url and the network")
            return
        yield self.api.check_clock(self.now())

    def _check_updates(self, webhook: Mapping[str, Any]) -> Iterator[Check]:
        """Whether updates go where `mode` says."""
        parts = urlsplit(optional_text_of(webhook, "url", "Telegram webhook") or "")
        if self.settings.mode == "poll":
            fix = "" if not parts.netloc else "remove it (deleteWebhook), or set mode to webhook"
            detail = f"set to {parts.hostname}, so polling is refused" if parts.netloc else "none, as mode poll needs"
            yield Check("webhook", ok=not parts.netloc, detail=detail, fix=fix)
            return
        route = self.settings.route
        ours = ("/webhooks/telegram",) if route == "default" else (f"/webhooks/telegram/{route}",)
        if not parts.netloc:
            fix = "call setWebhook (see the page), or set mode to poll"
            yield Check("webhook", ok=False, detail="none is set: updates are lost after 24 hours", fix=fix)
            return
        good = parts.path.endswith(ours)
        fix = "" if good else f"call setWebhook with an address that ends in {ours[0]}"
        yield Check("webhook", ok=good, detail=f"goes to {parts.hostname}{'' if good else ', not to us'}", fix=fix)
        yield _check_trouble(webhook, self.now())
        told = webhook.get("allowed_updates")
        missing = [name for name in WANTED if name not in told] if isinstance(told, list) else ["message_reaction"]
        fix = "" if not missing else "call setWebhook again with allowed_updates (see the page)"
        detail = f"not told: {', '.join(missing)}" if missing else "all that we read are told"
        yield Check("updates", ok=not missing, detail=detail, fix=fix)


def _check_bot(bot: Mapping[str, Any]) -> Iterator[Check]:
    seen = bot.get("can_read_all_group_messages") is True
    yield Check(
        "groups",
        ok=True if seen else None,
        detail="the bot sees all messages" if seen else "the bot sees only commands, replies to it and mentions",
        fix="" if seen else "if it should see more: @BotFather, /setprivacy, Disable; or make it an administrator",
    )


def _check_trouble(webhook: Mapping[str, Any], now: datetime) -> Check:
    """What went wrong with the last deliveries; an error of more than a day ago concerns nothing that still waits."""
    pending, failed = webhook.get("pending_update_count"), webhook.get("last_error_date")
    recent = isinstance(failed, int) and failed > (now - _RECENT).timestamp()
    message = optional_text_of(webhook, "last_error_message", "Telegram webhook") or "no reason"
    detail = f"{pending} updates wait" + (f"; the last failure in 24 hours: {message[:100]}" if recent else "")
    return Check("deliveries", ok=not recent, detail=detail, fix="see the receiver's log" if recent else "")
