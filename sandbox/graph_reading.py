"""What reading Meta's Graph API has in common, whichever app it is: field lists, cursors, pages, times, files."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

from werkzeug.wrappers import Request

from sandbox.meta import refuse


def fields_of(text: str) -> dict[str, str]:
    """``id,messages.limit(5){id,message}`` as ``{"id": "", "messages": "limit=5,id,message"}``, in Graph's grammar."""
    found: dict[str, str] = {}
    for name, limit, inner in re.findall(r"(\w+)(?:[.=]?limit\((\d+)\))?(?:\{((?:[^{}]|\{[^{}]*\})*)\})?", text):
        found[name] = ",".join(part for part in (inner, f"limit({limit})" if limit else "") if part)
    if (own := re.search(r"(?:^|,)limit\((\d+)\)", text)) is not None:
        found["limit"] = own.group(1)
    return found


def cursor_of(key: str) -> str:
    """A cursor behind the row with that key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def key_of_cursor(cursor: str) -> str:
    """The key in a cursor; empty when it is none."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:
        return ""


def page_of(request: Request, rows: list[Any], key: Callable[[Any], str]) -> tuple[list[Any], dict[str, Any]]:
    """The first `limit` rows, and their ``paging`` with a ``next`` when there are more."""
    shown = rows[: int(request.args.get("limit", 25))]
    if not shown:
        return [], {}
    paging: dict[str, Any] = {"cursors": {"before": cursor_of(key(shown[0])), "after": cursor_of(key(shown[-1]))}}
    if len(shown) < len(rows):
        url = re.sub(r"([?&])after=[^&]*&?", r"\1", request.url).rstrip("?&")
        paging["next"] = f"{url}{'&' if '?' in url else '?'}after={paging['cursors']['after']}"
    return shown, paging


def graph_time(epoch: float) -> str:
    """A time as Graph writes it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def attachment_row(sent: dict[str, Any]) -> dict[str, Any]:
    """An attachment as the Conversations API shows it."""
    url = (sent.get("payload") or {}).get("url", "")
    name = url.rpartition("/")[2]
    if sent["type"] in {"image", "sticker"}:
        return {"id": name, "mime_type": "image/jpeg", "image_data": {"url": url, "preview_url": url}}
    if sent["type"] == "video":
        return {"id": name, "mime_type": "video/mp4", "video_data": {"url": url}}
    return {"id": name, "mime_type": "application/octet-stream", "file_url": url}


def refuse_missing(node: str) -> NoReturn:
    """End the request: there is no such node, or not for this token."""
    refuse(
        100,
        f"Unsupported request. Object with ID '{node}' does not exist, cannot be loaded due to missing permissions,"
        " or does not support this operation",
        subcode=33,
        kind="GraphMethodException",
    )
