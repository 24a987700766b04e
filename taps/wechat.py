"""tap-wechat: what an Official Account's webhook delivered, and the ids by which its writers are known elsewhere.

WeChat has no API that gives messages back, so there is nothing to poll: the deliveries are the record. The user API is
asked once a week and writer for the union id.

Source of the API: developers.weixin.qq.com/doc/service/api/ (stable token, user info, temporary material, quota),
documented, read 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, SettingsError
from mappings.fields import object_of, text_of
from mappings.from_wechat import WeChatContext, openid_of, records_from_wechat, user_from_wechat
from mappings.records import Attachment, Consent, Evidence, Message, Receipt, Record
from stores.items import Items, Sighting
from stores.media import MediaRequest
from stores.tokens import Token, Tokens
from taps.base import Check, HttpSession
from taps.deliveries import DeliverySettings, DeliveryTap, Outcome
from taps.tencent import MEDIA_PATH, TencentSession, check_token, token_of
from taps.webhooks import wechat
from taps.webhooks.items import Item
from taps.webhooks.tencent import AesKey, Keys

_USER = "cgi-bin/user/info"
_PICTURES = "mmbiz.qpic.cn"
_FILES = frozenset({".qq.com", ".qpic.cn"})
# In its last five minutes a stable token is replaced by whoever asks for it, not earlier (documented).
_AHEAD = timedelta(minutes=4)


class WeChatSettings(DeliverySettings):
    """The settings of tap-wechat."""

    app_id: str | None = Field(None, description="The account's AppID; needed in secure mode and for the user API.")
    app_secret: SecretStr | None = Field(
        None, description="The account's AppSecret, to ask for union ids and files. Without it there are neither."
    )
    encoding_aes_key: AesKey | None = Field(
        None, description="The EncodingAESKey of the server configuration; needed in secure mode."
    )
    previous_encoding_aes_key: AesKey | None = Field(
        None, description="The EncodingAESKey before the last change; it is tried as well until you remove it."
    )
    open_platform_id: str | None = Field(
        None,
        description="A name for the Open Platform account that this account is bound to; give tap-wecom the same when "
        "its company is bound to the same. It scopes union ids. Default: they are compared as they are.",
    )
    look_up_users: bool | None = Field(
        None, description="Ask for the union id of those who write. Default: yes when app_id and app_secret are set."
    )
    api_url: str = Field("https://api.weixin.qq.com", description="Base URL of the API.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.encoding_aes_key is not None or self.app_secret is not None) and self.app_id is None:
            msg = "encoding_aes_key and app_secret need app_id"
            raise ValueError(msg)
        if self.look_up_users and self.app_secret is None:
            msg = "look_up_users needs app_id and app_secret"
            raise ValueError(msg)
        return self

    @property
    def looks_up(self) -> bool:
        """Whether to ask the user API."""
        return self.app_secret is not None if self.look_up_users is None else self.look_up_users


class TapWeChat(DeliveryTap[WeChatSettings]):
    """Reads one route of an Official Account's webhook."""

    name = "tap-wechat"
    platform = "wechat"
    settings_model = WeChatSettings
    record_models = (Message, Receipt, Consent, Evidence)  # there are no changes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gave_up = False

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.wechat.split`; decrypts with the settings' keys."""
        del headers
        return wechat.split(body, self._keys)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_wechat.records_from_wechat`."""
        context = WeChatContext(received_at=received_at, raw_ref=raw_ref, keywords=self.keywords)
        return records_from_wechat(item, context)

    def account_of(self, item: Item) -> object:
        """The account's original id (``gh_...``), which is the addressee."""
        xml = item.payload.get("xml")
        return xml.get("ToUserName") if isinstance(xml, dict) else None

    def name_of(self, item: Item) -> str:
        """The event's name."""
        xml = item.payload.get("xml")
        event = xml.get("Event") if isinstance(xml, dict) else None
        return event[:60] if isinstance(event, str) and event else item.kind

    def emit(self, outcome: Outcome) -> Iterator[Record]:
        """The records of one delivery and, the first time that somebody writes in a week, who that is."""
        for record in super().emit(outcome):
            yield record
            if isinstance(record, Message) and self.settings.looks_up and not self._gave_up:
                yield from self._user(record)

    @cached_property
    def _keys(self) -> Keys | None:
        settings = self.settings
        keys = [key for key in (settings.encoding_aes_key, settings.previous_encoding_aes_key) if key is not None]
        return Keys(str(settings.app_id), keys) if keys else None

    # The user API

    @cached_property
    def _items(self) -> Items:
        return Items(self.stores)

    @cached_property
    def _session(self) -> TencentSession:
        settings = self.settings
        if settings.app_id is None or settings.app_secret is None:
            msg = f"{self.name}: the API needs app_id and app_secret"
            raise SettingsError(msg)
        return TencentSession(
            "WeChat",
            settings.api_url,
            tokens=Tokens(self.stores),
            name=f"wechat:{settings.app_id}",
            fetch=self._fetch_token,
            ahead=_AHEAD,
            secrets=[settings.app_secret],
        )

    def _fetch_token(self, session: HttpSession) -> Token:
        """The stable token: the same for everybody who asks, and none of them ends another's (documented)."""
        secret = self.settings.app_secret.get_secret_value() if self.settings.app_secret else ""
        body = {"grant_type": "client_credential", "appid": self.settings.app_id, "secret": secret}
        answer = session.call_json("POST", "cgi-bin/stable_token", json={**body, "force_refresh": False})
        if not isinstance(answer, dict):
            msg = "WeChat: the answer to a request for a token is no object"
            raise MissingFieldError(msg)
        return token_of(answer, self.now(), "WeChat token")

    def _user(self, message: Message) -> Iterator[Record]:
        """What the user API says of a sender. It is not asked again for a week, save when the run is repeated."""
        sender = openid_of(message)
        source, raw_ref, now = self._source_of(message), f"lookup:{message.raw_ref}", self.now()
        week = "{}-W{:02}".format(*now.isocalendar())
        asked = Sighting(self.item_key(sender.scope, f"{week} {sender.value}"), "profile", raw_ref, source, now)
        if not self._items.claim(self.platform, [asked])[0]:
            return
        try:
            answer = self._session.ask("GET", _USER, {"openid": sender.value, "lang": "zh_CN"})
            found = user_from_wechat(
                answer,
                sender,
                open_platform_id=self.settings.open_platform_id,
                observed_at=now,
                raw_ref=raw_ref,
            )
        except SettingsError:
            raise
        except OneThreadError as error:
            # Union ids are worth a call each, not the messages that wait behind them.
            self._gave_up = not isinstance(error, MissingFieldError)
            self.logger.warning("who wrote cannot be asked now: %s", error)
            return
        if found is not None:
            yield found

    def _source_of(self, message: Message) -> int:
        """The delivery that brought a message (``delivery:17#0``): read again, it is asked about again."""
        kind, _, place = (message.raw_ref or "").partition(":")
        number = place.partition("#")[0]
        return int(number) if kind == "delivery" and number.isdecimal() else 0

    def media_request(self, attachment: Attachment, message: Message) -> MediaRequest | None:
        """Where the bytes are: at the API under the file's id, for three days; a video one look-up further.

        The address has the access token in it, so it must not be logged. An error comes as JSON with status 200.
        """
        del message
        media_id = attachment.platform_media_id
        if self.settings.app_secret is None:
            parts = urlsplit(attachment.url or "")
            if parts.hostname != _PICTURES:
                return None
            return MediaRequest(parts._replace(scheme="https").geturl(), hosts=frozenset({_PICTURES}))
        if media_id is None:
            return None
        if attachment.kind == "video":
            try:
                url = text_of(self._session.ask("GET", MEDIA_PATH, {"media_id": media_id}), "video_url", "WeChat video")
                return MediaRequest(urlsplit(url)._replace(scheme="https").geturl(), hosts=_FILES)
            except MissingFieldError:  # the bytes themselves came: then they can be had directly
                pass
        hosts = frozenset({urlsplit(self.settings.api_url).hostname or ""})
        return MediaRequest(self._session.media_url(media_id), hosts=hosts)

    def check(self) -> Iterator[Check]:
        """Settings, token, clock, the user API and what is left of its calls today."""
        yield from super().check()
        if self.settings.encoding_aes_key is None:
            yield Check(
                "message mode",
                ok=False,
                detail="plain: the signature does not cover what customers write",
                fix="choose secure mode at the platform and set encoding_aes_key",
            )
        yield Check("webhook", ok=None, detail="WeChat does not tell which address an account has")
        if self.settings.app_secret is None:
            yield Check("user API", ok=None, detail="app_secret is not set: no union ids, no files")
            return
        token = check_token(self._session)
        yield token
        if not token.ok:
            return
        yield self._session.check_clock()
        try:
            answer = self._session.ask("POST", "cgi-bin/openapi/quota/get", json={"cgi_path": f"/{_USER}"})
            quota = object_of(answer, "quota", "WeChat quota")
        except CredentialsError as error:
            yield Check("user API", ok=False, detail=str(error), fix="the account must be verified to use it")
        except OneThreadError as error:
            yield Check("user API", ok=None, detail=str(error))
        else:
            left, limit = quota.get("remain"), quota.get("daily_limit")
            yield Check("user API", ok=left != 0, detail=f"{left} of {limit} calls left today")


if __name__ == "__main__":
    TapWeChat.cli()
