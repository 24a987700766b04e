"""pywa as a sender: runs the calls given on stdin against a server, writes what came of each.

In: ``{"url", "phone_number_id", "token", "calls": [{"call", "arguments"}]}``. Out: one ``{"ok": {...}}`` or
``{"error": class, "code", "details", "status"}`` for each call.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from pywa import WhatsApp, types
from pywa.errors import WhatsAppError
from pywa.types import templates


def send(wa: WhatsApp, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One call; the parts of pywa's own object that it made of the answer."""
    if call == "media":
        found = wa.get_media_url(arguments["media_id"])
        data = wa.get_media_bytes(found.url)
        return {"mime_type": found.mime_type, "size": found.file_size, "right": _digest(data) == found.sha256}
    if call == "upload_media":
        arguments["media"] = arguments["media"].encode()
        return {"id": wa.upload_media(**arguments).id}
    if call == "send_message" and "buttons" in arguments:
        arguments["buttons"] = [types.Button(title=title, callback_data=data) for title, data in arguments["buttons"]]
    if call == "send_template":
        arguments["language"] = templates.TemplateLanguage(arguments["language"])
    answer = getattr(wa, call)(**arguments)
    if isinstance(answer, bool) or not hasattr(answer, "chat"):
        return {"answer": bool(answer)}
    status = getattr(answer, "status", None)
    return {"id": answer.id, "to": answer.to, "input": answer.input, "status": status and str(status)}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    wa = WhatsApp(phone_id=work["phone_number_id"], token=work["token"], api_version=23.0)
    wa.api._session.base_url = f"{work['url']}/v23.0"
    results: list[dict[str, Any]] = []
    for one in work["calls"]:
        try:
            results.append({"ok": send(wa, one["call"], one.get("arguments", {}))})
        except WhatsAppError as error:
            results.append({
                "error": type(error).__name__, "code": error.code, "details": error.details,
                "message": error.message, "status": error.status_code,
            })  # fmt: skip
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
