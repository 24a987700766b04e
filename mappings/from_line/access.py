"""How a channel access token is asked for, and what the answer says; nothing here calls anybody.

Source: github.com/line/line-openapi @6e4c2a2 channel-access-token.yml (2026-07-01), documented: a stateless token lasts
15 minutes, cannot be revoked and there may be any number; one of kind v2.1 lasts up to 30 days and there may be 30.
Claims of the assertion: developers.line.biz/en/docs/messaging-api/generate-json-web-token (documented), read 2026-11.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import jwt

from mappings.errors import MissingFieldError, SettingsError
from mappings.fields import text_of

STATELESS_PATH = "oauth2/v3/token"
ASSERTED_PATH = "oauth2/v2.1/token"

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_AUDIENCE = "https://api.line.me/"
_ASSERTION_LASTS = timedelta(minutes=25)  # LINE takes at most 30


def stateless_form(channel_id: str, channel_secret: str) -> dict[str, str]:
    """The form of a request for a stateless token."""
    return {"grant_type": "client_credentials", "client_id": channel_id, "client_secret": channel_secret}


def asserted_form(channel_id: str, key: str, key_id: str | None, now: datetime, lasts: timedelta) -> dict[str, str]:
    """The form of a request for a token of kind v2.1.

    Args:
        channel_id: whose token.
        key: the private key whose public part is registered at the channel, as a JSON Web Key.
        key_id: what LINE's console called it (``kid``); else the key's own.
        now: the assertion is good from now on for 25 minutes.
        lasts: how long the token is to last.

    Raises:
        SettingsError: `key` is no private RSA key, or nobody says its id.
    """
    try:
        fields = json.loads(key)
        kid = key_id or fields.get("kid")
        signing_key = jwt.PyJWK(fields, algorithm="RS256").key
        claims = {
            "iss": channel_id, "sub": channel_id, "aud": _AUDIENCE, "exp": int((now + _ASSERTION_LASTS).timestamp()),
            "token_exp": int(lasts.total_seconds()),
        }  # fmt: skip
        assertion = jwt.encode(claims, signing_key, algorithm="RS256", headers={"kid": str(kid)})
    except (ValueError, AttributeError, TypeError, jwt.PyJWTError) as error:
        msg = f"LINE: assertion_key is not the JSON Web Key of a private RSA key ({type(error).__name__})"
        raise SettingsError(msg) from None
    if not kid:
        msg = "LINE: assertion_key has no kid; set assertion_key_id to what LINE's console shows for the key"
        raise SettingsError(msg)
    return {
        "grant_type": "client_credentials", "client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion,
    }  # fmt: skip


def token_of(answer: Mapping[str, Any], now: datetime) -> tuple[str, datetime]:
    """The token in an answer, and when it ends.

    `answer`: ``{"access_token": "eyJ...", "expires_in": 899, "token_type": "Bearer"}``.

    Raises:
        MissingFieldError: one of the two is absent or of the wrong type.
    """
    where = "LINE access token"
    seconds = answer.get("expires_in")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 < seconds < 10**9:
        msg = f"{where}: expires_in is not a number of seconds"
        raise MissingFieldError(msg)
    return text_of(answer, "access_token", where), now + timedelta(seconds=seconds)
