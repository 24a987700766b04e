"""python-telegram-bot and aiogram as clients of a Bot API server, and as readers of updates.

In: ``{"url", "token", "calls": [{"client": "ptb" | "aiogram", "method", "arguments"}], "updates": [...],
"secrets": [[expected, given], ...]}``. Out: ``{"calls": [{"ok": ...} | {"error": class, "says", "more"}], "updates":
[{"ptb": ..., "aiogram": ...}], "secrets": [bool, ...]}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import aiogram
import telegram
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import AiogramError
from aiogram.webhook.aiohttp_server import SimpleRequestHandler


def plain(value: Any) -> Any:
    """A client's own object as JSON."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, telegram.TelegramObject):
        return value.to_dict()
    if isinstance(value, aiogram.types.TelegramObject):
        return json.loads(value.model_dump_json(exclude_none=True))
    return value


async def call(clients: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """One call; what the client made of the answer, or the class of its error."""
    client = clients[one["client"]]
    arguments = one.get("arguments", {})
    try:
        if one["method"] == "download":
            file = await client.get_file(**arguments)
            if one["client"] == "ptb":
                return {"ok": bytes(await file.download_as_bytearray()).decode()}
            data = await client.download_file(file.file_path)
            return {"ok": data.read().decode()}
        return {"ok": plain(await getattr(client, one["method"])(**arguments))}
    except (telegram.error.TelegramError, AiogramError) as error:
        more = {name: getattr(error, name) for name in ("retry_after", "new_chat_id", "migrate_to_chat_id")
                if hasattr(error, name)}  # fmt: skip
        return {"error": type(error).__name__, "says": str(error), "more": json.loads(json.dumps(more, default=str))}


def said(update: Any, name: str) -> dict[str, Any]:
    """The parts of an update that a mapping needs, as the client's models have them."""
    part = getattr(update, name, None)
    if part is None:
        return {"kind": None}
    user = getattr(part, "from_user", None) or getattr(part, "user", None)
    chat = getattr(part, "chat", None)
    date = getattr(part, "date", None)
    return {
        "kind": name,
        "update_id": update.update_id,
        "number": getattr(part, "message_id", None),
        "text": getattr(part, "text", None) or getattr(part, "caption", None),
        "user": getattr(user, "id", None),
        "chat": getattr(chat, "id", None),
        "at": date.timestamp() if date is not None and hasattr(date, "timestamp") else date,
    }


def read(clients: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """An update by both clients' models, which refuse one that lacks what they need."""
    name = next(name for name in update if name != "update_id")
    verdict: dict[str, Any] = {}
    try:
        verdict["ptb"] = said(telegram.Update.de_json(update, clients["ptb"]), name)
    except (TypeError, KeyError, ValueError) as error:
        verdict["ptb"] = {"problem": repr(error)}
    try:
        verdict["aiogram"] = said(aiogram.types.Update.model_validate(update), name)
    except ValueError as error:
        verdict["aiogram"] = {"problem": repr(error)}
    return verdict


async def judge(work: dict[str, Any]) -> dict[str, Any]:
    """All verdicts, in order."""
    url, token = work["url"], work["token"]
    ptb = telegram.Bot(token, base_url=f"{url}/bot", base_file_url=f"{url}/file/bot")
    session = AiohttpSession(api=TelegramAPIServer.from_base(url))
    clients = {"ptb": ptb, "aiogram": aiogram.Bot(token, session=session)}
    try:
        done = {
            "calls": [await call(clients, one) for one in work.get("calls", [])],
            "updates": [read(clients, one) for one in work.get("updates", [])],
        }
        done["secrets"] = [
            SimpleRequestHandler(aiogram.Dispatcher(), clients["aiogram"], secret_token=expected).verify_secret(
                given, clients["aiogram"]
            )
            for expected, given in work.get("secrets", [])
        ]
        return done
    finally:
        await session.close()


def main() -> None:
    """Read, judge, write."""
    json.dump(asyncio.run(judge(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
