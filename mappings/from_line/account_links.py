"""Whom the ``nonce`` of an account link stands for: the contract between a site's login page and us.

LINE makes sure that the LINE user who logged in is the one for whom the link token was issued, and gives the nonce back
unchanged. Who that is on the site, only the site knows: it says so in the nonce, and signs it. A nonce must not be
guessed and works once, so the moment of issue is signed too, and a nonce is believed as long as a link token lives.

Sources: developers.line.biz/en/docs/messaging-api/linking-accounts (documented: who is checked; 10 to 255 characters),
github.com/line/line-openapi @6e4c2a2 messaging-api.yml (documented: a link token is valid for ten minutes, once), read
2026-11.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from mappings.contact_points import normalize_email, normalize_phone
from mappings.records import Handle, Strength

NONCE_LASTS = timedelta(minutes=10)
_CLOCKS_DIFFER = timedelta(minutes=1)
_SIGNED = re.compile(r"(.+):([0-9]{10}):[0-9a-f]{64}", re.DOTALL)
_HANDLES: Mapping[str, Callable[[str], str | None]] = {"email": normalize_email, "phone": normalize_phone}


def sign_nonce(identity: str, issued_at: datetime, secret: str) -> str:
    """What a site gives LINE as ``nonce`` so that we believe it: base64 of ``login:4711:<time>:<signature>``.

    Args:
        identity: ``email:<address>``, ``phone:<E.164>`` or ``login:<id>``; at most 115 bytes, as LINE takes 255 in all.
        issued_at: now, when the customer has logged in.
        secret: the tap's ``account_link_secret``. The signature is the hexadecimal HMAC-SHA256 of all before its colon,
            the time the seconds since 1970; base64 is the URL-safe kind, without padding.
    """
    signed = f"{identity}:{int(issued_at.timestamp())}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return base64.urlsafe_b64encode(f"{signed}:{signature}".encode()).decode().rstrip("=")


def handle_of_nonce(nonce: str, account: str, linked_at: datetime, secret: str | None) -> tuple[Handle, Strength]:
    """Who a nonce stands for, and how far to believe it.

    *Verified* is only what carries the signature of `sign_nonce` and was issued at most ten minutes before. All else,
    also a site's own one-time word (kept as kind ``login`` in the bot's scope), is *claimed*, which links nobody.
    """
    text = _decoded(nonce)
    match = _SIGNED.fullmatch(text)
    if match is None:
        return _handle(text, account) or Handle(kind="login", scope=account, value=nonce), "claimed"
    identity = match.group(1)
    issued_at = datetime.fromtimestamp(int(match.group(2)), UTC)
    fresh = -_CLOCKS_DIFFER <= linked_at - issued_at <= NONCE_LASTS + _CLOCKS_DIFFER
    expected = sign_nonce(identity, issued_at, secret) if secret else ""
    signed = bool(secret) and hmac.compare_digest(expected.encode(), nonce.rstrip("=").encode())
    handle = _handle(identity, account) or Handle(kind="login", scope=account, value=identity)
    return handle, "verified" if signed and fresh else "claimed"


def _handle(identity: str, account: str) -> Handle | None:
    kind, _, value = identity.partition(":")
    normalize = _HANDLES.get(kind)
    found = normalize(value) if normalize else None
    if found is not None:
        return Handle(kind=kind, value=found)
    return Handle(kind="login", scope=account, value=value) if kind == "login" and value else None


def _decoded(nonce: str) -> str:
    """The text in a base64 nonce; the nonce itself when it is none of ours."""
    bare = nonce.rstrip("=")
    try:
        text = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:  # also binascii.Error and UnicodeDecodeError
        return nonce
    return text if text.isprintable() else nonce
