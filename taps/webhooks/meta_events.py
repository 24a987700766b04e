"""The events of a delivery of Messenger or Instagram, which have one envelope.

A delivery holds entries (one for each page or account), an entry holds events in lists: ``messaging``, ``standby``
while another app owns the thread, and ``changes``, where an event stands in ``value`` beside its ``field``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taps.webhooks.items import Item
from taps.webhooks.meta import key_of_content, parse_body

_AROUND = {"hop_context"}  # which apps passed the thread on: about the entry, no event

# Whether it came in standby, the field of a change, and the event itself.
_Event = tuple[bool, str | None, Any]


def items_of(
    body: bytes,
    *,
    of: str,
    account_field: str,
    kind_of: Callable[[str | None, Any], str],
    key_of: Callable[[str, Any], str],
    bare_changes: bool = False,
) -> list[Item]:
    """Every event of a delivery, in the order in which they stand; what nobody documented is of kind ``other``.

    Args:
        body: as it came.
        of: the delivery's ``object``.
        account_field: what the items' payloads call the entry's id.
        kind_of: the kind of an event, by the field of a change and the event.
        key_of: the key of an event, by its kind.
        bare_changes: whether an entry may itself be a change, with ``field`` and ``value``.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    entries = whole.get("entry")
    if whole.get("object") != of or not isinstance(entries, list) or not entries:
        payload: dict[str, Any] = {account_field: None, "standby": False, "entry_time": None, "field": None}
        payload["event"] = whole
        return [Item(0, "other", payload, key_of_content("other", whole))]
    items: list[Item] = []
    for entry in entries:
        about = entry if isinstance(entry, dict) else {}
        for standby, field, event in _events(entry, bare_changes=bare_changes):
            payload = {
                account_field: about.get("id"),
                "standby": standby,
                "entry_time": about.get("time"),
                "field": field,
                "event": event,
            }
            kind = kind_of(field, event)
            items.append(Item(len(items), kind, payload, key_of(kind, event)))
    return items


def _events(entry: Any, *, bare_changes: bool) -> list[_Event]:
    """The events of one entry; the entry itself when it has none."""
    events: list[_Event] = []
    for name, content in entry.items() if isinstance(entry, dict) else ():
        if name in {"messaging", "standby"}:
            found = content if isinstance(content, list) else [content]
            events += [(name == "standby", None, event) for event in found]
        elif name == "changes":
            events += [_change(change) for change in (content if isinstance(content, list) else [content])]
        elif bare_changes and name == "value" and isinstance(entry.get("field"), str):
            events.append(_change(entry))
        elif name not in _AROUND and isinstance(content, list):
            events += [(False, None, {name: event}) for event in content]
    return events or [(False, None, entry)]


def _change(change: Any) -> _Event:
    """The field and the value of a change."""
    if isinstance(change, dict) and isinstance(change.get("value"), dict):
        field = change.get("field")
        return False, field if isinstance(field, str) else None, change["value"]
    return False, None, change
