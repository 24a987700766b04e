"""A published SOQL grammar on statements given on stdin as a JSON list. Out: for each whether it parses."""

from __future__ import annotations

import json
import sys

from python_soql_parser import parse  # type: ignore[import-not-found]


def parses(statement: str) -> bool:
    """Whether the grammar takes the statement."""
    try:
        parse(statement)
    except Exception:  # noqa: BLE001 (pyparsing's errors change their names between versions)
        return False
    return True


if __name__ == "__main__":
    json.dump([parses(one) for one in json.load(sys.stdin)], sys.stdout)
