"""pywa's implementation of X-Hub-Signature-256, which Meta uses for all its webhooks.

In: ``{"app_secret", "posts": [{"body", "signature"}]}``. Out, for each: ``good``, ``tampered``, ``other_secret``: what
pywa says of the post, of the same with another last byte, and of the same with another secret.
"""

from __future__ import annotations

import json
import sys

from pywa.utils import webhook_updates_validator


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    secret = work["app_secret"]
    verdicts = []
    for post in work["posts"]:
        body, signature = post["body"].encode("latin-1"), post["signature"]
        verdicts.append({
            "good": webhook_updates_validator(secret, body, signature),
            "tampered": webhook_updates_validator(secret, body[:-1] + b" ", signature),
            "other_secret": webhook_updates_validator(f"{secret}x", body, signature),
        })  # fmt: skip
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
