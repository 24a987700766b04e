"""Customers' files in HubSpot: uploaded once, on notes and in threads, and gone with the person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.errors import CredentialsError, SettingsError, UnavailableError
from mappings.hubspot_files import file_form, inbox_attachments
from mappings.records import ArchivedMessage, Attachment
from mappings.settings import load_settings
from sandbox.hubspot.objects import NOTES
from stores.media import Media
from targets.hubspot import setup_hubspot
from targets.hubspot.settings import HubSpotTargetSettings
from tests.targets.hubspot_world import NOON, World, erasure, merge, message, person, world

NOW = datetime.now(UTC)
UPLOAD = {"attachments": "upload"}
INBOX: dict[str, Any] = {
    "inbox_channels": ["whatsapp"], "inbox_id": "900", "webhook_token": "word", "developer_api_key": "dev-key",
    "inbox_webhook_url": "https://hooks.shop.example/webhooks/hubspot", "app_id": "77",
}  # fmt: skip


@pytest.fixture
def account(state_url: str) -> Iterator[World]:
    """An account to which files are uploaded; its communications cannot have any."""
    with made(state_url) as one:
        yield one


def made(state_url: str, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    return _Made(state_url, {**UPLOAD, **(settings or {})}, options)


class _Made:
    def __init__(self, state_url: str, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self._made = world(state_url, setup=False, **options)
        self._settings = settings

    def __enter__(self) -> World:
        account = self._made.__enter__()
        account.config |= self._settings
        setup_hubspot(account.settings, account.stores)
        account.calls()
        return account

    def __exit__(self, *given: Any) -> None:
        self._made.__exit__(*given)


def stored(account: World, key: str, content: bytes = b"hello", position: int = 0) -> str:
    expected = Attachment(kind="file", mime_type="text/plain")
    kept = Media(account.stores).keep([content], max_bytes=100, expected=expected, message_key=key, position=position)
    return kept.media_key


def with_file(account: World, number: int, content: bytes = b"hello", **values: Any) -> ArchivedMessage:
    """A message with a file of our media store, of a channel that is logged as notes."""
    channel = values.pop("channel", "telegram")
    plain = message(number, **values).model_copy(update={"channel": channel})
    key = stored(account, plain.message_key, content)
    file = Attachment(kind="file", filename="note.txt", mime_type="text/plain", media_key=key)
    return plain.model_copy(update={"attachments": [file]})


def files(account: World) -> dict[str, dict[str, Any]]:
    return dict(account.app.state()["files"]["stored"])


def notes(account: World) -> list[dict[str, Any]]:
    return [one["properties"] for one in account.app.state()["notes"].values()]


class TestOnTimelines:
    def test_a_note_has_the_file_once(self, account: World) -> None:
        said = with_file(account, 1)
        account.write(person(1), said)
        ((file_id, file),) = files(account).items()
        assert (file["access"], file["name"], file["extension"]) == ("PRIVATE", "1. note", "txt")
        assert file["path"].startswith("/onethread/")
        assert account.app.files.stored[file_id].content == b"hello"
        (note,) = notes(account)
        assert note["hs_attachment_ids"] == file_id
        assert "note.txt" in note["hs_note_body"]
        account.calls()
        account.write(person(1), said)
        assert not account.calls()

    def test_an_edit_keeps_the_file(self, account: World) -> None:
        said = with_file(account, 1)
        account.write(person(1), said)
        account.write(said.model_copy(update={"text": "better words"}))
        (note,) = notes(account)
        assert [note["hs_attachment_ids"]] == list(files(account))
        assert account.target.counts.get("files uploaded") is None

    def test_what_its_author_took_back_is_deleted(self, account: World) -> None:
        said = with_file(account, 1)
        account.write(person(1), said)
        gone = said.model_copy(update={"unsent_at": NOON, "text": None, "attachments": []})
        account.write(gone)
        assert not files(account)
        (note,) = notes(account)
        assert not note.get("hs_attachment_ids")
        account.calls()
        account.write(gone)
        assert not account.calls()

    def test_several_files_and_the_same_file_twice(self, account: World) -> None:
        said = with_file(account, 1)
        other = stored(account, said.message_key, b"another", 1)
        file = said.attachments[0]
        more = [file, file.model_copy(update={"media_key": other, "filename": None}), file]
        account.write(person(1), said.model_copy(update={"attachments": more}))
        (note,) = notes(account)
        assert note["hs_attachment_ids"].split(";") == list(files(account))
        assert [one["name"] for one in files(account).values()] == ["1. note", "2. file"]

    def test_people_who_sent_the_same_file_have_a_file_each(self, account: World) -> None:
        account.write(person(1), person(2), with_file(account, 1), with_file(account, 2))
        assert len(files(account)) == 2
        account.write(erasure(1, 1))
        assert len(files(account)) == 1

    @pytest.mark.parametrize(("as_notes", "kinds"), [(True, (0, 1)), (False, (1, 0))])
    def test_a_logged_message_that_cannot_have_files_becomes_a_note(
        self, account: World, as_notes: bool, kinds: tuple[int, int]
    ) -> None:
        account.write(person(1), with_file(account, 1, channel="whatsapp"), files_as_notes=as_notes)
        assert (len(account.bodies()), len(notes(account))) == kinds
        assert len(files(account)) == (1 if as_notes else 0)
        if not as_notes:
            assert account.target.counts["messages whose files HubSpot cannot show"] == 1

    def test_a_logged_message_has_the_file_where_the_account_allows_it(self, state_url: str) -> None:
        with made(state_url, communication_files=True) as account:
            account.write(person(1), with_file(account, 1, channel="whatsapp"))
            assert not notes(account)
            (one,) = account.app.state()["communications"].values()
            assert [one["properties"]["hs_attachment_ids"]] == list(files(account))

    def test_a_message_that_is_there_gets_its_file_when_uploading_begins(self, account: World) -> None:
        said = with_file(account, 1)
        account.write(person(1), said, attachments="name")
        assert not files(account)
        account.write(said)
        assert [one["hs_attachment_ids"] for one in notes(account)] == list(files(account))

    def test_a_rolled_up_day_has_the_files_of_its_messages(self, account: World) -> None:
        said = [with_file(account, number, of=1, content=bytes([number])) for number in (1, 2)]
        account.write(person(1), *said, roll_up=True)
        (note,) = notes(account)
        assert note["hs_attachment_ids"].split(";") == list(files(account))
        account.calls()
        account.write(*said, roll_up=True)
        assert not account.calls()
        account.write(erasure(1, 1), roll_up=True)
        assert not files(account)

    def test_a_merge_of_persons_leaves_the_files_where_they_are(self, account: World) -> None:
        account.write(person(1), person(2), with_file(account, 1), with_file(account, 2))
        before = files(account)
        account.write(merge(1, 1, 2))
        assert files(account) == before
        account.write(erasure(2, 1))
        assert not files(account)


class TestWhatCannotBeUploaded:
    def test_a_refused_file_stays_named(self, account: World) -> None:
        account.fail("/files/v3/files", 400)
        account.write(person(1), with_file(account, 1))
        (note,) = notes(account)
        assert "hs_attachment_ids" not in note
        assert "note.txt" in note["hs_note_body"]
        assert account.target.counts["files refused"] == 1
        assert not account.parked()

    @pytest.mark.parametrize("why", ["too large", "not in our store"])
    def test_what_is_too_large_or_not_here_stays_named(self, account: World, why: str) -> None:
        said = with_file(account, 1)
        if why == "not in our store":
            Media(account.stores).erase([said.message_key])
        account.write(person(1), said, max_upload_bytes=4)
        assert not files(account)
        assert account.target.counts["files too large or not in our store"] == 1
        assert len(notes(account)) == 1

    def test_without_the_scope_the_run_stops_and_says_so(self, account: World) -> None:
        account.app.missing_scopes = frozenset(["files"])
        with pytest.raises(CredentialsError, match="the token needs files"):
            account.write(person(1), with_file(account, 1))
        account.app.missing_scopes = frozenset()
        account.write(person(1), with_file(account, 1))
        assert len(files(account)) == len(notes(account)) == 1

    def test_the_files_of_a_refused_message_are_deleted_again(self, account: World) -> None:
        account.fail("/crm/v3/objects/notes/batch", 400, times=2)
        account.write(person(1), with_file(account, 1))
        assert [one.stream for one in account.parked()] == ["messages"]
        assert not files(account)


class TestCrashes:
    @pytest.mark.parametrize("by", ["name", "content"])
    def test_an_upload_without_an_answer_is_not_doubled(self, state_url: str, by: str) -> None:
        with made(state_url, file_duplicates_by=by) as account:
            account.fail("/files/v3/files", 503, when="after")
            account.write(person(1), with_file(account, 1))
            assert [one["hs_attachment_ids"] for one in notes(account)] == list(files(account))
            assert len(files(account)) == 1

    @pytest.mark.parametrize("unique", [True, False])
    def test_a_crash_between_upload_and_note_is_made_good(self, state_url: str, unique: bool) -> None:
        with made(state_url, unique=unique) as account:
            said = with_file(account, 1)
            account.fail("/crm/v3/objects/notes/batch", 503, times=9)
            with pytest.raises(UnavailableError):
                account.write(person(1), said, max_tries=2)
            account.app.faults.clear()
            assert len(files(account)) == 1
            account.write(person(1), said)
            assert len(files(account)) == len(notes(account)) == 1
            assert [one["hs_attachment_ids"] for one in notes(account)] == list(files(account))

    def test_who_is_erased_after_a_crash_leaves_no_file(self, account: World) -> None:
        account.fail("/crm/v3/objects/notes/batch", 503, times=9)
        with pytest.raises(UnavailableError):
            account.write(person(1), with_file(account, 1), max_tries=2)
        account.app.faults.clear()
        account.write(erasure(1, 1))
        assert not files(account)


class TestErasing:
    def test_the_files_go_for_good(self, account: World) -> None:
        account.write(person(1), with_file(account, 1))
        ((file_id, _),) = files(account).items()
        account.write(erasure(1, 1))
        assert account.app.state()["files"] == {"stored": {}, "deleted": [file_id]}

    def test_a_file_that_people_deleted_is_no_error(self, account: World) -> None:
        account.write(person(1), with_file(account, 1))
        account.app.files.stored.clear()
        account.write(erasure(1, 1))
        assert not account.parked()

    def test_one_that_cannot_be_deleted_keeps_the_erasure_open(self, account: World) -> None:
        account.write(person(1), with_file(account, 1))
        account.fail("/gdpr-delete", 400, method="DELETE")
        account.write(erasure(1, 1))
        assert [one.stream for one in account.parked()] == ["person_changes"]
        assert not account.ledger.carried_out(1)

    def test_a_note_that_people_deleted_takes_its_files_along(self, account: World) -> None:
        said = with_file(account, 1)
        account.write(person(1), said)
        account.app.crm.archive(NOTES, next(iter(account.app.state()["notes"])))
        account.write(said.model_copy(update={"text": "an edit"}))
        assert not files(account)


class TestInTheInbox:
    @pytest.fixture
    def inbox(self, state_url: str) -> Iterator[World]:
        with made(state_url, INBOX) as account:
            yield account

    def said(self, account: World, **values: Any) -> ArchivedMessage:
        return with_file(account, 1, **{"channel": "whatsapp", "sent_at": NOW - timedelta(minutes=5), **values})

    def published(self, account: World) -> list[dict[str, Any]]:
        return [one for thread in account.app.state()["inbox"]["threads"].values() for one in thread["messages"]]

    @pytest.mark.parametrize("direction", ["inbound", "outbound"])
    def test_a_message_has_its_file(self, inbox: World, direction: str) -> None:
        said = self.said(inbox, direction=direction)
        inbox.write(person(1), said)
        (one,) = self.published(inbox)
        (file_id,) = files(inbox)
        assert one["attachments"] == [{"type": "FILE", "fileId": file_id, "fileUsageType": "OTHER"}]
        inbox.calls()
        inbox.write(person(1), said)
        assert not inbox.calls()
        inbox.write(erasure(1, 1))
        assert not files(inbox)

    def test_the_file_of_a_message_that_was_taken_back_is_deleted(self, inbox: World) -> None:
        said = self.said(inbox)
        inbox.write(person(1), said)
        inbox.write(said.model_copy(update={"unsent_at": NOW, "text": None, "attachments": []}))
        assert not files(inbox)

    def test_words_that_are_refused_with_a_file_are_published_without(self, inbox: World) -> None:
        inbox.fail("/messages", 400, method="POST")
        inbox.write(person(1), self.said(inbox))
        (one,) = self.published(inbox)
        assert one["attachments"] == []
        assert "note.txt" in one["text"]
        assert inbox.target.counts["files refused"] == 1
        assert not files(inbox)


class TestLinks:
    def test_a_file_is_linked(self, account: World) -> None:
        said = with_file(account, 1)
        url = "https://files.shop.example/{media_key}"
        account.write(person(1), said, attachments="link", attachment_url=url)
        key = said.attachments[0].media_key
        (note,) = notes(account)
        assert f'<a href="https://files.shop.example/{key}">note.txt (text/plain)</a>' in note["hs_note_body"]
        assert not files(account)

    def test_an_address_of_a_platform_cannot_break_out(self, account: World) -> None:
        file = Attachment(kind="file", filename="a", url='https://x.example/"><b>{{ contact.email }}')
        account.write(person(1), message(1, attachments=[file]), attachments="link")
        (body,) = account.bodies()
        assert "<b>" not in body
        assert "{{" not in body

    def test_by_default_files_are_named(self, account: World) -> None:
        file = Attachment(kind="file", filename="a.pdf", url="https://x.example/a.pdf")
        account.write(person(1), message(1, attachments=[file]), attachments="name")
        (body,) = account.bodies()
        assert "a.pdf" in body
        assert "https://" not in body

    def test_a_link_in_the_inbox(self, state_url: str) -> None:
        with made(state_url, {**INBOX, "attachments": "link"}) as account:
            file = Attachment(kind="file", filename="a.pdf", url="https://x.example/a.pdf")
            account.write(person(1), message(1, attachments=[file], sent_at=NOW))
            (thread,) = account.app.state()["inbox"]["threads"].values()
            assert "https://x.example/a.pdf" in thread["messages"][0]["text"]


class TestSettingUp:
    @pytest.mark.parametrize(("possible", "words"), [(True, "communications have them"), (False, "become notes")])
    def test_it_says_what_the_account_allows(self, state_url: str, possible: bool, words: str) -> None:
        with world(state_url, setup=False, communication_files=possible) as account:
            account.config |= UPLOAD
            lines = setup_hubspot(account.settings, account.stores)
            assert any(words in line for line in lines)

    def test_a_missing_scope_is_named(self, state_url: str) -> None:
        with world(state_url, setup=False, missing_scopes=["files"]) as account:
            account.config |= UPLOAD
            with pytest.raises(CredentialsError, match="needs the scope files"):
                setup_hubspot(account.settings, account.stores)
            account.config["attachments"] = "name"
            setup_hubspot(account.settings, account.stores)

    @pytest.mark.parametrize(
        "wrong",
        [{"attachments": "both"}, {"files_folder": "onethread"}, {"files_folder": "/"}, {"attachment_url": "x"}],
    )
    def test_a_setting_that_cannot_work_is_named(self, wrong: dict[str, str]) -> None:
        given = {"access_token": "t", "portal_id": "1", **wrong}
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            load_settings(HubSpotTargetSettings, given, "target-hubspot")


class TestMapping:
    def test_a_form_says_everything_that_hubspot_wants(self) -> None:
        file = Attachment(kind="image", media_key="a" * 32, filename="../../a/b")
        fields = dict(file_form(message(1, attachments=[file]), 0, b"bytes", "image/png", "/x/"))
        assert fields["file"] == ("1. .._.._a_b", b"bytes", "image/png")
        assert fields["folderPath"].rpartition("/")[0] == "/x"
        assert json.loads(fields["options"])["access"] == "PRIVATE"

    def test_a_name_without_ending_gets_one(self) -> None:
        file = Attachment(kind="image", media_key="a" * 32)
        fields = dict(file_form(message(1, attachments=[file]), 0, b"", "image/png", "/x"))
        assert fields["fileName"] == "1. image.png"

    def test_inbox_attachments_name_how_a_file_is_used(self) -> None:
        kinds: list[Any] = ["image", "sticker", "audio", "video", "file"]
        wanted = [Attachment(kind=kind, media_key=kind) for kind in kinds]
        found = inbox_attachments(message(1, attachments=wanted), dict.fromkeys(kinds, "7"))
        assert [one["fileUsageType"] for one in found] == ["IMAGE", "STICKER", "AUDIO", "OTHER", "OTHER"]
        assert inbox_attachments(message(1, attachments=wanted), {}) == []
