"""tap-instagram: what Instagram's webhooks delivered, and what they missed by reading the Conversations API again.

An account is connected in one of two ways. With Facebook login its page's token opens graph.facebook.com. With
Instagram login a token of its own opens graph.instagram.com; that token ends after 60 days and is replaced in time.

Sources: developers.facebook.com/docs/instagram-platform/overview and .../reference/refresh_access_token (read 2026-11),
documented; limits of polling: see `taps.meta_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from mappings.errors import MissingFieldError
from mappings.fields import object_of, optional_object_of, optional_text_of, text_of
from mappings.from_instagram import (
    InstagramContext,
    message_from_instagram_poll,
    profile_from_instagram,
    records_from_instagram,
)
from mappings.records import Evidence, Record
from stores.tokens import Token, Tokens
from taps.base import Check
from taps.meta_checks import check_token
from taps.meta_graph import POLLED, GraphSettings, GraphTap
from taps.meta_session import GraphSession
from taps.webhooks import instagram
from taps.webhooks.items import Item

_HOSTS = {"facebook": "https://graph.facebook.com", "instagram": "https://graph.instagram.com"}
_SCOPES = ("instagram_basic", "instagram_manage_messages", "pages_manage_metadata")
"""Permissions of a page token; tokens of Instagram login cannot be asked about themselves."""
_AHEAD = timedelta(days=30)
# A token can be replaced from its second day on; before, nobody knows how old the configured one is.
_FIRST_REFRESH = timedelta(hours=25)


class InstagramSettings(GraphSettings):
    """The settings of tap-instagram."""

    login: Literal["facebook", "instagram"] = Field(
        "facebook",
        description="How the account is connected: `facebook` (through its Facebook page, page token) or `instagram` "
        "(Instagram login, Instagram user token). They have different hosts, tokens and app secrets.",
    )
    account_id: str | None = Field(
        None, description="The Instagram professional account's id (17841...), as webhooks have it in `entry.id`."
    )
    page_id: str | None = Field(
        None, description="Facebook login only: the page that is linked to the account; its conversations are read."
    )
    app_id: str | None = Field(
        None,
        description="Your app's id: what the account sends under it without one of our tokens was sent by a bot.",
    )
    access_token: SecretStr | None = Field(
        None,
        description="Page access token with instagram_manage_messages, or (Instagram login) the account's long-lived "
        "user token, which is then replaced by itself every 30 days; needed to find what the webhook missed.",
    )
    reconcile: bool | None = Field(
        None,
        description="Read the account's recent conversations and add messages that no webhook brought. Default: yes "
        "when access_token and account_id (and page_id with Facebook login) are set.",
    )
    api_url: str | None = Field(
        None, description="Base URL of the Graph API. Default: graph.facebook.com or graph.instagram.com, by `login`."
    )

    @model_validator(mode="after")
    def _can_reconcile(self) -> Self:
        if self.reconcile and not self._complete:
            page = " and page_id" if self.login == "facebook" else ""
            msg = f"reconcile needs access_token and account_id{page}"
            raise ValueError(msg)
        return self

    @property
    def _complete(self) -> bool:
        has_node = self.page_id is not None or self.login == "instagram"
        return self.access_token is not None and self.account_id is not None and has_node

    @property
    def reconciles(self) -> bool:
        """Whether to poll."""
        return self._complete if self.reconcile is None else self.reconcile


class TapInstagram(GraphTap[InstagramSettings]):
    """Reads one route of Instagram's webhooks and reconciles one account."""

    name = "tap-instagram"
    platform = "instagram"
    settings_model = InstagramSettings
    display = "Instagram"
    account_field = "account_id"
    handle_kind = "instagram_igsid"
    message_fields = "id,created_time,from,to,message,attachments,shares,story,reply_to,is_unsupported"
    profile_fields = "name,username,profile_pic"

    @property
    def account(self) -> str:
        """The account's id."""
        return str(self.settings.account_id)

    @property
    def node(self) -> str:
        """The linked page with Facebook login, the token's own account with Instagram login."""
        return "me" if self.settings.login == "instagram" else str(self.settings.page_id)

    @property
    def api_url(self) -> str:
        """See the setting."""
        return (self.settings.api_url or _HOSTS[self.settings.login]).rstrip("/")

    @property
    def wanted_fields(self) -> tuple[str, ...]:
        """With Facebook login the page is subscribed to any field; Instagram's are chosen in the app's dashboard."""
        if self.settings.login == "facebook":
            return ()
        return ("messages", "message_reactions", "messaging_postbacks", "messaging_seen", "comments")

    def split(self, body: bytes, headers: Mapping[str, str]) -> list[Item]:
        """See `taps.webhooks.instagram.split`."""
        del headers
        return instagram.split(body)

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        """See `mappings.from_instagram`; a ``polled`` item is a message of the Conversations API."""
        if item.kind == POLLED:
            account_id = text_of(item.payload, "account_id", "Instagram message")
            message = object_of(item.payload, "message", "Instagram message")
            flags = ("request_folder",) if item.payload.get("request_folder") is True else ()
            own_ids = [str(one) for one in item.payload.get("own_ids") or ()]
            return [
                message_from_instagram_poll(
                    message, account_id, own_ids, received_at=received_at, raw_ref=raw_ref, flags=flags
                )
            ]
        context = InstagramContext(
            received_at=received_at, raw_ref=raw_ref, app_id=self.settings.app_id, keywords=self.keywords
        )
        return records_from_instagram(item, context)

    def polled_item(self, mid: str, message: dict[str, Any], *, is_request: bool) -> Item:
        """A polled message with every id that the account has."""
        item = super().polled_item(mid, message, is_request=is_request)
        return Item(item.index, item.kind, {**item.payload, "own_ids": sorted(self._own_ids)}, item.key)

    @cached_property
    def _own_ids(self) -> frozenset[str]:
        """The account's ids: with Instagram login ``/me`` has a second one, which its own messages may carry."""
        if self.settings.login == "facebook":
            return frozenset({self.account, str(self.settings.page_id)})
        me = self.graph.fetch_json("me", {"fields": "id,user_id"})
        return frozenset({self.account, text_of(me, "id", "Instagram account")})

    def profile_of(self, answer: Mapping[str, Any], user_id: str, now: datetime, source: str) -> Evidence | None:
        """See `mappings.from_instagram.profile_from_instagram`."""
        return profile_from_instagram(answer, self.account, user_id, observed_at=now, raw_ref=source)

    # The token of Instagram login

    def token(self) -> SecretStr:
        """The configured token; with Instagram login its newest successor, made in time where need be."""
        configured = super().token()
        if self.settings.login == "facebook":
            return configured
        first = Token(access_token=configured, expires_at=self.now() + _AHEAD + _FIRST_REFRESH)
        found = Tokens(self.stores).get(f"instagram:{self.settings.route}", first, self._refreshed, ahead=_AHEAD)
        return found.access_token

    def _refreshed(self, token: Token) -> Token:
        session = GraphSession("Instagram", self.api_url, token.access_token, self.settings.calls_per_second)
        answer = session.fetch_json("refresh_access_token", refresh_parameters(token.access_token))
        return token_of_answer(answer, self.now())

    def check_account(self) -> Iterator[Check]:
        """Whether the token opens the account, and until when."""
        if self.settings.login == "facebook":
            answer = self.graph.fetch_json(self.node, {"fields": "id,instagram_business_account"})
            linked = optional_object_of(answer, "instagram_business_account", "Instagram account") or {}
            found = optional_text_of(linked, "id", "Instagram account")
            until = "opens the page that is linked to the account"
        else:
            answer = self.graph.fetch_json("me", {"fields": "id,user_id"})
            found = optional_text_of(answer, "user_id", "Instagram account")
            stored = {one.name: one.expires_at for one in Tokens(self.stores).listing()}
            ends = stored.get(f"instagram:{self.settings.route}")
            until = f"good until about {ends:%Y-%m-%d}, replaced 30 days before" if ends else "its end is not known"
        ok = found == self.account
        fix = "" if ok else "set account_id to the id of the account that the token belongs to"
        yield Check("access token", ok=ok, detail=until if ok else "it opens another account", fix=fix)
        if self.settings.login == "facebook":
            yield from check_token(self.graph, self.token(), self.now(), _SCOPES)


def refresh_parameters(token: SecretStr) -> dict[str, str]:
    """The query of ``GET /refresh_access_token``: the token is at least 24 hours old and has not ended."""
    return {"grant_type": "ig_refresh_token", "access_token": token.get_secret_value()}


def token_of_answer(answer: Any, now: datetime) -> Token:
    """The token in ``{"access_token": "...", "token_type": "bearer", "expires_in": 5183944}`` (seconds)."""
    where = "Instagram refresh_access_token"
    seconds = answer.get("expires_in") if isinstance(answer, dict) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 < seconds < 10**9:
        msg = f"{where}: expires_in is not a number of seconds"
        raise MissingFieldError(msg)
    expires_at = now.astimezone(UTC) + timedelta(seconds=seconds)
    return Token(access_token=SecretStr(text_of(answer, "access_token", where)), expires_at=expires_at)
