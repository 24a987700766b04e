"""What ``onethread doctor`` asks of every account on Meta's Graph API.

Source: developers.facebook.com/docs/graph-api/reference/debug_token, documented, read 2026-11; that ``expires_at`` is 0
for a token that does not end is observed. Which tokens may ask about themselves is not documented; one that may not is
"unknown" here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from mappings.errors import PayloadError, RejectedError
from mappings.fields import object_of
from taps.base import Check
from taps.meta_session import GraphSession

_SOON = timedelta(days=7)


def check_token(
    session: GraphSession, token: SecretStr, now: datetime, scopes: Collection[str] = ()
) -> Iterator[Check]:
    """Whether the token is valid, until when, and whether it has these permissions.

    Raises:
        CredentialsError: Meta refuses the token altogether.
    """
    try:
        answer = session.fetch_json("debug_token", {"input_token": token.get_secret_value()})
        told = object_of(answer, "data", session.platform)
    except (RejectedError, PayloadError) as error:
        yield Check("token's end", ok=None, detail=f"this token may not be asked about itself ({error})")
        return
    ends = _moment(told, "expires_at")
    if told.get("is_valid") is not True:
        yield Check("access token", ok=False, detail="not valid", fix="make a new token and set access_token")
        return
    detail = f"valid until {ends:%Y-%m-%d %H:%M} UTC" if ends else "valid, does not end"
    soon = ends is not None and ends - now < _SOON
    yield Check("token's end", ok=not soon, detail=detail, fix="it ends soon: make a new one" if soon else "")
    granted = told.get("scopes")
    if scopes and isinstance(granted, list):
        missing = sorted(set(scopes) - {str(one) for one in granted})
        detail = f"missing: {', '.join(missing)}" if missing else "granted: all that are needed"
        yield Check("permissions", ok=not missing, detail=detail, fix="grant them to the token" if missing else "")


def _moment(told: Mapping[str, Any], name: str) -> datetime | None:
    epoch = told.get(name)
    return datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) and 0 < epoch < 10**11 else None
