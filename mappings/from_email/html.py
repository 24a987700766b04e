"""HTML mail as text, through inscriptis, kept from what a hostile or careless mail does to it.

Measured with inscriptis 2.7.6, 2026-11: a table pads every row to its widest cell and nested lists indent every line,
so a small mail can become gigabytes; ``margin`` and ``padding`` styles write up to 100,000 characters each. So tables
become lines, and of the styles only ``display: none`` counts. lxml silently loses everything after the 255th open
element; such a mail, one that is longer than `LONGEST` and one that inscriptis makes nothing of lose their tags only.
"""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from typing import Any

from inscriptis import get_text
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping

LONGEST = 3_000_000
DEEPEST = 150
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_PIECE = re.compile(r"(<[^<>]*>)")
_NOT_DEEPER = frozenset("area base br col hr img input link meta p source track wbr".split())
"""Elements without content, and the paragraph, which the next one closes."""
_BREAKS_LINE = frozenset("br p div tr li h1 h2 h3 h4 h5 h6 table ul ol blockquote pre hr".split())
_UNSEEN = frozenset({"script", "style", "head", "title"})
_MANY_BLANKS = re.compile(r"\n{3,}")


def text_from_html(html: str) -> str:
    """The text of an HTML mail: what a reader sees, one line per block. Never raises."""
    if len(html) > LONGEST or _depth(html) > DEEPEST:
        return _without_tags(html)
    try:
        text: str = get_text(html, _config())
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, AssertionError):
        text = ""
    if not text.strip():
        return _without_tags(html)
    return _MANY_BLANKS.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n")))


@cache
def _config() -> Any:
    flat = {
        **STRICT_CSS_PROFILE,
        **{tag: HtmlElement(display=Display.block) for tag in ("table", "tbody", "thead", "tr", "ul", "ol")},
        **{tag: HtmlElement(display=Display.inline, suffix=" ", limit_whitespace_affixes=True) for tag in ("td", "th")},
    }
    no_tables = CustomHtmlTagHandlerMapping(
        dict.fromkeys(("table", "tr", "td", "th")), dict.fromkeys(("table", "td", "th"))
    )
    config = ParserConfig(css=flat, custom_html_tag_handler_mapping=no_tables)
    config.attribute_handler.attribute_mapping = {"style": _hide}
    return config


def _hide(style: str, element: Any) -> None:
    if "display:none" in style.lower().replace(" ", ""):
        element.display = Display.none


def _depth(html: str) -> int:
    """How many elements are open at most, counted generously: an element that nobody closes stays open."""
    depth = deepest = 0
    for tag in _TAG.finditer(html):
        if tag.group(2).lower() in _NOT_DEEPER:
            continue
        depth = max(depth - 1, 0) if tag.group(1) else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _without_tags(html: str) -> str:
    pieces: list[str] = []
    unseen: str | None = None
    for piece in _PIECE.split(html):
        match = _TAG.match(piece)
        if match is None:
            if unseen is None and not piece.startswith("<!"):
                pieces.append(piece)
            continue
        closing, name = match.group(1), match.group(2).lower()
        if unseen is not None:
            unseen = None if closing and name == unseen else unseen
        elif name in _UNSEEN and not closing:
            unseen = name
        elif name in _BREAKS_LINE:
            pieces.append("\n")
    lines = (" ".join(line.split()) for line in unescape("".join(pieces)).split("\n"))
    return _MANY_BLANKS.sub("\n\n", "\n".join(lines)).strip()
