"""Infobip's REST API as the tap reads it: errors, the clock, the inbox that reading empties, lists in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import requests
from pydantic import SecretStr

from mappings.errors import MissingFieldError, UnavailableError
from mappings.fields import objects_of, optional_object_of
from mappings.http import redact, retry_after_seconds
from taps.base import HttpSession


class InfobipSession(HttpSession):
    """Infobip's API; errors are ``{"requestError": {"serviceException": {"messageId": "UNAUTHORIZED", ...}}}``."""

    def __init__(self, api_url: str, api_key: SecretStr) -> None:
        headers = {"Authorization": f"App {api_key.get_secret_value()}", "Accept": "application/json"}
        super().__init__("Infobip", api_url, headers=headers, secrets=[api_key])

    def error_code(self, body: Any) -> str | None:
        """``messageId`` of the service exception, or the newer ``errorCode``."""
        if not isinstance(body, dict):
            return None
        error = body.get("requestError")
        exception = error.get("serviceException") if isinstance(error, dict) else None
        code = exception.get("messageId") if isinstance(exception, dict) else body.get("errorCode")
        return None if code is None else str(code)

    def fetch_object(self, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that ``GET path`` answers."""
        answer = self.fetch_json(path, parameters)
        if not isinstance(answer, dict):
            msg = f"{self.platform}: an answer is {type(answer).__name__}, not an object"
            raise MissingFieldError(msg)
        return answer

    def fetch_bytes(self, path: str, parameters: Mapping[str, Any]) -> bytes:
        """The body of ``GET path`` as it came, understood by nobody yet: it will not be given out again.

        Asked once: an answer that got lost cannot be had again, and asking again would only hide that.

        Raises:
            OneThreadError: by status; `UnavailableError` when nothing, or not all of it, came.
        """
        endpoint = f"GET {path}"
        try:
            response = self._session.get(f"{self._base_url}{path}", params=parameters, timeout=self._timeout_seconds)
        except requests.RequestException as error:
            msg = (
                f"{self.platform}: {endpoint} broke off ({type(error).__name__}); messages may have been given out and "
                "be lost: compare with the logs in Infobip's portal"
            )
            raise UnavailableError(redact(msg, self._secrets)) from None
        self.budget_of(response.headers)
        if response.status_code < 400:
            return response.content
        try:
            answer = response.json()
        except ValueError:
            answer = None
        wait = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
        raise self.classify(endpoint, response.status_code, answer, wait)

    def pages(
        self, path: str, name: str, parameters: Mapping[str, Any], *, page: int, limit: int
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(number, rows) of each page of a list of the Conversations API, from `page` on, sorted by id.

        Raises:
            UnavailableError: the list repeats itself.
        """
        last: list[Any] | None = None
        while True:
            where = f"Infobip {name}"
            answer = self.fetch_object(path, {**parameters, "page": page, "limit": limit, "orderBy": "id:ASC"})
            rows = objects_of(answer, name, where)
            ids = [row.get("id") for row in rows]
            if ids and ids == last:
                msg = f"{where}: the list repeats itself; giving up for this run"
                raise UnavailableError(msg)
            last = ids
            yield page, rows
            told = optional_object_of(answer, "pagination", where) or {}
            total, size = told.get("totalItems"), told.get("limit")
            size = size if isinstance(size, int) and size > 0 else limit
            page += 1
            if not rows or (isinstance(total, int) and page * size >= total) or (total is None and len(rows) < size):
                return


def infobip_time(moment: datetime) -> str:
    """A time as Infobip's filters want it (``2026-03-01T12:00:00.000+0000``)."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}+0000"
