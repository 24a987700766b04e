"""Slack's text as people read it: links, names and escaped signs decoded; bold, lists and emoji left as typed.

Source: docs.slack.dev/messaging/formatting-message-text (``&amp; &lt; &gt;`` are the only escaped signs, ``<...>``
holds links, people, channels and commands; read 2026-11, documented).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPECIAL = re.compile(r"<([^<>\s][^<>\n]{0,4000})>")
_MAX_BLOCKS = 500


def plain_text(text: str | None) -> str | None:
    """What somebody typed, from what Slack makes of it; ``None`` when nothing is left."""
    if not text:
        return None
    decoded = _SPECIAL.sub(lambda match: _special(match.group(1)), text)
    decoded = decoded.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return decoded if decoded.strip() else None


def text_of_blocks(blocks: Any) -> str | None:
    """The words in Block Kit, for a message whose text is empty; a shape that nobody documented gives nothing."""
    words = []
    for number, word in enumerate(_words(blocks)):
        if number == _MAX_BLOCKS:
            break
        words.append(word)
    return plain_text("\n".join(words))


def _special(inside: str) -> str:
    target, _, label = inside.partition("|")
    sign = target[:1]
    if sign in {"@", "#"}:
        return f"{sign}{label.lstrip(sign) or target[1:]}"
    if sign == "!":
        command = target[1:]
        return label or f"@{command.partition('^')[0]}"
    bare = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in {target, bare, bare.partition("://")[2]}:
        return bare
    return f"{label} ({bare})"


def _words(value: Any, depth: int = 0) -> Iterator[str]:
    """Every text in blocks, in order. An element of rich text joins its neighbours' line."""
    if depth > 20:
        return
    if isinstance(value, list):
        for one in value:
            yield from _words(one, depth + 1)
    elif isinstance(value, Mapping):
        if str(value.get("type", "")).startswith("rich_text_") and isinstance(value.get("elements"), list):
            yield "".join(_words(value["elements"], depth + 1))
            return
        text = value.get("text")
        if isinstance(text, str):
            yield text
        elif text is not None:
            yield from _words(text, depth + 1)
        elif isinstance(value.get("url"), str) and value.get("type") == "link":
            yield value["url"]
        for name in ("elements", "fields", "title"):
            if name in value:
                yield from _words(value[name], depth + 1)
