"""`onethread doctor` against the stand-ins: what is in order, what is not, and what to do about it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from console.cli import main
from sandbox.base import Fault, SandboxServer
from sandbox.hubspot import HubSpotApp
from sandbox.mail import MailSandbox
from sandbox.messenger import MessengerApp
from sandbox.whatsapp import WhatsAppApp
from stores.database import Stores
from stores.tokens import Token, Tokens
from targets.hubspot import HubSpotTargetSettings, setup_hubspot
from tests.stores.file_server import FileServer, running_file_server

TOKEN = "sandbox-access-token"
SECRET = "a-secret-that-nobody-may-see"
Found = dict[tuple[str, str], dict[str, str | bool | None]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands read .env in the folder where they start, and change the process's umask."""
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No retry waits in these tests."""
    monkeypatch.setattr("backoff._sync.time.sleep", lambda _: None)
    return monkeypatch


@pytest.fixture
def whatsapp(variables: pytest.MonkeyPatch) -> Iterator[WhatsAppApp]:
    """An account that is in order, and the variables that name it."""
    app = WhatsAppApp()
    with SandboxServer(app) as server:
        for name, value in {
            "ACCESS_TOKEN": TOKEN, "API_URL": server.url, "PHONE_NUMBER_ID": app.phone_number_id,
            "BUSINESS_ACCOUNT_ID": app.waba_id, "APP_SECRET": SECRET, "VERIFY_TOKEN": SECRET,
        }.items():  # fmt: skip
            variables.setenv(f"ONETHREAD_WHATSAPP_{name}", value)
        yield app
    app.stop_delivery()


@pytest.fixture
def messenger(variables: pytest.MonkeyPatch) -> Iterator[MessengerApp]:
    app = MessengerApp()
    with SandboxServer(app) as server:
        for name, value in {
            "ACCESS_TOKEN": TOKEN, "API_URL": server.url, "PAGE_ID": app.page_id, "CALLS_PER_SECOND": "1000",
        }.items():  # fmt: skip
            variables.setenv(f"ONETHREAD_MESSENGER_{name}", value)
        yield app
    app.stop_delivery()


@pytest.fixture
def hubspot(variables: pytest.MonkeyPatch) -> Iterator[HubSpotApp]:
    app = HubSpotApp()
    with SandboxServer(app) as server:
        for name, value in {"ACCESS_TOKEN": "sandbox-token", "PORTAL_ID": "8800001", "API_URL": server.url}.items():
            variables.setenv(f"ONETHREAD_HUBSPOT_{name}", value)
        yield app


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--log-level", "ERROR", "doctor", *arguments])


def found(result: Result | None = None) -> Found:
    """What was found, by account and what."""
    result = result or doctor("--json")
    assert result.exit_code in {0, 1}, result.output
    rows = json.loads(result.stdout)
    assert result.exit_code == int(any(row["ok"] is False for row in rows))
    assert SECRET not in result.output + result.stderr
    assert TOKEN not in result.output + result.stderr
    return {(row["account"], row["what"]): row for row in rows}


def of(account: str, rows: Found | None = None) -> dict[str, bool | str | None]:
    return {what: row["ok"] for (whose, what), row in (rows or found()).items() if whose == account}


# How it says it


def test_one_line_per_check_in_columns_with_what_to_do(whatsapp: WhatsAppApp) -> None:
    whatsapp.subscribed = False
    result = doctor()
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert {line[:9].strip() for line in lines} == {"ok", "FAILED", "unknown"}
    (webhook,) = [line for line in lines if line[29:49].strip() == "webhook"]
    assert webhook.startswith("FAILED   whatsapp            webhook             0 apps subscribed")
    assert f"->  POST /{whatsapp.waba_id}/subscribed_apps" in webhook
    assert not [line for line in lines if line.startswith("ok") and "->" in line]


def test_nothing_configured_is_no_failure() -> None:
    result = doctor()
    assert result.exit_code == 0
    assert "none is configured" in result.stdout


def test_looking_changes_nothing(whatsapp: WhatsAppApp, hubspot: HubSpotApp, tmp_path: Path) -> None:
    doctor()
    assert list(tmp_path.iterdir()) == []
    assert {entry["method"] for entry in [*whatsapp.journal, *hubspot.journal]} == {"GET"}


# This machine


def test_a_state_folder_that_is_in_order(stores: Stores, whatsapp: WhatsAppApp) -> None:
    stores.database("parked")
    assert of("this machine") == {"Meltano": None, "state folder": True, "free disk": True, "key file": True}


def test_what_others_can_read_is_said(stores: Stores) -> None:
    stores.folder.chmod(0o755)
    (stores.folder / "key.json").chmod(0o644)
    rows = found()
    assert (of("this machine", rows)["state folder"], of("this machine", rows)["key file"]) == (False, False)
    assert rows["this machine", "state folder"]["fix"] == f"chmod 700 {stores.folder}"
    assert "chmod 600" in str(rows["this machine", "key file"]["detail"])


def test_a_lost_key_file_is_said_and_no_new_one_is_made(stores: Stores) -> None:
    stores.database("parked")
    (stores.folder / "key.json").unlink()
    assert "is missing" in str(found()["this machine", "key file"]["detail"])
    assert not (stores.folder / "key.json").exists()


def test_a_disk_that_is_nearly_full_is_said(stores: Stores, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_RECEIVER_MINIMUM_FREE_BYTES", str(2**60))
    assert "answered 503" in str(found()["this machine", "free disk"]["fix"])


def test_a_project_folder_has_meltano(tmp_path: Path) -> None:
    (tmp_path / "meltano.yml").write_text("version: 1\n")
    assert of("this machine")["Meltano"] is True


@pytest.mark.parametrize(
    ("expires_in", "refresh", "ok"),
    [(timedelta(days=1), "r", True), (-timedelta(days=1), "r", True), (-timedelta(days=1), None, False)],
)
def test_stored_tokens_are_looked_at(stores: Stores, expires_in: timedelta, refresh: str | None, ok: bool) -> None:
    token = Token(SecretStr(SECRET), SecretStr(refresh) if refresh else None, datetime.now(UTC) + expires_in)
    Tokens(stores).put("x:shop", token)
    row = found()["this machine", "token"]
    assert row["ok"] is ok
    assert str(row["detail"]).startswith("x:shop")


# The receiver


@pytest.fixture
def proxy() -> Iterator[FileServer]:
    with running_file_server() as made:
        yield made


@pytest.mark.parametrize(("status", "ok"), [(200, True), (503, False), (404, None)])
def test_the_receiver_is_asked_at_its_public_address(
    whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch, proxy: FileServer, status: int, ok: bool | None
) -> None:
    variables.setenv("ONETHREAD_RECEIVER_PUBLIC_URL", f"{proxy.url}/hooks")
    if status == 200:
        proxy.files["/hooks/ready"] = b"ok"
    else:
        proxy.status("/hooks/ready", status)
    assert of("receiver") == {"webhooks": True, "address": ok}
    assert [path for path, _ in proxy.asked] == ["/hooks/ready"]


def test_a_receiver_that_is_not_there_is_said(whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_RECEIVER_PUBLIC_URL", "http://127.0.0.1:1")
    assert "does not answer" in str(found()["receiver", "address"]["detail"])


def test_half_of_the_secrets_is_not_enough(whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch) -> None:
    variables.delenv("ONETHREAD_WHATSAPP_VERIFY_TOKEN")
    row = found()["receiver", "webhooks"]
    assert (row["ok"], "verify_token" in str(row["detail"]).lower()) == (False, True)


# WhatsApp


def test_a_whatsapp_account_in_order(whatsapp: WhatsAppApp) -> None:
    rows = found()
    assert set(of("whatsapp", rows).values()) == {True}
    assert set(of("whatsapp", rows)) == {
        "settings", "token's end", "permissions", "phone number", "clock", "webhook",
    }  # fmt: skip
    assert rows["whatsapp", "phone number"]["detail"] == "Sandbox, quality green"


def test_a_refused_token(whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_WHATSAPP_ACCESS_TOKEN", SECRET)
    assert of("whatsapp")["access token"] is False


def test_a_token_that_ends_soon_or_lacks_a_permission(whatsapp: WhatsAppApp) -> None:
    whatsapp.token_ends = int(time.time()) + 3 * 86_400
    whatsapp.scopes = ("whatsapp_business_messaging",)
    rows = found()
    assert (rows["whatsapp", "token's end"]["ok"], rows["whatsapp", "permissions"]["ok"]) == (False, False)
    assert rows["whatsapp", "permissions"]["detail"] == "missing: whatsapp_business_management"
    whatsapp.token_ends = 1
    assert found()["whatsapp", "access token"]["detail"] == "not valid"


def test_a_token_that_may_not_be_asked_about_is_unknown(whatsapp: WhatsAppApp) -> None:
    body = {"error": {"code": 100, "message": "(#100) You must provide an app access token"}}
    whatsapp.faults.append(Fault("/v26.0/debug_token", status=400, body=body))
    rows = of("whatsapp")
    assert (rows["token's end"], rows["webhook"]) == (None, True)


def test_a_clock_that_is_wrong(whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch) -> None:
    from taps.whatsapp import TapWhatsApp

    variables.setattr(TapWhatsApp, "now", lambda _: datetime.now(UTC) + timedelta(minutes=10))
    rows = found()
    assert rows["whatsapp", "clock"]["ok"] is False
    assert rows["whatsapp", "clock"]["fix"] == "set the clock (NTP)"


def test_a_platform_that_is_down_fails_and_the_others_are_asked(
    whatsapp: WhatsAppApp, messenger: MessengerApp, variables: pytest.MonkeyPatch
) -> None:
    variables.setenv("ONETHREAD_WHATSAPP_API_URL", "http://127.0.0.1:1")
    rows = found()
    assert rows["whatsapp", "WhatsApp API"]["ok"] is False
    assert rows["messenger", "access token"]["ok"] is True


def test_what_is_not_set_is_not_asked(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_WHATSAPP_DEFAULT_REGION", "GB")
    assert of("whatsapp") == {"settings": True, "access token": None}


def test_a_second_account_is_asked_with_its_own_token(whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_WHATSAPP_ROUTES", "shop2")
    variables.setenv("ONETHREAD_WHATSAPP_SHOP2_ACCESS_TOKEN", SECRET)
    variables.setenv("ONETHREAD_WHATSAPP_SHOP2_APP_SECRET", SECRET)
    variables.setenv("ONETHREAD_WHATSAPP_SHOP2_VERIFY_TOKEN", SECRET)
    rows = found()
    assert rows["receiver", "webhooks"]["detail"] == "whatsapp/default, whatsapp/shop2"
    assert of("whatsapp/shop2", rows)["access token"] is False
    assert set(of("whatsapp", rows).values()) == {True}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("DEFAULT_REGION", "Britain", "default_region"), ("FOLLOW_SECONDS", "soon", "ONETHREAD_WHATSAPP_FOLLOW_SECONDS")],
)
def test_a_wrong_setting_is_one_failed_line(
    whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    variables.setenv(f"ONETHREAD_WHATSAPP_{name}", value)
    rows = found()
    assert of("whatsapp", rows) == {"tap": False}
    assert words in str(rows["whatsapp", "tap"]["detail"])


def test_a_tap_that_breaks_is_one_failed_line_without_its_words(
    whatsapp: WhatsAppApp, variables: pytest.MonkeyPatch
) -> None:
    from taps.whatsapp import TapWhatsApp

    def broken(_: object) -> Iterator[None]:
        raise RuntimeError(SECRET)

    variables.setattr(TapWhatsApp, "check", broken)
    assert "RuntimeError" in str(found()["whatsapp", "tap"]["detail"])


# Messenger


def test_a_messenger_page_in_order(messenger: MessengerApp) -> None:
    assert of("messenger") == {
        "settings": True, "access token": True, "token's end": True, "permissions": True, "clock": True,
        "webhook": True, "message requests": True,
    }  # fmt: skip


def test_a_messenger_page_that_lacks_webhook_fields(messenger: MessengerApp) -> None:
    messenger.fields = {"messages"}
    row = found()["messenger", "webhook"]
    assert (row["ok"], "message_echoes" in str(row["detail"])) == (False, True)
    messenger.fields = set()
    assert found()["messenger", "webhook"]["detail"] == "no app is subscribed"


# HubSpot


def test_a_hubspot_account_that_is_set_up(hubspot: HubSpotApp, stores: Stores) -> None:
    settings = HubSpotTargetSettings(
        access_token=SecretStr("sandbox-token"), portal_id="8800001", api_url=os.environ["ONETHREAD_HUBSPOT_API_URL"]
    )
    setup_hubspot(settings, stores)
    assert of("hubspot") == {
        "settings": True, "access token": True, "account": True, "clock": True, "read contacts": True,
        "read communications": True, "read files": True, "read owners": True, "properties": True,
    }  # fmt: skip


def test_a_hubspot_account_without_our_properties(hubspot: HubSpotApp) -> None:
    row = found()["hubspot", "properties"]
    assert (row["ok"], row["fix"]) == (False, "onethread setup hubspot")


def test_a_hubspot_token_of_another_account(hubspot: HubSpotApp, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_HUBSPOT_PORTAL_ID", "1")
    row = found()["hubspot", "account"]
    assert (row["ok"], row["detail"]) == (False, "the token is of account 8800001, portal_id says 1")


def test_a_hubspot_token_that_is_refused(hubspot: HubSpotApp, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_HUBSPOT_ACCESS_TOKEN", SECRET)
    assert of("hubspot") == {"settings": True, "access token": False}


@pytest.mark.parametrize(
    ("path", "what", "ok"), [("contacts", "read contacts", False), ("owners", "read owners", None)]
)
def test_a_hubspot_token_that_lacks_a_scope(hubspot: HubSpotApp, path: str, what: str, ok: bool | None) -> None:
    place = "/crm/v3/owners" if path == "owners" else f"/crm/v3/objects/{path}"
    hubspot.faults.append(Fault(place, status=403, body={"category": "MISSING_SCOPES"}))
    row = found()["hubspot", what]
    assert row["ok"] is ok
    assert "scope" in str(row["fix"])


# E-mail

needs_mail = pytest.mark.skipif(not MailSandbox.available(), reason=str(MailSandbox.missing()))


@pytest.fixture(scope="module")
def mail_server() -> Iterator[MailSandbox]:
    with MailSandbox({"support@shop.example": "not-a-real-one"}) as running:
        yield running


@pytest.fixture
def mailbox(mail_server: MailSandbox, variables: pytest.MonkeyPatch) -> MailSandbox:
    for name, value in {
        "HOST": mail_server.host, "PORT": str(mail_server.imap_port), "SSL": "false", "USER": "support@shop.example",
        "PASSWORD": "not-a-real-one",
    }.items():  # fmt: skip
        variables.setenv(f"ONETHREAD_EMAIL_{name}", value)
    return mail_server


@needs_mail
def test_a_mailbox_in_order(mailbox: MailSandbox) -> None:
    rows = found()
    assert of("email", rows) == {"settings": True, "mailbox login": True, "folder": True}
    assert "without TLS" in str(rows["email", "mailbox login"]["detail"])


@needs_mail
def test_a_mailbox_with_a_wrong_password(mailbox: MailSandbox, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_EMAIL_PASSWORD", SECRET)
    assert of("email") == {"settings": True, "mailbox login": False}


@needs_mail
def test_a_mailbox_folder_that_is_not_there(mailbox: MailSandbox, variables: pytest.MonkeyPatch) -> None:
    variables.setenv("ONETHREAD_EMAIL_FOLDERS", '["INBOX", "Elsewhere"]')
    rows = found()
    assert rows["email", "mailbox"]["ok"] is False
    assert "Elsewhere" in str(rows["email", "mailbox"]["detail"])


def test_a_mail_server_that_is_not_there(variables: pytest.MonkeyPatch) -> None:
    for name, value in {"HOST": "127.0.0.1", "PORT": "1", "USER": "a@shop.example", "PASSWORD": SECRET}.items():
        variables.setenv(f"ONETHREAD_EMAIL_{name}", value)
    assert of("email") == {"settings": True, "mailbox": False}
