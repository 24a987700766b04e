"""Files of messages: encrypted, each once, gone when nobody uses them, and never what was not announced."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mappings.errors import RejectedError, SettingsError, UnavailableError
from mappings.records import Attachment
from stores.database import Stores
from stores.media import Media, MediaRequest, StoredMedia
from tests.stores.file_server import PNG, FileServer, running_file_server

IMAGE = Attachment(kind="image", mime_type="image/png")
KEY = "whatsapp:1:wamid.1"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running_file_server() as made:
        made.files["/a.png"] = PNG
        yield made


@pytest.fixture
def media(stores: Stores, server: FileServer) -> Media:
    return Media(stores, private_hosts=[server.host], tries=1)


def fetch(media: Media, server: FileServer, path: str = "/a.png", key: str = KEY, **more: object) -> StoredMedia:
    return media.fetch(
        MediaRequest(f"{server.url}{path}"), expected=IMAGE, message_key=key, **{"max_bytes": 10_000, **more}  # type: ignore[arg-type]
    )  # fmt: skip


def files(stores: Stores) -> list[Path]:
    return sorted(path for path in (stores.folder / "media").rglob("*") if path.is_file())


def later() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def test_a_file_is_kept_encrypted_for_its_owner_alone_and_read_again(
    stores: Stores, state_url: str, media: Media, server: FileServer
) -> None:
    stored = fetch(media, server)
    assert (stored.size_bytes, stored.mime_type, len(stored.sha256)) == (len(PNG), "image/png", 64)
    (path,) = files(stores)
    assert path == stores.folder / "media" / stored.media_key[:2] / stored.media_key
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert b"PNG" not in path.read_bytes()
    again = Media(Stores(state_url))
    assert again.find(KEY) == again.facts(stored.media_key) == stored
    assert b"".join(again.open(stored.media_key)) == PNG


@pytest.mark.sqlite
def test_neither_name_nor_database_tells_what_is_stored_or_of_whom(
    stores: Stores, media: Media, server: FileServer
) -> None:
    stored = fetch(media, server)
    stores.close()
    everything = b"".join(path.read_bytes() for path in stores.folder.iterdir() if path.is_file())
    for word in (stored.sha256.encode(), bytes.fromhex(stored.sha256), KEY.encode(), b"image/png"):
        assert word not in everything
    assert stored.media_key not in stored.sha256


def test_the_same_content_is_stored_once(stores: Stores, media: Media, server: FileServer) -> None:
    server.files["/b.png"] = PNG
    server.files["/c.png"] = PNG + b"x"
    first = fetch(media, server)
    second = fetch(media, server, "/b.png", "whatsapp:1:wamid.2")
    third = fetch(media, server, "/c.png", KEY, position=1)
    assert first == second != third
    assert len(files(stores)) == 2


def test_a_file_that_is_there_is_not_fetched_again(media: Media, server: FileServer) -> None:
    assert fetch(media, server) == fetch(media, server)
    assert len(server.asked) == 1


def test_a_file_that_got_lost_is_fetched_again(stores: Stores, media: Media, server: FileServer) -> None:
    stored = fetch(media, server)
    files(stores)[0].unlink()
    assert media.find(KEY) is None
    assert fetch(media, server) == stored
    assert b"".join(media.open(stored.media_key)) == PNG


def test_bytes_that_are_there_already_are_kept_the_same_way(media: Media) -> None:
    stored = media.keep([PNG[:100], PNG[100:]], max_bytes=10_000, expected=IMAGE, message_key=KEY)
    assert b"".join(media.open(stored.media_key)) == PNG
    with pytest.raises(RejectedError, match="larger than 10 bytes"):
        media.keep([PNG], max_bytes=10, expected=IMAGE, message_key="k")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>Please log in", "no image"), (b"", "empty"), (PNG * 100, "larger than 10000 bytes"), (None, "404"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing_behind(
    stores: Stores, media: Media, server: FileServer, content: bytes | None, words: str
) -> None:
    if content is None:
        del server.files["/a.png"]
    else:
        server.files["/a.png"] = content
    with pytest.raises(RejectedError, match=words):
        fetch(media, server)
    assert (media.find(KEY), files(stores)) == (None, [])


def test_a_disk_that_is_nearly_full_is_left_alone(
    media: Media, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.media._KEEP_FREE_BYTES", 2**80)
    with pytest.raises(UnavailableError, match="nearly full"):
        fetch(media, server)
    assert server.asked == []


def test_a_disk_error_is_said_and_leaves_nothing(stores: Stores, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        media.keep([PNG], max_bytes=10_000, expected=IMAGE, message_key=KEY)
    assert files(stores) == []


# Reading


@pytest.mark.parametrize("key", ["0" * 32, "../../key.json", "", "0" * 31 + "/", "A" * 32])
def test_what_is_not_stored_cannot_be_opened(stores: Stores, media: Media, key: str) -> None:
    assert media.facts(key) is None
    with pytest.raises(RejectedError, match="not stored"):
        media.open(key)


def test_a_file_that_was_altered_is_noticed(stores: Stores, media: Media, server: FileServer) -> None:
    stored = fetch(media, server)
    (path,) = files(stores)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SettingsError, match="altered"):
        list(media.open(stored.media_key))


# Deleting


def test_what_no_message_brought_since_then_is_forgotten(stores: Stores, media: Media, server: FileServer) -> None:
    stored = fetch(media, server)
    assert media.forget(datetime.now(UTC) - timedelta(days=1)) == 0
    assert media.find(KEY) == stored
    assert media.forget(later()) == 1
    assert (media.find(KEY), media.facts(stored.media_key), files(stores)) == (None, None, [])
    assert fetch(media, server) == stored


def test_what_is_erased_does_not_come_back(stores: Stores, media: Media, server: FileServer) -> None:
    fetch(media, server)
    assert media.erase([KEY, KEY]) == 1
    assert (files(stores), media.is_erased(KEY), media.is_erased("other")) == ([], True, False)
    with pytest.raises(RejectedError, match="erased"):
        fetch(media, server)
    media.forget(later())
    assert media.is_erased(KEY)
    assert files(stores) == []


def test_a_file_that_another_message_uses_stays_for_that_one(stores: Stores, media: Media, server: FileServer) -> None:
    stored = fetch(media, server)
    fetch(media, server, key="other")
    assert media.erase([KEY]) == 0
    assert (media.find(KEY), media.find("other")) == (None, stored)
    assert media.erase(["other"]) == 1
    assert files(stores) == []


def test_what_killed_processes_left_is_swept(stores: Stores, media: Media, server: FileServer) -> None:
    stored = fetch(media, server)
    folder = stores.folder / "media"
    (folder / "ff").mkdir(exist_ok=True)
    orphan, old, young = folder / "ff" / ("f" * 32), folder / "1.part", folder / "2.part"
    for path in (orphan, old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 100_000,) * 2)
    assert media.forget(datetime.now(UTC) - timedelta(days=1)) == 0
    assert files(stores) == sorted([young, folder / stored.media_key[:2] / stored.media_key])


@pytest.mark.sqlite
def test_a_crash_between_file_and_row_leaves_nothing_for_ever(
    stores: Stores, media: Media, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = fetch(media, server)

    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(stores.database("media")), "execute_many", dying)
        with pytest.raises(KeyboardInterrupt):
            media.forget(later())
    assert files(stores) == []
    assert media.find(KEY) is None
    assert media.forget(later()) == 1
    assert media.facts(stored.media_key) is None


def test_a_request_shows_neither_its_address_nor_its_token() -> None:
    shown = repr(
        MediaRequest("https://cdn.example/?token=hidden", {"Authorization": "hidden"}, frozenset({"cdn.example"}))
    )
    assert "hidden" not in shown
    assert "cdn.example" in shown
