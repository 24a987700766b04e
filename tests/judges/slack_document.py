"""Slack's API document as a judge of objects.

In: ``{"document": file, "objects": [{"schema": name of a definition, or path of a method, "value"}]}``. Out, for each:
what is wrong with it.

The document writes "one of these" as a list under ``items``, which a validator reads as "an array of these" and so
never applies to an object; it is read as it is meant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jsonschema import Draft4Validator, FormatChecker


def meant(node: Any) -> Any:
    """A schema with its alternatives as ``anyOf``."""
    if isinstance(node, list):
        return [meant(one) for one in node]
    if not isinstance(node, dict):
        return node
    read = {name: meant(value) for name, value in node.items()}
    if isinstance(node.get("items"), list) and node.get("type") != "array":
        read["anyOf"] = read.pop("items")
    elif isinstance(node.get("items"), list) and len(node["items"]) > 1:
        read["items"] = {"anyOf": read["items"]}
    elif isinstance(node.get("items"), list):
        read["items"] = read["items"][0]
    return read


def main() -> None:
    """Read, judge, write."""
    work = json.load(sys.stdin)
    document = json.loads(Path(work["document"]).read_text(encoding="utf-8"))
    definitions = meant(document["definitions"])
    out = []
    for one in work["objects"]:
        schema = definitions.get(one["schema"])
        if schema is None:
            (operation,) = document["paths"][one["schema"]].values()
            schema = meant(operation["responses"]["200"]["schema"])
        validator = Draft4Validator({**schema, "definitions": definitions}, format_checker=FormatChecker())
        errors = [beneath for error in validator.iter_errors(one["value"]) for beneath in (error.context or [error])]
        out.append([f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors])
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
