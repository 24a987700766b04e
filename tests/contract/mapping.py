"""What every mapping of a platform's webhooks shows: a fixture and a golden file for each kind of event.

A golden file is rewritten by a command; reading the difference is a duty::

    UPDATE_GOLDEN=1 pytest tests/mappings
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mappings.errors import PayloadError
from mappings.records import Record
from taps.webhooks.items import Item

FIXTURES = Path(__file__).parent.parent / "fixtures"
GOLDEN = Path(__file__).parent.parent / "golden"

Split = Callable[[bytes], list[Item]]
Map = Callable[[Item], Sequence[Record]]


def fixture_names(slug: str) -> list[str]:
    """The events of a platform that have a fixture."""
    return sorted(path.stem for path in (FIXTURES / slug).glob("*.json"))


def load_delivery(slug: str, name: str) -> bytes:
    """The body of the delivery in a fixture."""
    return (FIXTURES / slug / f"{name}.json").read_bytes()


def load_items(slug: str, split: Split) -> dict[str, list[Item]]:
    """The events of every fixture."""
    return {name: split(load_delivery(slug, name)) for name in fixture_names(slug)}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON."""


@st.composite
def spoiled(draw: st.DrawFn, payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload with any JSON in one of its places."""
    copied: dict[str, Any] = copy.deepcopy(dict(payload))
    path = draw(st.sampled_from(_paths(copied)[1:]))
    holder: Any = copied
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = draw(VALUES)
    return copied


@st.composite
def spoiled_items(draw: st.DrawFn, items: Mapping[str, Sequence[Item]]) -> Item:
    """An event of some fixture with any JSON in one of its places."""
    item = draw(st.sampled_from(items[draw(st.sampled_from(sorted(items)))]))
    return Item(item.index, item.kind, draw(spoiled(item.payload)), item.key)


def check_spoiled(item: Item, map_item: Map) -> None:
    """Whatever stands in a payload, the mapping gives records that can be written, or says why not."""
    try:
        records = map_item(item)
    except PayloadError:
        return
    for record in records:
        record.model_dump_json().encode()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path, *(deeper for name, child in children for deeper in _paths(child, (*path, name)))]


def told(items: Sequence[Item], map_item: Map) -> list[dict[str, Any]]:
    """What a mapping makes of `items`: records without what is absent, errors by name, nothing as ``ignored``."""
    lines: list[dict[str, Any]] = []
    for item in items:
        before = copy.deepcopy(item.payload)
        try:
            records = map_item(item)
        except PayloadError as error:
            lines.append({"item": item.index, "error": type(error).__name__, "reason": str(error)})
        else:
            lines += [{"item": item.index, "stream": record.stream, **_short(record)} for record in records]
            if not records:
                lines.append({"item": item.index, "ignored": item.kind})
        assert item.payload == before, "a mapping must not change its argument"
    return lines


def check_golden(slug: str, name: str, lines: list[dict[str, Any]]) -> None:
    """Compare with the golden file, or rewrite it when UPDATE_GOLDEN is set."""
    path = GOLDEN / slug / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(lines, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    assert lines, f"{name} gives nothing at all"
    assert lines == json.loads(path.read_text(encoding="utf-8"))


def check_no_golden_is_left_over(slug: str) -> None:
    """Every golden file belongs to a fixture."""
    golden = {path.stem for path in (GOLDEN / slug).glob("*.json")}
    assert golden == set(fixture_names(slug))


def _short(record: Record) -> dict[str, Any]:
    values: dict[str, Any] = record.model_dump(mode="json", exclude_defaults=True)
    return values
