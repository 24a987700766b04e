"""tap-email over mails that we did not write: each becomes a message or is parked with a reason, none disappears.

They are found through ONETHREAD_DATA (``mail/*.eml``: the fixtures of a public fork of chatwoot/chatwoot, MIT).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mappings.records import Message
from sandbox.mail import MailSandbox
from stores.database import Stores
from stores.media import Media
from stores.parked import Parked
from taps.email import TapEmail

FOLDER = Path(os.environ.get("ONETHREAD_DATA", "")) / "mail"
MAILS = sorted(FOLDER.glob("*.eml")) if os.environ.get("ONETHREAD_DATA") else []
ACCOUNT, PASSWORD = "care@shop.example", "not-a-real-one"

pytestmark = [
    pytest.mark.skipif(not MAILS, reason="ONETHREAD_DATA does not name a folder with mail/*.eml"),
    pytest.mark.skipif(not MailSandbox.available(), reason=str(MailSandbox.missing())),
    pytest.mark.slow,
]


@pytest.fixture
def lines(run_tap: Callable[[Any], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    with MailSandbox({ACCOUNT: PASSWORD}) as server:
        for path in MAILS:
            server.deliver(path.read_bytes(), ACCOUNT)
        config = {"host": server.host, "port": server.imap_port, "ssl": False, "user": ACCOUNT, "password": PASSWORD}
        return run_tap(TapEmail(config=config))


def test_every_mail_is_a_message_or_parked_with_a_reason(lines: list[dict[str, Any]], stores: Stores) -> None:
    told = [line["record"]["raw_ref"] for line in lines if line["type"] == "RECORD" and line["stream"] == "messages"]
    parked = Parked(stores).list()
    assert all(row.reason for row in parked)
    uids = [int(ref.rpartition("/")[2]) for ref in [*told, *(row.raw_ref or "" for row in parked)]]
    assert sorted(uids) == list(range(1, len(MAILS) + 1))
    print(f"{len(told)} messages, {len(parked)} parked of {len(MAILS)} mails")


def test_every_message_is_a_valid_record_that_says_something(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["type"] == "RECORD" and line["stream"] == "messages":
            message = Message.model_validate(line["record"])
            assert message.text or message.attachments or message.subject
            assert message.thread_ids


def test_every_attachment_is_kept_byte_for_byte_or_parked_with_a_reason(
    run_tap: Callable[[Any], list[dict[str, Any]]], lines: list[dict[str, Any]], stores: Stores
) -> None:
    with MailSandbox({ACCOUNT: PASSWORD}) as server:
        for path in MAILS:
            server.deliver(path.read_bytes(), ACCOUNT)
        config = {"host": server.host, "port": server.imap_port, "ssl": False, "user": ACCOUNT, "password": PASSWORD}
        kept = run_tap(TapEmail(config={**config, "fetch_media": True}))
    assert [said(one) for one in messages_of(kept)] == [said(one) for one in messages_of(lines)]
    files = [file for one in messages_of(kept) for file in one["attachments"]]
    parked = [row for row in Parked(stores).list() if row.stream == "media"]
    stored = [file for file in files if file["media_key"]]
    assert len(stored) + len(parked) == len([file for file in files if file["size_bytes"]]) > 0
    for file in stored:
        assert hashlib.sha256(b"".join(Media(stores).open(file["media_key"]))).hexdigest() == file["sha256"]
    print(f"{len(stored)} of {len(files)} attachments kept, {len(parked)} parked")


def messages_of(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["record"] for line in lines if line["type"] == "RECORD" and line["stream"] == "messages"]


def said(message: dict[str, Any]) -> tuple[Any, ...]:
    return (*(message[name] for name in ("message_key", "subject", "text")), len(message["attachments"]))
