"""The canonical records: what their documentation says of them is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mappings.records import Handle

GOLDEN = Path(__file__).parent.parent / "golden"
GLOBAL = {"email", "phone", "telegram_user", "telegram_chat", "x_user"}


def handles_in(value: Any) -> Iterator[tuple[str, str | None]]:
    """Kind and scope of each handle that stands anywhere in a JSON value."""
    if isinstance(value, dict):
        if value.keys() == {"kind", "scope", "value"}:
            yield value["kind"], value["scope"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from handles_in(one)


def test_every_kind_of_handle_that_mappings_emit_is_documented_with_its_scope() -> None:
    found = {one for path in GOLDEN.rglob("*.json") for one in handles_in(json.loads(path.read_text("utf-8")))}
    named = set(re.findall(r"``([a-z_]+)``", Handle.__doc__ or ""))
    assert {kind for kind, _ in found} <= named
    assert {kind for kind, scope in found if scope is None} <= GLOBAL | {"wechat_unionid"}  # bound to one, unless told
    assert len({kind for kind, _ in found}) > 15
