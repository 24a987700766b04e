"""What WhatsApp refuses at once in a request to send: missing, wrong and overlong parts, templates it does not know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from sandbox.meta import refuse
from sandbox.whatsapp.records import MEDIA_KINDS, TITLES, Template

Templates = Mapping[tuple[str, str], Template]


def content(
    kind: str,
    sent: Any,
    *,
    by_user_id: bool,
    templates: Templates,
    known_messages: Collection[str],
    known_media: Collection[str],
) -> tuple[str | None, str]:
    """The text that the customer sees and the price category; ends the request when `sent` is wrong."""
    known = {"text", "reaction", "template", "interactive", "location", "contacts", *MEDIA_KINDS}
    if kind not in known:
        bad(f"Param type must be one of {{{', '.join(sorted(known))}}}")
    if kind == "contacts" and isinstance(sent, list):
        return None, "service"
    if not isinstance(sent, dict):
        bad(f"Parameter {kind} is required for type {kind}.", 131008)
    if kind == "template":
        return template(sent, templates, by_user_id=by_user_id)
    if kind == "text":
        return limited(sent.get("body"), "text['body']", 4096), "service"
    if kind in MEDIA_KINDS:
        if bool(sent.get("id")) == bool(sent.get("link")):
            bad(f"{kind} needs either an id or a link.", 131009)
        if sent.get("id") and sent["id"] not in known_media:
            bad("No media has this id.", 131053)
        caption = sent.get("caption")
        return None if caption is None else limited(caption, f"{kind}['caption']", 1024), "service"
    if kind == "reaction":
        if sent.get("message_id") not in known_messages or not isinstance(sent.get("emoji"), str):
            bad("reaction needs the id of a message of this chat and an emoji.", 131009)
        return sent["emoji"], "service"
    if kind == "interactive":
        return interactive(sent), "service"
    if kind == "location" and not {"latitude", "longitude"} <= sent.keys():
        bad("location needs latitude and longitude.", 131008)
    return None, "service"


def interactive(sent: dict[str, Any]) -> str:
    """The body text of an interactive message; ends the request when it or its buttons are too long."""
    is_list = sent.get("type") == "list"
    text = limited((sent.get("body") or {}).get("text"), "body['text']", 4096 if is_list else 1024)
    action = sent.get("action") or {}
    buttons = [one.get("reply", {}) for one in action.get("buttons", ())]
    rows = [row for section in action.get("sections", ()) for row in section.get("rows", ())]
    if (
        len(buttons) > 3
        or len(rows) > 10
        or any(len(one.get("title", "")) > 20 or len(one.get("id", "")) > 256 for one in buttons)
        or any(len(row.get("title", "")) > 24 or len(row.get("description", "")) > 72 for row in rows)
    ):
        bad("At most 3 buttons of 20 characters, at most 10 rows of 24 and 72 characters.", 131009)
    return text


def template(sent: dict[str, Any], templates: Templates, *, by_user_id: bool) -> tuple[str, str]:
    """The text of a template with its parameters, and its category in lower case."""
    language = (sent.get("language") or {}).get("code", "")
    found = templates.get((str(sent.get("name")), language))
    if found is None or found.status != "APPROVED":
        bad(f"template name ({sent.get('name')}) does not exist in {language}", 132001)
    if by_user_id and found.category == "AUTHENTICATION":
        bad(TITLES[131062], 131062)
    bodies = [one for one in sent.get("components") or () if str(one.get("type")).lower() == "body"]
    values = [value for one in bodies for value in one.get("parameters", ())]
    if len(values) != found.variables:
        expected = f"expected number of params ({found.variables})"
        bad(f"body: number of localizable_params ({len(values)}) does not match the {expected}", 132000)
    text = found.body
    for number, value in enumerate(values, start=1):
        text = text.replace(f"{{{{{value.get('parameter_name', number)}}}}}", str(value.get("text", "")))
    return text, found.category.lower()


def limited(text: Any, name: str, limit: int) -> str:
    """`text`, if it is one and not longer than `limit`."""
    if not isinstance(text, str) or not text:
        bad(f"The parameter {name} is required.")
    if len(text) > limit:
        refuse(100, f"(#100) Param {name} must be at most {limit} characters long.")
    return text


def bad(details: str, code: int = 100) -> NoReturn:
    """End the request with `code` and its title."""
    refuse(code, f"(#{code}) {TITLES.get(code, 'Message failed')}", details=details)


def missing(node: str, verb: str) -> NoReturn:
    """End the request as Graph does for an id that it does not know."""
    refuse(
        100,
        f"Unsupported {verb} request. Object with ID '{node}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation.",
        subcode=33,
        kind="GraphMethodException",
    )
