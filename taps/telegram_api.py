"""The Bot API as a tap calls it: answers that say ``ok``, conflicts, and a token in every address.

Source: core.telegram.org/bots/api#making-requests and #responseparameters, documented, read 2026-11;
github.com/tdlib/telegram-bot-api @01a3679 telegram-bot-api/Client.cpp for the texts of the conflicts (observed).
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import SecretStr

from mappings.errors import CredentialsError, MissingFieldError, OneThreadError, SettingsError
from mappings.http import redact
from taps.base import HttpSession


class WebhookActiveError(SettingsError):
    """Updates cannot be asked for, because a webhook takes them."""


class BotSession(HttpSession):
    """Calls the Bot API, which has the token in its addresses and says ``ok`` in its answers."""

    def __init__(self, base_url: str, token: SecretStr) -> None:
        _keep_tokens_out_of_the_log()
        super().__init__("Telegram", f"{base_url.rstrip('/')}/bot{token.get_secret_value()}", secrets=[token])

    def ask(self, method: str, **parameters: Any) -> Any:
        """The ``result`` of a method that changes nothing."""
        return self.fetch_json(method, parameters).get("result")

    def check_answer(self, endpoint: str, body: Any) -> None:
        """An answer is an object whose ``ok`` is true."""
        if not isinstance(body, dict) or body.get("ok") is not True:
            msg = f"Telegram: {endpoint} gave no answer of the Bot API; is api_url right?"
            raise MissingFieldError(msg)

    def error_code(self, body: Any) -> str | None:
        """``error_code``; the sentences beside it are not kept."""
        code = body.get("error_code") if isinstance(body, dict) else None
        return str(code) if isinstance(code, int) else None

    def classify(self, endpoint: str, status: int, body: Any, retry_after: float | None) -> OneThreadError:
        """Who else has the updates (409), whether the token is one (401, 404), how long to wait (429)."""
        said = body if isinstance(body, dict) else {}
        if status == 409:
            return _conflict(endpoint, str(said.get("description")))
        if status in {401, 403, 404, 421}:
            return CredentialsError(f"Telegram: {endpoint} answered {status}; check bot_token (and api_url)")
        if status == 429:
            parameters = said.get("parameters")
            wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
            if isinstance(wait, int) and not isinstance(wait, bool):
                retry_after = float(wait)
        return super().classify(endpoint, status, body, retry_after)


def _conflict(endpoint: str, description: str) -> SettingsError:
    """The three ways in which Telegram says that somebody else has the updates."""
    if "other getUpdates" in description:
        msg = (
            f"Telegram: {endpoint} answered 409: another program polls this bot, and takes updates from us. Stop it: "
            "a bot can have one reader only"
        )
        return SettingsError(msg)
    return WebhookActiveError(
        f"Telegram: {endpoint} answered 409: a webhook is active. Set mode to webhook, or remove it (deleteWebhook)"
    )


class _WithoutTokens(logging.Filter):
    """The HTTP library notes the path of each call at level DEBUG, and the path holds the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_without_tokens = _WithoutTokens()


def _keep_tokens_out_of_the_log() -> None:
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_without_tokens)  # adding it twice adds it once
