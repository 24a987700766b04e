"""Whom the ``authorization_code`` of an account link stands for: the contract between a site's login page and us.

Source: developers.facebook.com/documentation/business-messaging/messenger-platform (account linking), documented: the
site makes the code up, the browser carries it to Meta, the webhook brings it to us unchanged.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

from mappings.contact_points import normalize_email, normalize_phone
from mappings.records import Handle, Strength

_SIGNED = re.compile(r"(.+):[0-9a-f]{64}", re.DOTALL)
_CODE_HANDLES: Mapping[str, Callable[[str], str | None]] = {"email": normalize_email, "phone": normalize_phone}


def sign_authorization_code(identity: str, secret: str) -> str:
    """What a site gives back as ``authorization_code`` so that we believe it: ``email:ada@shop.example:<signature>``.

    Args:
        identity: ``email:<address>``, ``phone:<E.164>`` or ``login:<id>``.
        secret: the tap's ``account_link_secret``. The signature is the hexadecimal HMAC-SHA256 of `identity`.
    """
    return f"{identity}:{hmac.new(secret.encode(), identity.encode(), hashlib.sha256).hexdigest()}"


def handle_of_authorization_code(code: str, page_id: str, secret: str | None) -> tuple[Handle, Strength]:
    """Who an authorization code stands for, and how far to believe it.

    The code travels through the customer's browser, so anybody can put any address there: an e-mail address or phone
    is *verified* only with the signature of `sign_authorization_code`, else *claimed*, which links nobody. A code of
    any other form is the site's own id or one-time word, kept as kind ``login`` in the page's scope: verified, unless
    a secret is set (then it must be signed as well).
    """
    match = _SIGNED.fullmatch(code)
    identity = match.group(1) if match else code
    signed = False
    if match and secret:
        expected = sign_authorization_code(identity, secret)
        signed = hmac.compare_digest(expected.encode(), code.encode())
    kind, _, value = identity.partition(":")
    normalize = _CODE_HANDLES.get(kind)
    found = normalize(value) if normalize else None
    if found is None and not value:
        kind, found = "email", normalize_email(identity)
    if found is not None:
        return Handle(kind=kind, value=found), "verified" if signed else "claimed"
    login = value if kind == "login" and value else identity
    return Handle(kind="login", scope=page_id, value=login), "verified" if signed or not secret else "claimed"
