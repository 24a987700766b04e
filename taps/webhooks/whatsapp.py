"""WhatsApp's webhook: handshake, signature, and one item per event of a delivery.

A delivery may hold up to 1000 updates: several WhatsApp Business Accounts (``entry``), several changes each, several
messages and statuses in one change. Every one becomes an item; so does what this module has no word for.

Sources: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks (overview: batching, 3 MB bodies;
reference pages ``messages``, ``user_preferences`` of 2025-11-05, ``history`` of 2025-12-12) and github.com/facebook/
openapi business-messaging-api_v23.0.yaml (documented); ``user_id_update``: docs.360dialog.com/docs/resources/
phone-numbers/usernames-and-bsuid (documented by a partner).
"""

from __future__ import annotations

from typing import Any

from pydantic_settings import SettingsConfigDict

from taps.webhooks.items import Item
from taps.webhooks.meta import SIGNATURE_HEADER, MetaWebhookSettings, challenge, key_of_content, parse_body, verify

__all__ = ["HEADERS", "MAX_BODY_BYTES", "Settings", "challenge", "split", "verify"]

MAX_BODY_BYTES = 3 * 1024 * 1024
HEADERS = (SIGNATURE_HEADER,)

_KINDS = {
    "messages": "message",
    "statuses": "status",
    "message_echoes": "message_echo",
    "errors": "error",
    "user_preferences": "user_preference",
    "user_id_update": "user_id_update",
    "groups": "group_event",
    "state_sync": "contact_sync",
}
"""Array of a change's value -> the kind of its elements. ``history`` is nested deeper and has a function of its own."""

_AROUND = {"messaging_product", "metadata", "contacts", "history", *_KINDS}
_CUSTOMER_IDS = ("from", "from_user_id", "to", "to_user_id", "recipient_id", "recipient_user_id", "wa_id", "user_id")

# What one event is: its kind, the event itself, and what else its mapping needs besides the common surroundings.
_Event = tuple[str, Any, dict[str, Any]]


class Settings(MetaWebhookSettings):
    """The secrets of the app that receives WhatsApp's webhooks."""

    model_config = SettingsConfigDict(env_prefix="ONETHREAD_WHATSAPP_")


def split(body: bytes) -> list[Item]:
    """Every event of a delivery, in the order in which they stand.

    The payload of an item::

        {"waba_id": "102290129340398", "field": "messages", "metadata": {"phone_number_id": "106540352242922", ...},
         "contact": {"wa_id": "447700900123", ...} or None, "item": {"id": "wamid.HBg...", "type": "text", ...}}

    ``contact`` is the element of ``contacts`` with one of the event's customer ids. A ``history_message`` also has
    ``history`` (phase, chunk_order, progress) and ``thread`` (the thread without its messages). Kind ``other`` holds
    in ``item`` whatever was found in a place or shape that nobody documented.

    Raises:
        PayloadError: the body as a whole cannot be read.
    """
    whole = parse_body(body)
    entries = whole.get("entry")
    if whole.get("object") != "whatsapp_business_account" or not isinstance(entries, list) or not entries:
        return [_item(0, "other", {"waba_id": None, "field": None, "metadata": None, "contact": None}, whole, {})]
    items: list[Item] = []
    for entry in entries:
        waba_id = entry.get("id") if isinstance(entry, dict) else None
        changes = entry.get("changes") if isinstance(entry, dict) else None
        for change in changes if isinstance(changes, list) and changes else [entry]:
            field, value = (change.get("field"), change.get("value")) if isinstance(change, dict) else (None, None)
            if not isinstance(value, dict):
                field, value = None, {"unreadable": change}
            contacts = _contacts(value)
            for kind, event, extra in _events(field, value):
                around = {
                    "waba_id": waba_id,
                    "field": field,
                    "metadata": value.get("metadata"),
                    "contact": _contact(contacts, event),
                }
                items.append(_item(len(items), kind, around, event, extra))
    return items


def _events(field: str | None, value: dict[str, Any]) -> list[_Event]:
    """The events of one change; the value itself, as ``other``, when it has none (account and template updates)."""
    events: list[_Event] = []
    for name, content in value.items():
        if name == "history":
            events += _history(content)
        elif name in _KINDS:
            kind = "history_message" if field == "history" and name == "messages" else _KINDS[name]
            events += [(kind, event, {}) for event in _list(content)]
        elif name not in _AROUND and isinstance(content, list):
            # An array that came with a newer API version: its elements are likely events, so they must be seen.
            events += [("other", {name: event}, {}) for event in content]
    return events or [("other", value, {})]


def _history(chunks: Any) -> list[_Event]:
    """The messages of history chunks, and the errors that stand there when the business shares no history."""
    events: list[_Event] = []
    for chunk in _list(chunks):
        if not isinstance(chunk, dict):
            events.append(("other", chunk, {}))
            continue
        about = {"history": chunk.get("metadata")}
        events += [("error", error, about) for error in _list(chunk.get("errors"))]
        for thread in _list(chunk.get("threads")):
            if not isinstance(thread, dict):
                events.append(("other", thread, about))
                continue
            extra = {**about, "thread": {name: part for name, part in thread.items() if name != "messages"}}
            events += [("history_message", message, extra) for message in _list(thread.get("messages"))]
        if not chunk.get("errors") and not chunk.get("threads"):
            events.append(("other", chunk, {}))
    return events


def _list(value: Any) -> list[Any]:
    """`value` as a list: nothing for ``None``, itself as one element when it should have been a list and is not."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _item(index: int, kind: str, around: dict[str, Any], event: Any, extra: dict[str, Any]) -> Item:
    if not isinstance(event, dict):
        kind = "other"
    return Item(index, kind, {**around, **extra, "item": event}, _key(kind, event))


def _key(kind: str, event: Any) -> str:
    wamid = event.get("id") if isinstance(event, dict) else None
    if isinstance(wamid, str) and wamid:
        if kind in {"message", "message_echo", "history_message"}:
            return wamid
        if kind == "status" and isinstance(event.get("status"), str):
            return f"{wamid}:{event['status']}"
    return key_of_content(kind, event)


def _contacts(value: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The contacts of a change by each of their ids: looked up per event, which may be thousands."""
    return {
        contact[name]: contact
        for contact in _list(value.get("contacts"))
        if isinstance(contact, dict)
        for name in ("wa_id", "user_id")
        if isinstance(contact.get(name), str)
    }


def _contact(contacts: dict[str, dict[str, Any]], event: Any) -> dict[str, Any] | None:
    """The contact that shares a customer id with `event`; the only one there is, when the event names nobody."""
    if not isinstance(event, dict):
        return None
    named = [event[name] for name in _CUSTOMER_IDS if event.get(name) is not None]
    # A user_id_update has {"previous", "current"} where others have the id.
    named += [part for one in named if isinstance(one, dict) for part in one.values()]
    for one in named:
        if isinstance(one, str) and one in contacts:
            return contacts[one]
    found = list(contacts.values())  # a contact stands here once per id, so at most twice
    return found[0] if not named and found and len(found) <= 2 and found[0] is found[-1] else None
