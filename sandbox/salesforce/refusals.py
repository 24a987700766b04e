"""How Salesforce words a refusal: one class for whole answers, rows of collections, Bulk rows and SOAP alike.

Source: developer.salesforce.com, REST API Developer Guide, "Status Codes and Error Responses" and "Upsert Records
Using sObject Collections", second-hand, 2026-10 (documented): a list of `message`, `errorCode`, where apt `fields`;
in the rows of a collection the code is called `statusCode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from werkzeug.exceptions import HTTPException


class Refusal(HTTPException):
    """A request, or one row of it, that Salesforce would refuse."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        fields: Sequence[str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = status
        self.error_code = code
        self.message = message
        self.fields = fields
        self.more = more or {}

    def body(self) -> list[dict[str, Any]]:
        """The whole answer's JSON."""
        error: dict[str, Any] = {**self.more, "message": self.message, "errorCode": self.error_code}
        if self.fields is not None:
            error["fields"] = list(self.fields)
        return [error]

    def row(self) -> dict[str, Any]:
        """The same refusal as one entry of a row's `errors` in a collection."""
        return {"statusCode": self.error_code, "message": self.message, "fields": list(self.fields or ())}

    def line(self) -> str:
        """The same refusal in the ``sf__Error`` column of a Bulk result."""
        return f"{self.error_code}:{self.message}:{' '.join(self.fields or ()) or '--'}"


def not_found(message: str = "The requested resource does not exist") -> Refusal:
    """A 404."""
    return Refusal("NOT_FOUND", message, status=404)


def unreadable(message: str) -> Refusal:
    """A 400 for JSON that does not fit."""
    return Refusal("JSON_PARSER_ERROR", message)


def no_such_column(type_name: str, field: str) -> Refusal:
    """A field that is not there or that this user may not see."""
    return Refusal("INVALID_FIELD", f"No such column '{field}' on sobject of type {type_name}")


def too_few_rights(message: str = "insufficient access rights on object id") -> Refusal:
    """The user has no right to this."""
    return Refusal("INSUFFICIENT_ACCESS_OR_READONLY", message, status=403, fields=())
