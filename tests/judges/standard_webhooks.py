"""The Standard Webhooks project's own library as signer and verifier.

In: ``{"cases": [{"secret", "id", "timestamp" (seconds), "body", "headers"?}]}``.
Out, for each: ``signature`` (what the library would send) and ``valid`` (what it says of the given headers).
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def main() -> None:
    """Read, sign and verify, write."""
    results = []
    for case in json.load(sys.stdin)["cases"]:
        webhook = Webhook(case["secret"])
        moment = datetime.fromtimestamp(case["timestamp"], UTC)
        signature = webhook.sign(msg_id=case["id"], timestamp=moment, data=case["body"])
        results.append({"signature": signature, "valid": valid(webhook, case)})
    json.dump(results, sys.stdout)


def valid(webhook: Any, case: dict[str, Any]) -> bool | None:
    """Whether the library takes the headers of a case; ``None`` when it has none."""
    if "headers" not in case:
        return None
    try:
        webhook.verify(case["body"], case["headers"])
    except WebhookVerificationError:
        return False
    return True


if __name__ == "__main__":
    main()
