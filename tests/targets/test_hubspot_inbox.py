"""Conversations as threads in HubSpot's inbox: published once, answered by agents, and told what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mappings.errors import PayloadError
from mappings.from_hubspot import PUSHES
from mappings.ids import reply_key
from mappings.records import ArchivedMessage, Reply
from mappings.to_hubspot import inbox_record
from sandbox.deliverer import Delivery
from stores.database import Stores
from stores.parked import Parked
from taps.hubspot import TapHubSpot
from taps.webhooks import hubspot
from taps.webhooks.receiver import WebhookRoute
from targets.hubspot import setup_hubspot
from tests.contract.webhook import running_receiver
from tests.targets.hubspot_world import PORTAL, World, erasure, fate, merge, message, person, world

TOKEN, SECRET = "a-word-in-the-address", "app-secret"
NOW = datetime.now(UTC)
INBOX: dict[str, Any] = {
    "inbox_channels": ["whatsapp"], "inbox_id": "900", "webhook_token": TOKEN, "developer_api_key": "dev-key",
    "inbox_webhook_url": "https://hooks.shop.example/webhooks/hubspot", "app_id": "77",
}  # fmt: skip


@pytest.fixture(params=["v3", "2026-03", "2026-09"])
def account(state_url: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """An account whose WhatsApp conversations are threads in its inbox."""
    with world(state_url, setup=False) as made:
        made.config |= {**INBOX, "api_version": request.param}
        setup_hubspot(made.settings, made.stores)
        made.calls()
        yield made


@pytest.fixture
def one(state_url: str) -> Iterator[World]:
    """The same, of one API version."""
    with world(state_url, setup=False) as made:
        made.config |= INBOX
        setup_hubspot(made.settings, made.stores)
        made.calls()
        yield made


def said(number: int, of: int = 1, **values: Any) -> ArchivedMessage:
    """A message of today."""
    return message(number, of=of, **{"sent_at": NOW - timedelta(minutes=60 - number), **values})


def ours(number: int, **values: Any) -> ArchivedMessage:
    """What we answered elsewhere: on the phone, or by a bot."""
    return said(number, **{"direction": "outbound", "author_kind": "bot", "author_name": "Helper", **values})


def threads(account: World) -> dict[str, dict[str, Any]]:
    return dict(account.app.state()["inbox"]["threads"])


def texts(account: World) -> list[str]:
    return [one["text"] for thread in threads(account).values() for one in thread["messages"]]


def message_id(account: World, number: int = 0) -> str:
    (thread,) = threads(account).values()
    return str(thread["messages"][number]["id"])


def key_of(account: World, message_id: str) -> str:
    (channel_id,) = account.app.channels.channels
    return reply_key("hubspot", PORTAL, inbox_record(channel_id), message_id)


class TestPublishing:
    def test_a_conversation_becomes_a_thread_on_its_contact(self, account: World) -> None:
        account.write(person(1), person(2), said(1), ours(2), said(3, of=2))
        found = threads(account)
        contact = account.contact_of("person-1")["id"]
        (thread,) = [one for one in found.values() if one["contact"] == contact]
        assert [(m["direction"], m["text"]) for m in thread["messages"]] == [
            ("INCOMING", "words of message 1."),
            ("OUTGOING", "words of message 2."),
        ]
        assert thread["messages"][1]["senders"][0]["name"] == "Helper"
        assert len(found) == 2
        assert account.bodies() == []

    def test_the_same_again_makes_no_request(self, account: World) -> None:
        records = (person(1), said(1), ours(2))
        account.write(*records)
        account.calls()
        account.write(*records)
        assert not account.calls()

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_lost_answer_leads_to_one_message(self, one: World, when: str) -> None:
        one.fail("/messages", 502, when=when)
        one.write(person(1), said(1), ours(2))
        assert texts(one) == ["words of message 1.", "words of message 2."]

    def test_what_is_old_is_logged_on_the_timeline(self, one: World) -> None:
        one.write(person(1), said(1, sent_at=NOW - timedelta(days=30)), said(2))
        assert texts(one) == ["words of message 2."]
        assert len(one.bodies()) == 1

    def test_a_channel_that_changes_its_mode_doubles_nothing(self, one: World) -> None:
        one.write(person(1), said(1), inbox_channels=[], roll_up=True)
        one.write(person(1), said(1), said(2))
        one.write(person(1), said(1, edited_at=NOW), said(2), said(3), inbox_channels=[])
        assert texts(one) == ["words of message 2."]
        assert sum(body.count("words of message") for body in one.bodies()) == 2

    def test_a_text_that_hubspot_cuts_is_counted(self, state_url: str) -> None:
        with world(state_url, setup=False, inbox_text_limit=10) as account:
            account.config |= INBOX
            setup_hubspot(account.settings, account.stores)
            account.write(person(1), said(1))
            assert account.target.counts["messages cut short by HubSpot"] == 1

    def test_one_refused_message_is_parked_and_the_others_are_published(self, one: World) -> None:
        one.fail("/messages", 400, body={"category": "VALIDATION_ERROR"})
        one.write(person(1), said(1), said(2))
        assert texts(one) == ["words of message 2."]
        (item,) = one.parked()
        assert "VALIDATION_ERROR" in item.reason
        assert "words of" not in item.reason

    def test_after_a_merge_in_hubspot_messages_name_the_survivor(self, one: World) -> None:
        one.write(person(1), said(1))
        other = one.app.create_contact_as_person({"email": "ana@shop.example"})
        survivor = one.app.merge_contacts_as_admin(other, one.contact_of("person-1")["id"])
        one.write(said(2))
        (thread,) = threads(one).values()
        assert (len(thread["messages"]), thread["contact"]) == (2, survivor)

    def test_after_a_merge_of_persons_messages_name_the_other_contact(self, one: World) -> None:
        one.write(person(1), person(2), said(1), said(2, of=2))
        one.write(merge(1, 1, 2), said(3, of=2, person_id="person-1"))
        contact = one.contact_of("person-1")["id"]
        assert [thread["contact"] for thread in threads(one).values()] == [contact, contact]

    def test_an_erased_persons_threads_go_into_the_bin(self, one: World) -> None:
        one.write(person(1), said(1), ours(2))
        one.write(erasure(1, 1))
        (thread,) = threads(one).values()
        assert thread["archived"]
        one.write(said(1))
        assert len(texts(one)) == 2

    def test_what_became_of_a_message_sent_elsewhere_is_its_status(self, one: World) -> None:
        one.write(person(1), ours(1, status="sent", status_at=NOW))
        one.write(person(1), ours(1, status="read", status_at=NOW))
        one.write(person(1), ours(1, status="delivered", status_at=NOW))
        (thread,) = threads(one).values()
        assert thread["messages"][0]["status"] == {"statusType": "READ"}

    def test_nothing_is_published_before_the_set_up(self, state_url: str) -> None:
        with world(state_url) as account, pytest.raises(Exception, match="onethread setup hubspot"):
            account.write(person(1), said(1), **INBOX)


class TestSetUp:
    def test_it_registers_channel_and_accounts_and_is_safe_to_repeat(self, state_url: str) -> None:
        with world(state_url, setup=False) as account:
            account.config |= {**INBOX, "inbox_accounts": {"whatsapp:106540352242922": "Shop"}}
            plan = setup_hubspot(account.settings, account.stores, dry_run=True)
            assert "inbox channel WhatsApp (onethread): would be registered" in plan
            assert account.app.channels.channels == {}
            setup_hubspot(account.settings, account.stores)
            setup_hubspot(account.settings, account.stores)
            (channel,) = account.app.channels.channels.values()
            assert channel["webhookUrl"] == f"{INBOX['inbox_webhook_url']}?token={TOKEN}"
            (mine,) = account.app.channels.accounts.values()
            assert (mine["name"], mine["inboxId"]) == ("Shop", "900")

    def test_a_new_token_changes_the_address(self, one: World) -> None:
        one.config["webhook_token"] = "another"
        told = "inbox channel WhatsApp (onethread): got our address and what it can do"
        assert told in setup_hubspot(one.settings, one.stores)
        assert told not in setup_hubspot(one.settings, one.stores)

    def test_a_channel_that_was_said_to_take_agents_files_is_told_that_it_takes_none(self, one: World) -> None:
        (channel,) = one.app.channels.channels.values()
        assert channel["capabilities"]["outgoingAttachmentTypes"] == []
        channel["capabilities"] |= {"outgoingAttachmentTypes": ["FILE"], "theirs": 1}
        setup_hubspot(one.settings, one.stores)
        (channel,) = one.app.channels.channels.values()
        assert (channel["capabilities"]["outgoingAttachmentTypes"], channel["capabilities"]["theirs"]) == ([], 1)

    def test_an_account_that_another_run_added_is_found_again(self, one: World, tmp_path: Any) -> None:
        one.write(person(1), said(1))
        stores = Stores(f"sqlite:///{tmp_path / 'other'}")
        one.config["state_url"] = f"sqlite:///{tmp_path / 'other'}"
        setup_hubspot(one.settings, stores)
        one.write(person(1), said(2))
        stores.close()
        assert len(one.app.channels.accounts) == 1


class Desk:
    """An agent at the inbox, and the tap that reads what they answer."""

    def __init__(self, account: World, port: int) -> None:
        self.account = account
        for channel in account.app.channels.channels.values():
            channel["webhookUrl"] = f"http://127.0.0.1:{port}/webhooks/hubspot?token={TOKEN}"
        account.app.channels.start_webhooks(SECRET)
        self.state: dict[str, Any] = {}

    def answer(self, text: str, **more: Any) -> str:
        (thread,) = threads(self.account)
        return self.account.app.channels.answer(thread, text, **more)

    def replies(self, *, again: bool = False) -> list[Reply]:
        """What the tap gives; `again`: with the bookmark of the beginning."""
        self.account.app.channels.deliverer.flush()
        settings = {key: self.account.config[key] for key in ("access_token", "portal_id", "api_url", "state_url")} | {
            "api_version": self.account.config.get("api_version", "v3"),
            "search_interval_seconds": 0,
        }
        host = self.account.server.url.removeprefix("http://")
        tap = TapHubSpot(
            config={**settings, "media_private_hosts": [host]},
            state={} if again else self.state,
            catalog=None,
        )
        lines = _run(tap)
        self.state = next((one["value"] for one in reversed(lines) if one["type"] == "STATE"), self.state)
        return [
            Reply.model_validate(one["record"]) for one in lines if one.get("stream") == "replies" and "record" in one
        ]


def _run(tap: TapHubSpot) -> list[dict[str, Any]]:
    import contextlib
    import io

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        tap.sync_all()
    return [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture
def desk(one: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An inbox whose answers reach a real receiver."""
    module = PUSHES.load("webhook")
    settings = module.Settings(_env_file=None, webhook_token=TOKEN, client_secret=SECRET)
    receiving = Stores(one.state_url)
    with running_receiver(receiving, {("hubspot", "default"): WebhookRoute(module, settings)}) as running:
        made = Desk(one, running.port)
        yield made
        one.app.channels.deliverer.stop()
    receiving.close()


class TestAgentsAnswers:
    def test_an_answer_becomes_a_reply_to_that_channel(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        answered = desk.answer("On its way!")
        (reply,) = desk.replies()
        assert reply.reply_key == key_of(desk.account, answered)
        assert (reply.text, reply.channel, reply.author_kind, reply.author_name) == (
            "On its way!", "whatsapp", "agent", "Ada Agent",
        )  # fmt: skip
        assert reply.conversation_key == said(1).conversation_key
        assert [one.kind for one in reply.handles] == ["phone", "hubspot_contact"]
        assert reply.handles[1].value == desk.account.contact_of("person-1")["id"]

    def test_what_we_published_ourselves_is_no_reply(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1), ours(2), ours(3, author_kind="agent", author_name="Ben"))
        assert desk.replies() == []
        assert desk.account.app.channels.deliverer.account()["accepted"] == 2

    def test_a_publish_whose_answer_got_lost_is_no_reply_either(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        desk.account.fail("/messages", 502, when="after", times=9)
        with pytest.raises(Exception, match="502"):
            desk.account.write(ours(2), max_tries=2)
        desk.account.app.faults.clear()
        assert desk.replies() == []
        desk.account.write(ours(2))
        assert desk.replies(again=True) == []
        assert len(texts(desk.account)) == 2

    def test_an_agent_who_says_the_same_words_is_heard(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1), ours(2, text="Hello"))
        desk.answer("Hello")
        assert [one.text for one in desk.replies()] == ["Hello"]

    def test_a_post_that_comes_twice_is_one_reply(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        desk.answer("Once", delivery=Delivery(duplicate=2))
        assert len(desk.replies()) == 1
        assert desk.replies() == []

    def test_a_list_of_events_is_taken_too(self, desk: Desk) -> None:
        desk.account.app.channels.array_bodies = True
        desk.account.write(person(1), said(1))
        desk.answer("First")
        assert [one.text for one in desk.replies()] == ["First"]

    def test_an_unsigned_post_with_the_token_is_taken(self, desk: Desk) -> None:
        desk.account.app.channels.signs = False
        desk.account.write(person(1), said(1))
        desk.answer("Unsigned")
        assert len(desk.replies()) == 1

    def test_a_file_is_fetched_into_our_store(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        desk.answer("Here", file=("note.txt", "text/plain", b"an invoice"))
        (reply,) = desk.replies()
        (file,) = reply.attachments
        assert (file.filename, file.size_bytes) == ("note.txt", 10)
        assert file.media_key

    def test_what_became_of_it_is_the_messages_status(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        key = key_of(desk.account, desk.answer("On its way!"))
        desk.replies()
        desk.account.calls()
        desk.account.write(fate(key, "queued"), fate(key, "sent"), fate(key, "delivered"))
        desk.account.write(fate(key, "read"))
        desk.account.write(fate(key, "sent"))
        (thread,) = threads(desk.account).values()
        assert thread["messages"][1]["status"] == {"statusType": "READ"}
        assert desk.account.calls().total() == 2

    def test_a_refusal_says_why(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        key = key_of(desk.account, desk.answer("Too late"))
        desk.account.write(fate(key, "refused", reason="The 24-hour window is closed.", actor="agent"))
        (thread,) = threads(desk.account).values()
        assert thread["messages"][1]["status"]["statusType"] == "FAILED"
        assert "24-hour window" in json.dumps(thread["messages"][1]["status"])

    def test_the_sent_reply_comes_back_from_its_platform_and_is_not_published_again(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        key = key_of(desk.account, desk.answer("On its way!"))
        desk.account.calls()
        desk.account.write(ours(2, text="On its way!", reply_key=key, status="sent"))
        desk.account.write(ours(2, text="On its way!", reply_key=key, status="read"))
        assert not desk.account.calls()
        assert texts(desk.account) == ["words of message 1.", "On its way!"]

    def test_a_post_that_cannot_be_read_is_parked_whole_and_can_be_read_later(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk.account.write(person(1), said(1))
        desk.answer("Found")

        def unreadable(body: bytes) -> Any:
            del body
            msg = "HubSpot: an odd post"
            raise PayloadError(msg)

        with monkeypatch.context() as patch:
            patch.setattr(hubspot, "split", unreadable)
            assert desk.replies() == []
            (row,) = desk.account.parked()
            Parked(desk.account.stores).ask_replay([row.parked_id])
            assert desk.replies() == []
        (row,) = desk.account.parked()
        assert (row.reason, row.tries) == ("HubSpot: an odd post", 2)
        Parked(desk.account.stores).ask_replay([row.parked_id])
        assert [one.text for one in desk.replies()] == ["Found"]
        assert desk.replies() == []
        assert desk.account.parked() == []

    def test_an_event_that_names_no_thread_of_ours_is_parked_and_the_next_one_read(self, desk: Desk) -> None:
        desk.account.write(person(1), said(1))
        thread = next(iter(desk.account.app.channels.threads.values()))
        name, thread.integration_thread_id = thread.integration_thread_id, "not one of ours"
        desk.answer("Lost?")
        thread.integration_thread_id = name
        desk.answer("Found")
        assert [one.text for one in desk.replies()] == ["Found"]
        assert [item.error for item in desk.account.parked()] == ["PayloadError"]
