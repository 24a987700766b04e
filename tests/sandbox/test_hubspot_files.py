"""The stand-in's files and tokens, held against HubSpot's own client where that has a say."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hubspot import HubSpot

from sandbox.base import SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.hubspot.oauth import OAuthApp
from tests.sandbox.hubspot_world import TOKEN, covers

PICTURE = b"\x89PNG not much of a picture"
PRIVATE = {"access": "PRIVATE"}


class Account:
    """A running stand-in."""

    def __init__(self, **options: Any) -> None:
        self.app = HubSpotApp(**options)
        self.server = SandboxServer(self.app).start()
        self.url = self.server.url

    def upload(self, status: int = 201, *, content: bytes = PICTURE, name: str = "a.png", **form: Any) -> str:
        """The id of the file; `options` as a dictionary."""
        options = form.pop("options", PRIVATE)
        fields = {"folderPath": "/here", "fileName": name, "options": json.dumps(options), **form}
        data = {key: one for key, one in fields.items() if one is not None}
        files = {"file": (name, content, "image/png")}
        answer = requests.post(f"{self.url}/files/v3/files", data=data, files=files, headers=TOKEN, timeout=10)
        assert answer.status_code == status, answer.text
        return str(answer.json().get("id"))

    def call(self, method: str, path: str, status: int = 0, token: str = "sandbox-token", **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.request(method, self.url + path, json=body or None, headers=headers, timeout=10)
        assert answer.status_code == status or (not status and answer.ok), answer.text
        return answer.json() if answer.content else {}

    def refresh(self, status: int = 200, path: str = "/oauth/v3/token", **form: Any) -> dict[str, Any]:
        fields = {
            "grant_type": "refresh_token", "client_id": "sandbox-app", "client_secret": "sandbox-secret",
            "refresh_token": "sandbox-refresh-1", **form,
        }  # fmt: skip
        answer = requests.post(self.url + path, data=fields, timeout=10)
        assert answer.status_code == status, answer.text
        return dict(answer.json())


def vendors_files(account: Account) -> Any:
    """The files of HubSpot's own client; its modules have spellings that Python warns of."""
    client = HubSpot(access_token="sandbox-token", host=account.url, client_side_validation=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return client.files.files_api


@pytest.fixture
def account() -> Iterator[Account]:
    made = Account(file_limit=1_000)
    yield made
    made.server.stop()


@covers("file_upload", "private_files", "files_are_deleted_for_good")
def test_the_vendors_client_uploads_opens_and_deletes(account: Account, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PICTURE)
    files = vendors_files(account)
    made = files.upload(file=str(tmp_path / "photo.png"), folder_path="/here", options=json.dumps(PRIVATE))
    assert (made.access, made.size, made.path) == ("PRIVATE", len(PICTURE), "/here/photo.png")
    link = files.get_signed_url(file_id=made.id).url
    assert requests.get(link, timeout=10).content == PICTURE
    assert requests.get(link.partition("?")[0], timeout=10).status_code == 403
    files.delete(file_id=made.id)
    assert account.app.state()["files"] == {"stored": {}, "deleted": [made.id]}
    with pytest.raises(Exception, match="404"):
        files.delete(file_id=made.id)


@covers("file_upload")
def test_an_upload_that_is_none_is_refused(account: Account) -> None:
    account.upload(400, options={})
    account.upload(400, options={"access": "SECRET"})
    account.upload(400, options={**PRIVATE, "duplicateValidationStrategy": "MAYBE"})
    account.upload(400, options={**PRIVATE, "duplicateValidationScope": "HERE"})
    account.upload(400, folderPath=None)
    account.upload(400, folderId="7")
    account.upload(413, content=bytes(1_001))
    account.call("POST", "/files/v3/files", 415, file="a")
    assert account.app.files.stored == {}
    assert account.upload(folderPath=None, folderId="7")


@covers("file_duplicates")
@pytest.mark.parametrize("by", ["name", "content"])
def test_a_duplicate_is_refused_returned_or_kept(by: Any) -> None:
    made = Account(file_duplicates_by=by)
    try:
        first = made.upload(name="a.png", content=b"one")
        same: dict[str, Any] = {"name": "a.png"} if by == "name" else {"content": b"one"}
        other: dict[str, Any] = {"content": b"two"} if by == "name" else {"name": "b.png"}
        again = {**same, **other}
        returned = {**PRIVATE, "duplicateValidationStrategy": "RETURN_EXISTING"}
        assert made.upload(**again, options=returned) == first
        assert made.upload(**again, options={**returned, "duplicateValidationScope": "EXACT_FOLDER"}) == first
        elsewhere = {**returned, "duplicateValidationScope": "EXACT_FOLDER"}
        assert made.upload(**again, options=elsewhere, folderPath="/there") != first
        made.upload(409, **again, options={**PRIVATE, "duplicateValidationStrategy": "REJECT"})
        assert made.upload(**again) != first
    finally:
        made.server.stop()


@covers("files_of_notes", "files_of_communications")
@pytest.mark.parametrize("possible", [True, False])
def test_notes_have_files_and_communications_perhaps(possible: bool) -> None:
    made = Account(communication_files=possible)
    try:
        file_id = made.upload()
        said = {"hs_timestamp": "2026-11-02T12:00:00Z", "hs_attachment_ids": f"{file_id};{file_id}"}
        made.call("POST", "/crm/v3/objects/notes", 201, properties=said)
        sms = {"hs_communication_channel_type": "SMS", "hs_communication_logged_from": "CRM"}
        path = "/crm/v3/objects/communications"
        made.call("POST", path, 201 if possible else 400, properties={**said, **sms})
        names = [one["name"] for one in made.call("GET", "/crm/v3/properties/communications")["results"]]
        assert ("hs_attachment_ids" in names) is possible
    finally:
        made.server.stop()


@covers("missing_scopes")
def test_a_token_without_the_scope_is_told_which() -> None:
    made = Account(missing_scopes=["files"])
    try:
        told = made.call("GET", "/files/v3/files/search", 403)
        assert told["category"] == "MISSING_SCOPES"
        assert told["errors"][0]["context"]["requiredGranularScopes"] == ["files"]
        made.call("GET", "/crm/v3/objects/contacts")
    finally:
        made.server.stop()


@covers("token_endpoint")
def test_the_vendors_client_refreshes(account: Account) -> None:
    tokens = HubSpot(host=account.url, client_side_validation=True).oauth.tokens_api
    grant = {"grant_type": "refresh_token", "refresh_token": "sandbox-refresh-1"}
    told = tokens.create(client_id="sandbox-app", client_secret="sandbox-secret", **grant)
    assert (told.expires_in, told.refresh_token) == (1800, "sandbox-refresh-1")


@covers("token_endpoint")
@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_a_refresh_token_opens_the_account(account: Account, version: str) -> None:
    told = account.refresh(path=f"/oauth/{version}/token")
    assert (told["expires_in"], told["hub_id"], told["refresh_token"]) == (1800, 8800001, "sandbox-refresh-1")
    account.call("GET", "/crm/v3/objects/contacts", token=told["access_token"])


@covers("token_endpoint")
def test_a_login_that_is_none_is_refused(account: Account) -> None:
    assert account.refresh(400, refresh_token="another")["error"] == "invalid_grant"
    assert account.refresh(400, client_secret="another")["error"] == "invalid_client"
    assert account.refresh(400, grant_type="password")["error"] == "unsupported_grant_type"
    account.call("POST", "/oauth/v3/token", 415, grant_type="refresh_token")
    account.call("GET", "/crm/v3/objects/contacts", 401, token="another")


@covers("access_tokens_end")
def test_an_access_token_ends_after_half_an_hour(account: Account) -> None:
    token = account.refresh()["access_token"]
    account.app.clock.advance(1_799)
    account.call("GET", "/crm/v3/objects/contacts", token=token)
    account.app.clock.advance(1)
    assert account.call("GET", "/crm/v3/objects/contacts", 401, token=token)["category"] == "EXPIRED_AUTHENTICATION"
    second = account.refresh()["access_token"]
    account.app.oauth.end_all(account.app.clock)
    account.call("GET", "/crm/v3/objects/contacts", 401, token=second)


@covers("refresh_tokens_rotate")
def test_a_refresh_token_can_be_good_for_one_refresh() -> None:
    made = Account(oauth=OAuthApp(rotates=True))
    try:
        following = made.refresh()["refresh_token"]
        assert following != "sandbox-refresh-1"
        made.refresh(400)
        made.refresh(refresh_token=following)
    finally:
        made.server.stop()


@covers("files_of_messages")
@pytest.mark.parametrize(
    ("attachment", "status"),
    [
        ({"type": "FILE", "fileUsageType": "IMAGE"}, 201),
        ({"type": "FILE"}, 201),
        ({"type": "FILE", "fileUsageType": "PICTURE"}, 400),
        ({"type": "FILE", "fileId": "1"}, 400),
        ({"type": "IMAGE"}, 400),
    ],
)
def test_an_inbox_message_names_files_that_are_there(account: Account, attachment: Any, status: int) -> None:
    channel = account.call("POST", "/conversations/custom-channels/2026-03", name="Chat", capabilities={})["id"]
    path = f"/conversations/v3/custom-channels/{channel}"
    inbox = account.call("POST", f"{path}/channel-accounts", inboxId="9", name="Shop", authorized=True)["id"]
    who = {"deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "ana"}}
    body = {
        "text": "Look", "messageDirection": "INCOMING", "timestamp": "2026-11-02T12:00:00Z", "recipients": [who],
        "channelAccountId": inbox, "attachments": [{"fileId": account.upload(), **attachment}], "senders": [who],
    }  # fmt: skip
    account.call("POST", f"{path}/messages", status, **body)
