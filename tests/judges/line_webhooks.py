"""LINE's own SDK as a receiver: its signature check and its models for each webhook given on stdin.

In: ``{"secret", "posts": [{"body", "signature"}]}``. Out, for each: ``good`` and ``tampered`` (what its validator says)
and ``events``: class, event id, redelivery, source and content of each event as its parser made them.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

from linebot.v3 import WebhookParser  # noqa: E402
from linebot.v3.webhook import SignatureValidator  # noqa: E402


def said(event: Any) -> dict[str, Any]:
    """What the parser made of one event."""
    told: dict[str, Any] = {"class": type(event).__name__, "type": event.type}
    told["id"], told["at"] = event.webhook_event_id, event.timestamp
    told["again"] = event.delivery_context.is_redelivery
    told["source"] = json.loads(event.source.to_json()) if event.source else None
    message = getattr(event, "message", None)
    if message is not None:
        told["message"] = {"class": type(message).__name__, **json.loads(message.to_json())}
    return told


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    validator, parser = SignatureValidator(work["secret"]), WebhookParser(work["secret"])
    results = []
    for post in work["posts"]:
        body, signature = post["body"], post["signature"]
        good = validator.validate(body, signature)
        results.append({
            "good": good,
            "tampered": validator.validate(f"{body} ", signature),
            "events": [said(event) for event in parser.parse(body, signature)] if good else [],
        })  # fmt: skip
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
