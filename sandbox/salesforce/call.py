"""One REST call as the handlers of its resources see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from sandbox.salesforce.org import Caller
from sandbox.salesforce.refusals import Refusal, unreadable

Handler = Callable[..., Response]
Table = list[tuple[str, str, Handler]]  # method, path below /services/data/<version>, handler
ROWS_LIMIT = 200
RETRIEVE_LIMIT = 2_000


@dataclass(slots=True)
class Call:
    """A request with its caller and its API version (``v67.0``); `all_or_none` is imposed by a Composite."""

    request: Request
    caller: Caller
    version: str
    all_or_none: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON object in the body.

        Raises:
            Refusal: JSON_PARSER_ERROR.
        """
        body = self.request.get_json(force=True, silent=True)
        if not isinstance(body, dict):
            raise unreadable(
                "The HTTP entity body is required, but this request has no entity body, or it is no JSON object."
            )
        return body

    def flag(self, name: str) -> bool:
        """A yes-or-no parameter of the address."""
        return self.request.args.get(name, "false").lower() == "true"

    def number(self, name: str, default: int) -> int:
        """A whole number among the parameters."""
        text = self.request.args.get(name) or str(default)
        if not text.isascii() or not text.isdigit():
            raise Refusal("INVALID_QUERY_PARAMETER", f"{name} must be a whole number")
        return int(text)
