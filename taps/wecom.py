"""tap-wecom: the messages of WeCom customer service, which are asked for whenever its webhook rings, and in every run.

The webhook says only that there is something new. ``sync_msg`` gives it, account by account, from a cursor on, and
reaches three days back; so a lost bell costs nothing but time. What the company's staff wrote in WeCom is there as
well, what was sent over the API is not.

Source of the API: developer.work.weixin.qq.com/document/path/94670 (sync_msg), /94661 (accounts), /95159 (customers),
/91039 (token), /90254 (files), documented, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, RejectedError, UnavailableError
from mappings.fields import moment_of, objects_of, optional_text_of, text_of
from mappings.from_wecom import WeComContext, account_of_wecom, customer_from_wecom, records_from_wecom
from mappings.records import Attachment, Message, Record
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.tokens import Token, Tokens
from taps.base import Check, Checkpoint, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.tencent import MEDIA_PATH, TencentSession, check_token, token_of
from taps.wanted_names import WantedNames
from taps.webhooks import wecom
from taps.webhooks.items import Item
from taps.webhooks.meta import key_of_content
from taps.webhooks.tencent import AesKey, Keys

_ACCOUNTS_A_PAGE = 100
_CUSTOMERS_A_CALL = 100
# A page may be empty and not the last (documented); so many that move nothing are a fault.
_PAGES_WITHOUT_PROGRESS = 10
_BELL_TOKEN_REFUSED = "95007"  # noqa: S105 (observed: "invalid msg token")
_BELL_TOKEN_LASTS = timedelta(minutes=9)  # documented: ten
_AHEAD = timedelta(minutes=1)
# A bell on its way is not a lost one, and it may ring a moment before what it rings for.
_SETTLE = timedelta(seconds=60)


class WeComSettings(DeliverySettings):
    """The settings of tap-wecom."""

    corp_id: str = Field(description="The company's CorpID (ww...); it scopes the ids of its customers.")
    secret: SecretStr = Field(
        description="The secret of WeChat customer service, or of the application that may use its interfaces."
    )
    encoding_aes_key: AesKey | None = Field(
        None, description="The EncodingAESKey of the callback configuration; needed once a webhook is connected."
    )
    previous_encoding_aes_key: AesKey | None = Field(
        None, description="The EncodingAESKey before the last change; it is tried as well until you remove it."
    )
    open_kfids: list[str] = Field(
        default_factory=list,
        description="The customer service accounts to read (wk...). Default: all that the application sees.",
    )
    open_platform_id: str | None = Field(
        None,
        description="A name for the Open Platform account that the company is bound to; give tap-wechat the same when "
        "its account is bound to the same. It scopes union ids. Default: they are compared as they are.",
    )
    look_up_customers: bool = Field(
        True, description="Ask for the nickname and the union id of those who write, once a week each."
    )
    voice_format: int = Field(0, ge=0, le=1, description="How voice messages come: 0 AMR, 1 Silk.")
    page_size: int = Field(1000, ge=1, le=1000, description="How many messages to ask for at once.")
    api_url: str = Field("https://qyapi.weixin.qq.com", description="Base URL of the API.")


class TapWeCom(DeliveryTap[WeComSettings]):
    """Reads the customer service accounts of one company."""

    name = "tap-wecom"
    platform = "wecom"
    settings_model = WeComSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rung: dict[str, tuple[str | None, datetime]] = {}
        self._cursors: dict[str, str] = {}
        self._bells: dict[str, datetime] = {}
        self._asked: set[str] = set()
        self._looked = self._found = self._names_refused = False

    # The bell

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.wecom.split`; decrypts with the settings' keys."""
        del headers
        return wecom.split(body, self._keys)

    @cached_property
    def _keys(self) -> Keys | None:
        settings = self.settings
        keys = [key for key in (settings.encoding_aes_key, settings.previous_encoding_aes_key) if key is not None]
        return Keys(settings.corp_id, keys) if keys else None

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_wecom.records_from_wecom`."""
        return records_from_wecom(item, self._context(received_at, raw_ref))

    def account_of(self, item: Item) -> object:
        """The customer service account."""
        xml, message = item.payload.get("xml"), item.payload.get("message")
        if isinstance(message, dict):
            return account_of_wecom(message)
        return xml.get("OpenKfId") if isinstance(xml, dict) else None

    def name_of(self, item: Item) -> str:
        """The event's name."""
        for holder, field in ((item.payload.get("xml"), "Event"), (item.payload.get("message"), "event")):
            found = holder.get(field) if isinstance(holder, dict) else None
            name = found.get("event_type") if isinstance(found, dict) else found
            if isinstance(name, str) and name:
                return name[:60]
        return item.kind

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one event; a bell is remembered until its account was asked, a writer until the name was."""
        if outcome.item.kind == wecom.BELL:
            self._ring(outcome.item.payload.get("xml"))
        else:
            self._found = True
        for record in super().emit(outcome):
            if isinstance(record, Message) and record.direction == "inbound" and self.settings.look_up_customers:
                user = record.handles[0].value
                if user not in self._asked:
                    self._names.add(user)
            yield record

    def _ring(self, xml: Any) -> None:
        try:
            account = text_of(xml, "OpenKfId", "WeCom bell")
            token = optional_text_of(xml, "Token", "WeCom bell")
            at = moment_of(xml.get("CreateTime"), "CreateTime", "WeCom bell")
        except MissingFieldError as error:  # every run asks all accounts, so this one too
            self.logger.warning("a bell that says nothing: %s", error)
            return
        known = self._rung.get(account)
        wanted = not self.settings.open_kfids or account in self.settings.open_kfids
        if wanted and (known is None or known[1] <= at):
            self._rung[account] = (token, at)

    def read(self) -> Iterator[Record | Checkpoint]:
        """As every tap over webhooks, and one more look whenever it rings after the look that each run takes."""
        self._cursors = _texts(self.cursor.get("kf_cursors"))
        self._bells = {one: datetime.fromisoformat(at) for one, at in _texts(self.cursor.get("kf_bells")).items()}
        self._looked, self._names_refused = not self.polls, False
        self._asked.clear()
        yield from self._names.kept_with(super().read())

    def rings(self) -> bool:
        """Whether a bell rang whose account was not asked yet."""
        return bool(self._rung)

    @cached_property
    def _names(self) -> WantedNames:
        return WantedNames(self.cursor, self.stores.codec)

    # Asking

    @cached_property
    def _session(self) -> TencentSession:
        settings = self.settings
        return TencentSession(
            "WeCom",
            settings.api_url,
            tokens=Tokens(self.stores),
            name=f"wecom:{settings.corp_id}/{settings.route}",
            fetch=self._fetch_token,
            ahead=_AHEAD,
            secrets=[settings.secret],
        )

    def _fetch_token(self, session: HttpSession) -> Token:
        """The token of company and secret; everybody who asks gets the same until it ends (documented)."""
        query = {"corpid": self.settings.corp_id, "corpsecret": self.settings.secret.get_secret_value()}
        answer = session.fetch_json("cgi-bin/gettoken", query)
        if not isinstance(answer, dict):
            msg = "WeCom: the answer to a request for a token is no object"
            raise MissingFieldError(msg)
        return token_of(answer, self.now(), "WeCom token")

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        """What is new in every account, then in those whose bell rings meanwhile; later on in the latter alone."""
        number = int(self.cursor.get("poll_pass", 0)) + 1
        only_rung, self._looked, self._found = self._looked, True, False
        try:
            waiting = dict.fromkeys([*self._rung, *(() if only_rung else self._accounts())])
            while waiting:
                account = next(iter(waiting))
                del waiting[account]
                yield from self._sync(account, items, number)
                if self.stop_requested:
                    return
                waiting |= dict.fromkeys(self._rung)
        except OneThreadError:
            self._rung.clear()  # the next run asks all of them; asking again now would meet the same refusal
            raise
        if self._found:
            yield Checkpoint({"poll_pass": number})

    def _accounts(self) -> Iterator[str]:
        """The ids of the customer service accounts to read."""
        if self.settings.open_kfids:
            yield from self.settings.open_kfids
            return
        for row in self._account_rows():
            yield text_of(row, "open_kfid", "WeCom accounts")

    def _account_rows(self) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        while True:
            body = {"offset": len(seen), "limit": _ACCOUNTS_A_PAGE}
            rows = objects_of(
                self._session.ask("POST", "cgi-bin/kf/account/list", json=body), "account_list", "WeCom accounts"
            )
            new = [row for row in rows if row.get("open_kfid") not in seen]
            yield from new
            seen.update(str(row.get("open_kfid")) for row in new)
            if len(rows) < _ACCOUNTS_A_PAGE or not new:
                return

    def _sync(self, account: str, items: Items, number: int) -> Iterator[Record | Checkpoint]:
        """One account from its cursor to its end. The cursor is given away only behind the records of its page."""
        token, rang_at = self._rung.pop(account, (None, None))
        heard = self._heard(account, rang_at)
        if rang_at is not None:
            token = token if self.now() - rang_at < _BELL_TOKEN_LASTS else None
            yield Checkpoint({"kf_bells": {one: at.isoformat() for one, at in self._bells.items()}})
        seen: set[str] = set()
        idle = 0
        more = True
        while more:
            before = self._cursors.get(account)
            try:
                answer, token = self._page(account, before, token)
            except RejectedError as error:  # this account's share of the run is lost, the others' is not
                self.logger.warning("an account cannot be read (code %s); is it still there?", error.code)
                return
            found = {one.key: one for one in reversed(_entries(answer)) if one.key not in seen}
            seen.update(found)
            yield from self._emit_found(items, list(found.values())[::-1], number, heard)
            cursor = optional_text_of(answer, "next_cursor", "WeCom messages") or before
            if cursor is not None:
                self._cursors[account] = cursor
            yield Checkpoint({"kf_cursors": dict(self._cursors)})
            if self.stop_requested:
                return
            more = answer.get("has_more") in (1, "1")
            idle = idle + 1 if cursor == before else 0
            if more and idle >= _PAGES_WITHOUT_PROGRESS:
                msg = "WeCom: the cursor of an account does not move; giving up for this run"
                raise UnavailableError(msg)

    def _page(self, account: str, cursor: str | None, token: str | None) -> tuple[dict[str, Any], str | None]:
        """One page, and the bell's token as long as it is taken; without it WeCom allows few calls only.

        What WeCom says to a cursor that has become too old is not documented: a refused one is left out, which reads
        the three days that there are once more.
        """
        body = {"limit": self.settings.page_size, "voice_format": self.settings.voice_format, "open_kfid": account}
        body |= {name: value for name, value in (("cursor", cursor), ("token", token)) if value}
        try:
            return self._session.ask("POST", "cgi-bin/kf/sync_msg", json=body), token
        except RejectedError as error:
            if token and error.code == _BELL_TOKEN_REFUSED:
                return self._page(account, cursor, None)
            if cursor is None:
                raise
            self.logger.warning("a cursor was refused (code %s); reading the last three days again", error.code)
        return self._page(account, None, token)

    def _emit_found(self, items: Items, found: Sequence[Item], number: int, heard: datetime | None) -> Iterator[Record]:
        """The records of those entries that no earlier look had.

        All are polled, so only what no bell announced counts as missed by the webhook.
        """

        def expected(_: Item, at: datetime | None) -> bool:
            return at is not None and heard is not None and heard + _SETTLE < at <= self.now() - _SETTLE

        yield from self.emit_polled(items, [(one, _moment_of(one)) for one in found], number, expected=expected)
        if self.settings.look_up_customers:
            yield from self._customers(items, number)

    def _heard(self, account: str, rang_at: datetime | None) -> datetime | None:
        """When the newest bell of this account rang; ``None`` where none ever did."""
        known = self._bells.get(account)
        if rang_at is not None and (known is None or rang_at > known):
            self._bells[account] = known = rang_at
        return known

    # Who it is

    def _customers(self, items: Items, number: int) -> Iterator[Record]:
        """What WeCom says of those who wrote and were not told in this week."""
        now, source, names = self.now(), f"poll:{number}", self._names
        week = "{}-W{:02}".format(*now.isocalendar())
        company = self.settings.corp_id  # a customer has one id on all of its accounts
        new = [user for user in names.due(now) if names.is_new(user)]
        asked = [Sighting(self.item_key(company, f"{week} {user}"), "profile", source, number, now) for user in new]
        for user, is_wanted in zip(new, items.claim_polled(self.platform, asked), strict=True):
            names.wait(user, now) if is_wanted else names.told(user)
        wanted = names.due(now)
        for start in range(0, len(wanted), _CUSTOMERS_A_CALL):
            if self._names_refused:
                return
            body = {"external_userid_list": wanted[start : start + _CUSTOMERS_A_CALL]}
            try:
                answer = self._session.ask("POST", "cgi-bin/kf/customer/batchget", json=body)
                rows = objects_of(answer, "customer_list", "WeCom customers")
            except OneThreadError as error:
                # Names are worth a call, not the messages that wait behind them.
                self._names_refused = True
                self.logger.warning("who wrote cannot be asked now, the next run does: %s", error)
                return
            for user in body["external_userid_list"]:
                self._asked.add(user)
                names.told(user)
            yield from self._told(rows, body["external_userid_list"], self._context(now, source))

    def _told(
        self, rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], context: WeComContext
    ) -> Iterator[Record]:
        """What is said of those who were asked for; a row that cannot be read costs its own name only."""
        for row in rows:
            if row.get("external_userid") not in wanted:
                continue
            try:
                found = customer_from_wecom(row, context, open_platform_id=self.settings.open_platform_id)
            except MissingFieldError as error:
                self.logger.warning("what WeCom says of a customer cannot be read: %s", error)
                continue
            if found is not None:
                yield found

    def _context(self, received_at: datetime, raw_ref: str) -> WeComContext:
        return WeComContext(
            received_at=received_at, raw_ref=raw_ref, corp_id=self.settings.corp_id, keywords=self.keywords
        )

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """Where the bytes are: at the API under the file's id, for three days.

        An error comes as JSON with status 200. A picture that is JSON is noticed later, a file is not: so its first
        byte is asked for here.
        """
        del message
        media_id = attachment.platform_media_id
        if media_id is None:
            return None
        if attachment.kind == "file":
            try:
                self._session.ask("GET", MEDIA_PATH, {"media_id": media_id}, headers={"Range": "bytes=0-0"})
            except MissingFieldError:  # no JSON: it is the file
                pass
        hosts = frozenset({urlsplit(self.settings.api_url).hostname or ""})
        return MediaRequest(self._session.media_url(media_id), hosts=hosts)

    # Doctor

    def check(self) -> Iterator[Check]:
        """Settings, token, clock, and which accounts may be read."""
        yield from super().check()
        token = check_token(self._session)
        yield token
        if not token.ok:
            return
        yield self._session.check_clock()
        yield Check("webhook", ok=None, detail="WeCom does not tell which address an application has")
        try:
            rows = list(self._account_rows())
        except CredentialsError as error:
            yield Check("accounts", ok=False, detail=str(error), fix="let the application use customer service")
            return
        except OneThreadError as error:
            yield Check("accounts", ok=None, detail=str(error))
            return
        seen = {str(row.get("open_kfid")): row.get("manage_privilege") is not False for row in rows}
        wanted = self.settings.open_kfids or list(seen)
        lacking = [account for account in wanted if not seen.get(account, False)]
        yield Check(
            "accounts",
            ok=bool(wanted) and not lacking,
            detail=f"{len(wanted) - len(lacking)} of {len(wanted)} can be read and answered",
            fix=f"grant the application {', '.join(lacking) or 'an account'} in WeCom's admin console",
        )


def _texts(kept: Any) -> dict[str, str]:
    """What a bookmark has kept by account."""
    return {str(account): str(value) for account, value in kept.items()} if isinstance(kept, dict) else {}


def _entries(answer: Mapping[str, Any]) -> list[Item]:
    """The elements of a page; one that is no object stays one, so that it is parked and not lost."""
    rows = answer.get("msg_list")
    if rows is None:
        return []
    if not isinstance(rows, list):
        msg = f"WeCom messages: msg_list is {type(rows).__name__}, not a list"
        raise MissingFieldError(msg)
    items: list[Item] = []
    for index, row in enumerate(rows):
        msgid = row.get("msgid") if isinstance(row, dict) else None
        key = msgid if isinstance(msgid, str) and msgid else key_of_content("message", row)
        items.append(Item(index, "message", {"message": row}, key))
    return items


def _moment_of(item: Item) -> datetime | None:
    """When an entry happened; ``None`` when it does not say so."""
    message = item.payload["message"]
    try:
        return moment_of(message.get("send_time"), "send_time", "WeCom message") if isinstance(message, dict) else None
    except MissingFieldError:
        return None


if __name__ == "__main__":
    TapWeCom.cli()
