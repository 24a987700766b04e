"""Infobip's official API documents as a judge of bodies (JSON Schema, as OpenAPI 3.1 has it).

In: ``{"cases": [{"document": file, "webhook": name} or {"document", "path", "method"}, each with "body"]}``. Out, for
each case: what is wrong with the body. A message whose type a discriminator names is also judged by that type's schema.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


@cache
def document(name: str) -> dict[str, Any]:
    """A document."""
    found: dict[str, Any] = json.loads(Path(name).read_text(encoding="utf-8"))
    return found


def schema_of(case: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body."""
    whole = document(case["document"])
    if "webhook" in case:
        part = whole["webhooks"][case["webhook"]]["post"]["requestBody"]
    else:
        part = whole["paths"][case["path"]][case["method"]]["responses"]["200"]
    return dict(part["content"]["application/json"]["schema"])


def told(schema: dict[str, Any], body: Any, whole: dict[str, Any]) -> list[str]:
    """What is wrong with a body."""
    validator = Draft202012Validator({**schema, "components": whole["components"]})
    return [f"{list(error.path)}: {error.message}"[:300] for error in validator.iter_errors(body)]


def of_its_type(schema: Any, body: Any, whole: dict[str, Any]) -> list[str]:
    """What is wrong with the parts whose type a discriminator names."""
    while isinstance(schema, dict) and "$ref" in schema:
        schema = whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(schema, dict):
        return []
    wrong: list[str] = []
    named = schema.get("discriminator")
    if named and isinstance(body, dict):
        reference = named["mapping"].get(body.get(named["propertyName"]))
        wrong += told({"$ref": reference}, body, whole) if reference else ["a type that the document does not have"]
    for name, part in schema.get("properties", {}).items():
        if isinstance(body, dict) and name in body:
            wrong += of_its_type(part, body[name], whole)
    for part in schema.get("allOf", []):
        wrong += of_its_type(part, body, whole)
    if isinstance(body, list):
        for one in body:
            wrong += of_its_type(schema.get("items"), one, whole)
    return wrong


def main() -> None:
    """Read, judge, write."""
    results = []
    for case in json.load(sys.stdin)["cases"]:
        schema, whole = schema_of(case), document(case["document"])
        results.append(told(schema, case["body"], whole) + of_its_type(schema, case["body"], whole))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
