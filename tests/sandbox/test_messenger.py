"""The stand-in of Messenger: what it refuses, tells and counts; Meta's own SDK as an independent client."""

from __future__ import annotations

import hashlib
import hmac
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.messenger import MessengerApp
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

Judge = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
DAY = 86_400


@pytest.fixture
def app(clock: StandingClock) -> Iterator[MessengerApp]:
    app = MessengerApp(retry_seconds=(0.01, 0.02))
    app.clock = clock
    yield app
    app.stop_delivery()


@pytest.fixture
def server(app: MessengerApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


@pytest.fixture
def ana(app: MessengerApp) -> str:
    """Somebody who has just written."""
    psid = app.add_person("Ana", "Lima")
    app.text(psid, "Hello")
    return psid


def send(server: SandboxServer, psid: str, page: str = "me", **body: Any) -> requests.Response:
    body = {"recipient": {"id": psid}, "messaging_type": "RESPONSE", **body}
    return requests.post(f"{server.url}/v23.0/{page}/messages", params=TOKEN, json=body, timeout=10)


TOKEN = {"access_token": "sandbox-access-token"}


def get(server: SandboxServer, path: str, **query: Any) -> requests.Response:
    return requests.get(f"{server.url}/v23.0/{path}", params={**TOKEN, **query}, timeout=10)


def error_of(response: requests.Response) -> tuple[int, int | None]:
    assert response.status_code >= 400, response.text
    error = response.json()["error"]
    return error["code"], error.get("error_subcode")


def arrived(app: MessengerApp, inbox: Inbox) -> list[dict[str, Any]]:
    """The events that the callback got."""
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    entries = [entry for body in inbox.bodies() for entry in body["entry"]]
    return [event for entry in entries for name in ("messaging", "standby", "changes") for event in entry.get(name, ())]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """What each event is about."""
    return [next(name for name in event if name not in {"sender", "recipient", "timestamp"}) for event in events]


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["me", "108812345678901"])
def test_a_send_is_echoed_with_our_app_id_and_metadata_and_then_delivered(
    app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str, page: str
) -> None:
    answer = send(server, ana, page, message={"text": "Hi", "metadata": "t0ken"}).json()
    assert answer["recipient_id"] == ana
    echo, delivered = arrived(app, inbox)[1:]
    assert (echo["sender"]["id"], echo["recipient"]["id"]) == (app.page_id, ana)
    assert echo["message"] == {
        "mid": answer["message_id"], "is_echo": True, "app_id": app.app_id, "text": "Hi", "metadata": "t0ken",
    }  # fmt: skip
    assert delivered["delivery"]["mids"] == [answer["message_id"]]
    assert "timestamp" not in delivered


def test_an_attachment_by_url_is_sent_and_echoed(
    app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str
) -> None:
    picture = {"type": "image", "payload": {"url": "https://media.example/a.png"}}
    assert send(server, ana, message={"attachment": picture}).status_code == 200
    assert arrived(app, inbox)[1]["message"]["attachments"] == [picture]


def test_the_window_is_24_hours_and_7_days_for_a_human_agent(
    app: MessengerApp, clock: StandingClock, server: SandboxServer, ana: str
) -> None:
    human: dict[str, Any] = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT", "message": {"text": "Hi"}}
    clock.advance(DAY)
    assert send(server, ana, message={"text": "Hi"}).status_code == 200
    clock.advance(1)
    assert error_of(send(server, ana, message={"text": "Hi"})) == (10, 2018278)
    assert send(server, ana, **human).status_code == 200
    clock.advance(6 * DAY)
    assert error_of(send(server, ana, **human)) == (10, 2018278)


TAGGED = {"messaging_type": "MESSAGE_TAG", "message": {"text": "x"}}
STATE = {"sender_action": "typing_on", "message": {"text": "x"}}
WRONG: dict[str, tuple[int, int | None, dict[str, Any]]] = {
    "no recipient": (100, None, {"recipient": None, "message": {"text": "x"}}),
    "an unknown recipient": (100, 2018001, {"recipient": {"id": "1"}, "message": {"text": "x"}}),
    "an unknown messaging_type": (100, None, {"messaging_type": "SHOUT", "message": {"text": "x"}}),
    "a tag without a name": (100, None, TAGGED),
    "the retired tag for purchases": (100, None, {**TAGGED, "tag": "POST_PURCHASE_UPDATE"}),
    "the retired tag for accounts": (100, None, {**TAGGED, "tag": "ACCOUNT_UPDATE"}),
    "the retired tag for events": (100, None, {**TAGGED, "tag": "CONFIRMED_EVENT_UPDATE"}),
    "no message": (100, None, {}),
    "an empty message": (100, None, {"message": {}}),
    "a text of 2001 characters": (100, None, {"message": {"text": "x" * 2001}}),
    "metadata of 1001 characters": (100, None, {"message": {"text": "x", "metadata": "x" * 1001}}),
    "14 quick replies": (100, None, {"message": {"text": "x", "quick_replies": [{"content_type": "text"}] * 14}}),
    "an attachment without a url": (100, None, {"message": {"attachment": {"type": "image", "payload": {}}}}),
    "an unknown message to reply to": (100, None, {"message": {"text": "x"}, "reply_to": {"mid": "m_none"}}),
    "a message and a state at once": (100, 2018023, STATE),
    "an unknown state": (100, None, {"sender_action": "dance"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_refuses(app: MessengerApp, server: SandboxServer, ana: str, name: str) -> None:
    code, subcode, body = WRONG[name]
    assert error_of(send(server, ana, **body)) == (code, subcode)
    assert app.state()["sent"] == []


def test_it_takes_a_text_of_2000_characters(server: SandboxServer, ana: str) -> None:
    assert send(server, ana, message={"text": "x" * 2000}).status_code == 200


def test_who_blocked_the_page_gets_nothing(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    app.block(ana)
    assert error_of(send(server, ana, message={"text": "x"})) == (551, 1545041)


def test_typing_is_shown_and_no_message(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    assert send(server, ana, sender_action="typing_on").json() == {"recipient_id": ana}
    assert app.state()["actions"] == [{"customer": ana, "action": "typing_on"}]


def test_the_same_reply_sent_twice_is_counted_as_seen_twice(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    for metadata in ("one", "two", "two"):
        send(server, ana, message={"text": metadata, "metadata": metadata})
    assert [sent["times_seen"] for sent in app.state()["sent"]] == [1, 2, 2]


def test_the_proof_of_the_app_secret_is_checked_and_asked_for(
    app: MessengerApp, server: SandboxServer, ana: str
) -> None:
    proof = hmac.new(app.app_secret.encode(), app.access_token.encode(), hashlib.sha256).hexdigest()
    assert error_of(send(server, ana, message={"text": "x"}, appsecret_proof="0" * 64))[0] == 100
    app.require_proof = True
    assert error_of(send(server, ana, message={"text": "x"}))[0] == 100
    assert send(server, ana, message={"text": "x"}, appsecret_proof=proof).status_code == 200


def test_an_unknown_path_and_an_unknown_page_are_graph_errors(server: SandboxServer, ana: str) -> None:
    assert error_of(requests.get(f"{server.url}/v23.0/a/b/c", params=TOKEN, timeout=10)) == (2500, None)
    assert error_of(send(server, ana, "77", message={"text": "x"})) == (100, 33)


def test_more_than_300_sends_in_a_second_are_refused(
    app: MessengerApp, clock: StandingClock, server: SandboxServer, ana: str
) -> None:
    for _ in range(300):
        app.sending.take("", clock.epoch())
    assert error_of(send(server, ana, message={"text": "x"})) == (613, None)


# -- what people do ----------------------------------------------------------------------------------------------------


def test_everything_that_people_do_arrives(app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str) -> None:
    ours = send(server, ana, message={"text": "Hi"}).json()["message_id"]
    app.deliverer.hold()
    app.text(ana, "to you", reply_to=ours)
    app.attachment(ana, "image")
    app.sticker(ana)
    app.share(ana, "look", "https://page.example/")
    app.share(ana, "gone", None)
    app.quick_reply(ana, "Red", "COLOUR_RED")
    app.from_ad(ana, "More?")
    app.referral(ana)
    app.react(ana, ours)
    app.unreact(ana, ours)
    app.edit(ana, app.text(ana, "helo"), "hello")
    app.postback(ana, "Start", "START")
    app.link_account(ana, "c0de")
    app.unlink_account(ana)
    app.read(ana)
    app.deliverer.release(together=False)
    events = arrived(app, inbox)[3:]
    assert kinds(events) == [
        "message", "message", "message", "message", "message", "message", "message", "referral", "reaction",
        "reaction", "message", "message_edit", "postback", "account_linking", "account_linking", "read",
    ]  # fmt: skip
    reply, image, sticker, share, gone, quick, ad = [event["message"] for event in events[:7]]
    assert reply["reply_to"] == {"mid": ours, "is_self_reply": False}
    assert image["attachments"][0]["type"] == "image"
    assert sticker["attachments"][0]["payload"]["sticker_id"] == 369239263222822
    assert share["attachments"][0] == {
        "type": "fallback", "payload": {"url": "https://page.example/", "title": "A page"},
    }  # fmt: skip
    assert gone["attachments"][0]["payload"] is None
    assert quick["quick_reply"] == {"payload": "COLOUR_RED"}
    assert ad["referral"]["source"] == events[7]["referral"]["source"] == "ADS"
    assert (events[8]["reaction"]["action"], events[8]["reaction"]["reaction"]) == ("react", "love")
    assert events[9]["reaction"] == {"action": "unreact", "mid": ours}
    assert events[11]["message_edit"] == {"mid": events[10]["message"]["mid"], "text": "hello", "num_edit": 1}
    assert events[12]["postback"]["payload"] == "START"
    assert events[13]["account_linking"] == {"status": "linked", "authorization_code": "c0de"}
    assert events[14]["account_linking"] == {"status": "unlinked"}
    assert events[15]["read"]["watermark"] >= events[14]["timestamp"]
    assert all(event["sender"] == {"id": ana} for event in events)


def test_an_attachment_is_loaded_without_a_token(
    app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str
) -> None:
    app.attachment(ana, "image", data=b"picture")
    url = arrived(app, inbox)[1]["message"]["attachments"][0]["payload"]["url"]
    assert requests.get(url, timeout=10).content == b"picture"


def test_a_message_is_edited_at_most_five_times(app: MessengerApp, ana: str) -> None:
    mid = app.text(ana, "0")
    for number in range(5):
        app.edit(ana, mid, str(number))
    with pytest.raises(ValueError, match="five times"):
        app.edit(ana, mid, "6")


def test_any_action_of_the_person_opens_the_window(
    app: MessengerApp, clock: StandingClock, server: SandboxServer, ana: str
) -> None:
    clock.advance(2 * DAY)
    app.postback(ana, "Start", "START")
    assert send(server, ana, message={"text": "x"}).status_code == 200


def test_an_answer_in_the_page_inbox_is_an_echo_of_another_app(app: MessengerApp, inbox: Inbox, ana: str) -> None:
    app.inbox_text(ana, "a person speaks")
    echo = arrived(app, inbox)[1]["message"]
    assert echo["is_echo"]
    assert echo["app_id"] != app.app_id
    assert "metadata" not in echo
    assert app.state()["inbox"][0]["text"] == "a person speaks"


def test_with_routing_an_inbox_answer_moves_us_to_standby_until_the_thread_is_returned(
    app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str
) -> None:
    app.routing = True
    app.inbox_text(ana, "mine")
    app.postback(ana, "Start", "START")
    assert error_of(send(server, ana, message={"text": "x"})) == (10, 2018300)
    app.return_thread(ana)
    assert send(server, ana, message={"text": "x"}).status_code == 200
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    entries = [entry for body in inbox.bodies() for entry in body["entry"]]
    (standby,) = [event for entry in entries for event in entry.get("standby", ())]
    assert standby["postback"].keys() == {"mid", "title"}
    assert kinds(entries[2]["messaging"]) == ["take_thread_control"]


def test_the_dashboard_test_has_changes_and_a_text_timestamp(app: MessengerApp, inbox: Inbox) -> None:
    app.dashboard_test()
    (change,) = arrived(app, inbox)
    assert change["field"] == "messages"
    assert isinstance(change["value"]["timestamp"], str)


def test_times_are_milliseconds_or_seconds_when_asked(app: MessengerApp, inbox: Inbox, ana: str) -> None:
    app.seconds = True
    app.text(ana, "later")
    first, second = arrived(app, inbox)
    assert first["timestamp"] // 1000 == second["timestamp"]


def test_events_held_back_come_in_one_post_with_several_entries_and_events(
    app: MessengerApp, inbox: Inbox, ana: str
) -> None:
    app.deliverer.hold()
    for word in ("one", "two", "three"):
        app.text(ana, word)
    app.deliverer.release()
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    (_, together) = inbox.bodies()
    assert [len(entry["messaging"]) for entry in together["entry"]] == [2, 1]


def test_only_subscribed_fields_are_told(app: MessengerApp, server: SandboxServer, inbox: Inbox, ana: str) -> None:
    url = f"{server.url}/v23.0/me/subscribed_apps"
    requests.post(url, params={**TOKEN, "subscribed_fields": "messages,message_reads"}, timeout=10)
    send(server, ana, message={"text": "x"})
    app.read(ana)
    assert kinds(arrived(app, inbox)) == ["message", "read"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_conversations_are_listed_newest_first_page_by_page(
    app: MessengerApp, clock: StandingClock, server: SandboxServer
) -> None:
    people = [app.add_person(f"P{number}", "X") for number in range(5)]
    for psid in people:
        clock.advance(60)
        app.text(psid, "Hello")
    app.add_person("Silent", "X")
    listed: list[str] = []
    answer = get(server, f"{app.page_id}/conversations", platform="messenger", limit=2).json()
    while True:
        listed += [row["id"] for row in answer["data"]]
        if "next" not in answer["paging"]:
            break
        clock.advance(1)
        answer = requests.get(answer["paging"]["next"], timeout=10).json()
    assert listed == [app.people[psid].conversation for psid in reversed(people)]


def test_the_conversation_of_one_person_is_found(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    app.text(app.add_person("Ben", "X"), "Hello")
    (row,) = get(server, "me/conversations", user_id=ana).json()["data"]
    assert row["id"] == app.people[ana].conversation
    assert row["updated_time"].endswith("+0000")


def test_old_threads_in_the_requests_folder_are_absent(
    app: MessengerApp, clock: StandingClock, server: SandboxServer
) -> None:
    app.text(app.add_person("Ben", "X", in_requests=True), "Hello")
    assert len(get(server, "me/conversations").json()["data"]) == 1
    clock.advance(30 * DAY + 1)
    assert get(server, "me/conversations").json()["data"] == []


def test_details_are_given_for_the_20_newest_messages_and_the_others_look_deleted(
    app: MessengerApp, clock: StandingClock, server: SandboxServer, ana: str
) -> None:
    mids = []
    for number in range(22):
        clock.advance(1)
        mids.append(app.text(ana, str(number)))
    thread = get(server, app.people[ana].conversation, fields="messages.limit(50){id,created_time,message}").json()
    rows = thread["messages"]["data"]
    assert [row["id"] for row in rows[:22]] == list(reversed(mids))
    assert [("message" in row) for row in rows] == [True] * 20 + [False] * 3
    newest = get(server, mids[-1], fields="id,created_time,from,to,message").json()
    assert (newest["message"], newest["from"]["id"], newest["to"]["data"][0]["id"]) == ("21", ana, app.page_id)
    clock.advance(1)
    assert error_of(get(server, mids[1], fields="message")) == (100, 33)


def test_a_message_whose_webhook_was_lost_is_found_by_reading(
    app: MessengerApp, server: SandboxServer, ana: str
) -> None:
    lost = app.text(ana, "lost", delivery=Delivery(drop=True))
    thread = get(server, app.people[ana].conversation, fields="messages").json()
    assert lost in {row["id"] for row in thread["messages"]["data"]}
    assert get(server, lost, fields="message").json()["message"] == "lost"


def test_the_messages_of_a_conversation_are_paged(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    mids = ["", app.text(ana, "2"), app.text(ana, "3")]
    url = f"{app.people[ana].conversation}/messages"
    first = get(server, url, limit=2, fields="id,message").json()
    second = requests.get(first["paging"]["next"], timeout=10).json()
    assert [row["id"] for row in first["data"]] == [mids[2], mids[1]]
    assert [row["message"] for row in second["data"]] == ["Hello"]


def test_more_than_two_reads_in_a_second_are_refused(
    app: MessengerApp, clock: StandingClock, server: SandboxServer, ana: str
) -> None:
    codes = [get(server, "me/conversations").status_code for _ in range(3)]
    assert codes == [200, 200, 400]
    assert error_of(get(server, app.people[ana].conversation)) == (613, None)
    clock.advance(1)
    assert get(server, "me/conversations").status_code == 200


def test_a_profile_is_read_and_refused_without_permission(app: MessengerApp, server: SandboxServer, ana: str) -> None:
    profile = get(server, ana, fields="first_name,last_name,profile_pic").json()
    assert (profile["id"], profile["first_name"], profile["last_name"]) == (ana, "Ana", "Lima")
    app.profile_access = False
    assert error_of(get(server, ana, fields="first_name")) == (100, 33)


# -- Meta's SDK as a client --------------------------------------------------------------------------------------------


def test_the_sdk_of_meta_sends_forms_with_a_proof_and_reads_conversations(
    app: MessengerApp, server: SandboxServer, ana: str, judge: Judge
) -> None:
    app.require_proof = True
    message = {"text": "Grüße / 你好", "metadata": "t0ken"}
    calls = [
        {"method": "POST", "path": ["me", "messages"],
         "params": {"recipient": {"id": ana}, "messaging_type": "RESPONSE", "message": message}},
        {"method": "POST", "path": ["me", "messages"],
         "params": {"recipient": {"id": ana}, "messaging_type": "MESSAGE_TAG", "tag": "ACCOUNT_UPDATE",
                    "message": message}},
        {"method": "GET", "path": [app.page_id, "conversations"], "params": {"platform": "messenger"}},
        {"method": "GET", "path": [app.people[ana].conversation], "params": {"fields": "messages{message,from}"}},
        {"method": "GET", "path": [ana], "params": {"fields": "first_name"}},
    ]  # fmt: skip
    work = {"url": server.url, "token": app.access_token, "app_secret": app.app_secret, "calls": calls}
    sent, refused, threads, thread, profile = judge("facebook_client.py", work)
    assert sent["ok"]["recipient_id"] == ana
    assert (refused["code"], refused["type"]) == (100, "OAuthException")
    assert threads["ok"]["data"][0]["id"] == app.people[ana].conversation
    assert {row["message"] for row in thread["ok"]["messages"]["data"]} == {"Hello", "Grüße / 你好"}
    assert profile["ok"]["first_name"] == "Ana"
    assert [(one["text"], one["token"]) for one in app.state()["sent"]] == [("Grüße / 你好", "t0ken")]


def test_the_sdk_of_meta_is_refused_with_a_wrong_token_and_a_wrong_proof(
    app: MessengerApp, server: SandboxServer, judge: Judge
) -> None:
    call = {"method": "GET", "path": ["me"]}
    work = {"url": server.url, "token": app.access_token, "app_secret": "another", "calls": [call]}
    (proof,) = judge("facebook_client.py", work)
    (token,) = judge("facebook_client.py", work | {"token": "wrong"})
    assert (proof["code"], token["code"]) == (100, 190)


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in MessengerApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in MessengerApp.rules)
    assert {rule.judge for rule in MessengerApp.rules} == {"pywa", "facebook-business", None}


def test_the_page_names_every_action_and_every_option() -> None:
    page = (ROOT / "sandbox" / "messenger.md").read_text()
    options = set(inspect.signature(MessengerApp.__init__).parameters) - {"self", "more"}
    assert sorted(name for name in {*MessengerApp.actions, *options} if f"`{name}`" not in page) == []
