"""How HubSpot words a refusal: one class for every error body, whole answers and items of a 207 alike."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.exceptions import HTTPException


class Refusal(HTTPException):
    """A request, or one input of a batch, that HubSpot would refuse.

    Source: developers.hubspot.com/docs/api-reference/error-handling, read 2026-11 (documented): status, message,
    category, correlationId and, depending on the endpoint, errors, context and subCategory.
    """

    def __init__(
        self,
        status: int,
        category: str,
        message: str,
        *,
        errors: list[dict[str, Any]] | None = None,
        context: dict[str, list[str]] | None = None,
        sub_category: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = status
        self.category = category
        self.message = message
        self.errors = errors or []
        self.context = context or {}
        self.sub_category = sub_category

    def body(self, correlation_id: str) -> dict[str, Any]:
        """The whole answer's JSON."""
        body: dict[str, Any] = {
            "status": "error",
            "message": self.message,
            "correlationId": correlation_id,
            "category": self.category,
        }
        if self.errors:
            body["errors"] = self.errors
        if self.context:
            body["context"] = self.context
        if self.sub_category:
            body["subCategory"] = self.sub_category
        return body

    def item(self, **context: list[str]) -> dict[str, Any]:
        """The same refusal as one entry of ``errors`` in a 207 answer."""
        item: dict[str, Any] = {
            "status": "error",
            "category": self.category,
            "message": self.message,
            "errors": self.errors,
            "context": {**self.context, **context},
            "links": {},
        }
        if self.sub_category:
            item["subCategory"] = self.sub_category
        return item


def invalid(message: str, *, errors: list[dict[str, Any]] | None = None) -> Refusal:
    """A 400 of category VALIDATION_ERROR."""
    return Refusal(400, "VALIDATION_ERROR", message, errors=errors)


def not_found(message: str = "resource not found") -> Refusal:
    """A 404 of category OBJECT_NOT_FOUND."""
    return Refusal(404, "OBJECT_NOT_FOUND", message)


def values_invalid(problems: list[tuple[str, str, str]]) -> Refusal:
    """A 400 for property values; each problem is (property name, code, message)."""
    listed = [{"isValid": False, "message": message, "error": code, "name": name} for name, code, message in problems]
    return invalid(
        f"Property values were not valid: {json.dumps(listed)}",
        errors=[{"message": m, "code": code, "context": {"propertyName": [name]}} for name, code, m in problems],
    )
