"""pywa as a receiver: its signature check and its models for each webhook given on stdin.

In: ``{"app_secret", "posts": [{"body", "signature"}]}``. Out, for each: ``good``, ``tampered`` and ``unsigned`` (the
status that pywa answers) and ``updates``: what its models made of each message and status. pywa reads the first element
of each list only, so a body is taken apart before the models see it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from pywa import WhatsApp
from pywa.errors import PywaWarning
from pywa.types import RawUpdate

LISTS = ("messages", "statuses", "message_echoes", "user_preferences", "user_id_update", "errors")


def single(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each element of each list of each change, as a body of its own with the contact that it belongs to."""
    for entry in body["entry"]:
        for change in entry["changes"]:
            value = change["value"]
            for name in LISTS:
                for element in value.get(name, ()):
                    alone = {key: each for key, each in value.items() if key not in LISTS} | {name: [element]}
                    if "contacts" in value:
                        alone["contacts"] = [contact(value["contacts"], element)]
                    changed = {"field": change["field"], "value": alone}
                    yield name, {"object": body["object"], "entry": [{"id": entry["id"], "changes": [changed]}]}


def contact(contacts: list[dict[str, Any]], element: dict[str, Any]) -> dict[str, Any]:
    """The contact of a message or status: by user id, else by phone."""
    user_id = element.get("from_user_id") or element.get("recipient_user_id") or element.get("user_id")
    phone = element.get("from") or element.get("recipient_id") or element.get("wa_id")
    for one in contacts:
        if (user_id and one.get("user_id") == user_id) or (phone and one.get("wa_id") == phone):
            return one
    return contacts[0]


def modelled(wa: WhatsApp, body: dict[str, Any]) -> dict[str, Any]:
    """What the model of pywa says of one update."""
    raw = RawUpdate(json.dumps(body).encode(), hmac_header=None, update_hash="")
    handler = wa._get_handler_type(raw)
    model = wa._handlers_to_updates.get(handler) if handler else None
    if model is None:
        return {"model": None}
    update = model.from_update(client=wa, update=raw)
    said: dict[str, Any] = {"model": type(update).__name__, "id": update.id, "at": update.timestamp.timestamp()}
    person = update.from_user
    said |= {"user_id": person.bsuid, "wa_id": person.wa_id, "name": person.name, "username": person.username}
    for name in ("type", "status", "text", "title", "data", "tracker", "original_message_id", "old_wa_id", "new_wa_id",
                 "new_user_id", "value", "sys_type"):  # fmt: skip
        if (found := getattr(update, name, None)) is not None:
            said[name] = str(found)
    for name in ("image", "sticker", "audio", "video", "document"):
        if (found := getattr(update, name, None)) is not None:
            said["media"] = found.id
    for name in ("location", "contacts", "order", "referral", "reply_to_message", "pricing"):
        if getattr(update, name, None):
            said[name] = True
    if (reaction := getattr(update, "reaction", None)) is not None:
        said["reaction"] = [reaction.message_id, reaction.emoji]
    if (edited := getattr(update, "message", None)) is not None:
        said["text"] = edited.text
    if (error := getattr(update, "error", None)) is not None:
        said["error"] = [type(error).__name__, error.code]
    return said


def judged(wa: WhatsApp, post: dict[str, str]) -> dict[str, Any]:
    """The verdict on one post."""
    body = post["body"].encode()
    tampered = body.replace(b"whatsapp_business_account", b"whatsapp_business_accounT")
    verdict: dict[str, Any] = {
        "good": wa.webhook_update_handler(body, hmac_header=post["signature"])[1],
        "tampered": wa.webhook_update_handler(tampered, hmac_header=post["signature"])[1],
        "unsigned": (wa.webhook_update_validator(body, None) or ("", 200))[1],
        "updates": [],
    }
    for name, alone in single(json.loads(body)):
        try:
            verdict["updates"].append({"list": name, **modelled(wa, alone)})
        except (KeyError, TypeError, ValueError, IndexError) as error:
            verdict["updates"].append({"list": name, "problem": repr(error)})
    return verdict


def main() -> None:
    """Read, judge, write."""
    warnings.simplefilter("ignore", PywaWarning)
    work = json.load(sys.stdin)
    wa = WhatsApp(phone_id=None, token="none", app_secret=work["app_secret"], filter_updates=False)
    json.dump([judged(wa, post) for post in work["posts"]], sys.stdout)


if __name__ == "__main__":
    main()
