"""Twilio's own library as signer and verifier.

In: ``{"cases": [{"secret", "url", "parameters": [[name, value]] or text of a JSON body, "algorithm", "signature"?}]}``.
Out, for each: ``signature`` (what the library would send) and ``valid`` (what it says of the given one).
"""

from __future__ import annotations

import json
import sys

from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict


def main() -> None:
    """Read, sign and verify, write."""
    results = []
    for case in json.load(sys.stdin)["cases"]:
        validator = RequestValidator(case["secret"])
        body = case["parameters"]
        parameters = body if isinstance(body, str) else MultiDict([tuple(pair) for pair in body])
        signed = {} if isinstance(body, str) else parameters
        given = case.get("signature", "")
        results.append({
            "signature": validator.compute_signature(case["url"], signed, case["algorithm"]),
            "valid": validator.validate(case["url"], parameters, given, case["algorithm"]),
        })  # fmt: skip
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
