"""A pydantic model as the flat JSON schema that Singer and Meltano understand."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def singer_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of `model` with references inlined and ``X | None`` written as ``type: [X, "null"]``.

    Secrets (`SecretStr`) carry ``"secret": true`` and lose pydantic's ``writeOnly``/``format: password`` marks.
    """
    raw = model.model_json_schema(mode="validation")
    definitions = raw.pop("$defs", {})
    schema: dict[str, Any] = _inline(raw, definitions)
    schema.pop("title", None)
    schema.pop("description", None)
    return schema


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        merged = {**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}}
        return _inline(merged, definitions)
    if len(node.get("allOf", ())) == 1:
        rest = {key: value for key, value in node.items() if key != "allOf"}
        return _inline({**node["allOf"][0], **rest}, definitions)
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: _inline(child, definitions) for name, child in value.items()}
        elif key == "title" and isinstance(value, str):
            continue
        elif key == "writeOnly" or (key == "format" and value == "password"):
            out["secret"] = True
        else:
            out[key] = _inline(value, definitions)
    return _flatten_nullable(out)


def _flatten_nullable(node: dict[str, Any]) -> dict[str, Any]:
    """``anyOf: [X, null]`` becomes X with ``null`` among its types (and among its enum values)."""
    options = node.get("anyOf")
    if not options:
        return node
    others = [option for option in options if option.get("type") != "null"]
    if len(others) != 1 or len(others) == len(options):
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    merged = {**others[0], **rest}
    types = merged.get("type")
    if types is not None:
        merged["type"] = [*([types] if isinstance(types, str) else types), "null"]
    if "enum" in merged:
        merged["enum"] = [*merged["enum"], None]
    return merged
