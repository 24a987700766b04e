"""Slack's SDK as a judge of signatures, and as their maker.

In: ``{"verify": [{"secret", "timestamp", "signature", "body"}], "sign": [{"secret", "timestamp", "body"}]}``. Out:
``{"verify": [bool], "sign": [signature]}``.
"""

from __future__ import annotations

import json
import sys

from slack_sdk.signature import SignatureVerifier


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    verified = [
        SignatureVerifier(one["secret"]).is_valid(
            body=one["body"], timestamp=one["timestamp"], signature=one["signature"]
        )
        for one in work["verify"]
    ]
    signed = [
        SignatureVerifier(one["secret"]).generate_signature(timestamp=one["timestamp"], body=one["body"])
        for one in work["sign"]
    ]
    json.dump({"verify": verified, "sign": signed}, sys.stdout)


if __name__ == "__main__":
    main()
