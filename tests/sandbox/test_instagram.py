"""The stand-in of Instagram: what it refuses, tells and counts; Meta's SDK and pywa as independent judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from mappings.settings import tap_config_from_environment
from sandbox.base import SandboxServer
from sandbox.instagram import InstagramApp
from stores.database import Stores
from taps.instagram import TapInstagram
from taps.webhooks import instagram
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import running_receiver
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

Judge = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
DAY = 86_400
TOKEN = {"access_token": "sandbox-access-token"}


@pytest.fixture(params=["facebook", "instagram"])
def login(request: pytest.FixtureRequest) -> str:
    """Both ways to connect an account."""
    return str(request.param)


def made(clock: StandingClock, **options: Any) -> InstagramApp:
    app = InstagramApp(retry_seconds=(0.01, 0.02), **options)
    app.clock = clock
    return app


@pytest.fixture
def app(clock: StandingClock) -> Iterator[InstagramApp]:
    app = made(clock)
    yield app
    app.stop()


@pytest.fixture
def server(app: InstagramApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


@pytest.fixture
def mia(app: InstagramApp) -> str:
    """Somebody who has just written."""
    igsid = app.add_person("Mia Rossi", "mia.rossi")
    app.text(igsid, "Hello")
    return igsid


def get(server: SandboxServer, path: str, **query: Any) -> requests.Response:
    return requests.get(f"{server.url}/v26.0/{path}", params={**TOKEN, **query}, timeout=10)


def send(server: SandboxServer, recipient: dict[str, str], node: str = "me", **body: Any) -> requests.Response:
    body = {"recipient": recipient, "messaging_type": "RESPONSE", **body}
    return requests.post(f"{server.url}/v26.0/{node}/messages", params=TOKEN, json=body, timeout=10)


def error_of(response: requests.Response) -> tuple[int, int | None]:
    assert response.status_code >= 400, response.text
    error = response.json()["error"]
    return error["code"], error.get("error_subcode")


def entries(app: InstagramApp, inbox: Inbox) -> list[dict[str, Any]]:
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    return [entry for body in inbox.bodies() for entry in body["entry"]]


def arrived(app: InstagramApp, inbox: Inbox) -> list[dict[str, Any]]:
    """The chat events that the callback got."""
    found = entries(app, inbox)
    return [event for entry in found for name in ("messaging", "standby") for event in entry.get(name, ())]


# -- what people do ----------------------------------------------------------------------------------------------------


def test_everything_that_people_do_arrives_and_our_code_knows_each_kind(
    app: InstagramApp, server: SandboxServer, inbox: Inbox, mia: str
) -> None:
    ours = send(server, {"id": mia}, message={"text": "Hi"}).json()["message_id"]
    app.deliverer.hold()
    app.text(mia, "to you", reply_to=ours)
    app.attachment(mia, "image")
    app.like_heart(mia)
    app.share_post(mia)
    app.story_mention(mia)
    app.story_reply(mia, "Where is this from?")
    app.unsupported(mia)
    app.quick_reply(mia, "Red", "COLOUR_RED")
    app.from_ad(mia, "More?")
    app.referral(mia)
    app.react(mia, ours)
    app.unreact(mia, ours)
    app.edit(mia, app.text(mia, "helo"), "hello")
    app.unsend(mia, app.text(mia, "never mind"))
    app.postback(mia, "Hours?", "HOURS")
    app.read(mia)
    comment = app.comment(mia, "How much?", ad_id="6045246247433")
    app.app_comment("12 euros", parent=comment)
    app.mention(mia, in_comment=True)
    app.comment(mia, "Hello from the sofa", live=True)
    app.deliverer.release(together=False)
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    items = [item for _, body in inbox.posts for item in instagram.split(body)]
    assert [item.kind for item in items][2:] == [
        "message", "message", "message", "message", "message", "message", "message", "message", "message", "referral",
        "reaction", "reaction", "message", "message_edit", "message", "message_deleted", "postback", "read",
        "comment", "comment", "mention", "comment",
    ]  # fmt: skip
    events = [item.payload["event"] for item in items[2:]]
    assert events[0]["message"]["reply_to"] == {"mid": ours}
    assert events[2]["message"]["attachments"] == [{"type": "like_heart"}]
    assert [one["type"] for one in events[3]["message"]["attachments"]] == ["ig_post"]
    assert events[5]["message"]["reply_to"]["story"]["id"]
    assert events[11]["reaction"] == {"mid": ours, "action": "unreact"}
    assert events[15]["message"] == {"mid": events[14]["message"]["mid"], "is_deleted": True}
    assert events[17]["read"] == {"mid": ours}
    assert events[18]["media"]["ad_id"] == "6045246247433"
    assert events[19]["from"] == {"id": app.account_id, "username": app.username, "self_ig_scoped_id": app.self_igsid}
    assert set(events[20]) == {"media_id", "comment_id"}
    assert items[-1].payload["field"] == "live_comments"
    assert all(item.payload["account_id"] == app.account_id for item in items)


def test_an_echo_has_its_parties_swapped_and_need_not_name_its_app(
    app: InstagramApp, server: SandboxServer, inbox: Inbox, mia: str
) -> None:
    sent = send(server, {"id": mia}, message={"text": "by our app"}).json()["message_id"]
    app.echo_has_app_id = False
    send(server, {"id": mia}, message={"text": "by our app again"})
    app.app_text(mia, "by a person in the app")
    _, first, second, third = arrived(app, inbox)
    assert (first["sender"]["id"], first["recipient"]["id"]) == (app.account_id, mia)
    assert first["message"] == {"mid": sent, "is_echo": True, "app_id": app.app_id, "text": "by our app"}
    assert [("app_id" in one["message"]) for one in (second, third)] == [False, False]


def test_a_post_is_shared_in_the_old_form_as_well_when_asked(app: InstagramApp, inbox: Inbox, mia: str) -> None:
    app.old_shares = True
    app.share_post(mia)
    attachments = arrived(app, inbox)[1]["message"]["attachments"]
    assert [one["type"] for one in attachments] == ["share", "ig_post"]


def test_comments_of_instagram_login_can_come_flat(clock: StandingClock, inbox: Inbox) -> None:
    app = made(clock, login="instagram")
    app.flat_comments = True
    app.comment(app.add_person("Noor", "noor.h"), "How much?")
    (entry,) = entries(app, inbox)
    app.stop()
    assert (entry["field"], entry["value"]["text"]) == ("comments", "How much?")


def test_the_test_button_is_for_entry_0(app: InstagramApp, inbox: Inbox) -> None:
    app.dashboard_test()
    (entry,) = entries(app, inbox)
    assert (entry["id"], entry["changes"][0]["field"]) == ("0", "comments")


def test_while_another_app_has_the_chat_we_stand_by(app: InstagramApp, inbox: Inbox, mia: str) -> None:
    app.take_thread(mia)
    app.postback(mia, "Hours?", "HOURS")
    app.return_thread(mia)
    app.text(mia, "Back")
    found = entries(app, inbox)
    assert [set(entry) - {"id", "time"} for entry in found] == [{"messaging"}, {"standby"}, {"messaging"}]
    assert "payload" not in found[1]["standby"][0]["postback"]


def test_a_message_is_edited_at_most_five_times(app: InstagramApp, mia: str) -> None:
    mid = app.text(mia, "0")
    for number in range(5):
        app.edit(mia, mid, str(number))
    with pytest.raises(ValueError, match="five times"):
        app.edit(mia, mid, "6")


def test_each_message_is_read_by_an_event_of_its_own_once(
    app: InstagramApp, server: SandboxServer, inbox: Inbox, mia: str
) -> None:
    sent = [send(server, {"id": mia}, message={"text": word}).json()["message_id"] for word in ("one", "two")]
    assert (app.read(mia), app.read(mia)) == (2, 0)
    assert [one["read"]["mid"] for one in arrived(app, inbox) if "read" in one] == sent


def test_only_subscribed_fields_are_told(app: InstagramApp, server: SandboxServer, inbox: Inbox, mia: str) -> None:
    url = f"{server.url}/v26.0/me/subscribed_apps"
    requests.post(url, params={**TOKEN, "subscribed_fields": "comments"}, timeout=10)
    app.text(mia, "not told")
    app.comment(mia, "told")
    assert [set(entry) - {"id", "time"} for entry in entries(app, inbox)] == [{"messaging"}, {"changes"}]
    (row,) = get(server, "me/subscribed_apps").json()["data"]
    assert row["subscribed_fields"] == ["comments"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_conversations_are_read_with_both_logins(clock: StandingClock, login: str) -> None:
    app = made(clock, login=login)
    mia = app.add_person("Mia", "mia.rossi")
    app.text(mia, "Hello")
    clock.advance(1)
    app.app_text(mia, "Hello Mia")
    node = app.page_id if login == "facebook" else "me"
    with SandboxServer(app) as server:
        (row,) = get(server, f"{node}/conversations", platform="instagram", fields="id,updated_time").json()["data"]
        thread = get(server, row["id"], fields="messages.limit(20){id,created_time,from,to,message}").json()["messages"]
    own = app.account_id if login == "facebook" else app.own_id
    assert [one["from"]["id"] for one in thread["data"]] == [own, mia]
    assert [one["to"]["data"][0]["id"] for one in thread["data"]] == [mia, own]
    assert row["updated_time"].endswith("+0000")


def test_a_page_asked_for_messenger_has_nothing_of_instagram(server: SandboxServer, mia: str) -> None:
    assert get(server, "me/conversations").json()["data"] == []
    assert len(get(server, "me/conversations", platform="instagram").json()["data"]) == 1


def test_old_message_requests_are_absent_and_young_ones_say_where_they_lie(
    app: InstagramApp, clock: StandingClock, server: SandboxServer
) -> None:
    app.text(app.add_person("Noor", "noor.h", in_requests=True), "Hello")
    (row,) = get(server, "me/conversations", platform="instagram", fields="id,folder").json()["data"]
    assert row["folder"] == "pending"
    clock.advance(30 * DAY + 1)
    assert get(server, "me/conversations", platform="instagram").json()["data"] == []


def test_an_answer_takes_a_chat_out_of_the_requests(app: InstagramApp, server: SandboxServer) -> None:
    noor = app.add_person("Noor", "noor.h", in_requests=True)
    app.text(noor, "Hello")
    send(server, {"id": noor}, message={"text": "Hi"})
    (row,) = get(server, "me/conversations", platform="instagram", fields="id,folder").json()["data"]
    assert row["folder"] == "inbox"


def test_details_are_given_for_the_20_newest_messages_and_the_others_look_deleted(
    app: InstagramApp, clock: StandingClock, server: SandboxServer, mia: str
) -> None:
    mids = []
    for number in range(21):
        clock.advance(1)
        mids.append(app.text(mia, str(number)))
    assert get(server, mids[-1], fields="message").json()["message"] == "20"
    assert error_of(get(server, mids[0], fields="message")) == (100, 33)


def test_what_a_message_holds_is_shown(
    app: InstagramApp, clock: StandingClock, server: SandboxServer, mia: str
) -> None:
    shown = []
    for mid in (app.share_post(mia), app.story_mention(mia), app.story_reply(mia, "?"), app.unsupported(mia)):
        clock.advance(1)
        shown.append(get(server, mid, fields="shares,story,is_unsupported,message").json())
    assert shown[0]["shares"]["data"][0]["link"].startswith(server.url)
    assert shown[1]["story"]["mention"]["link"].startswith(server.url)
    assert shown[2]["story"]["reply_to"]["id"] == "17900000000000001"
    assert shown[3]["is_unsupported"] is True


def test_an_unsent_message_is_gone(app: InstagramApp, server: SandboxServer, mia: str) -> None:
    mid = app.text(mia, "never mind")
    app.unsend(mia, mid)
    assert error_of(get(server, mid, fields="message")) == (100, 33)
    assert [one["unsent"] for one in app.state()["customer_messages"]] == [False, True]


def test_more_than_two_reads_in_a_second_are_refused(clock: StandingClock, server: SandboxServer, mia: str) -> None:
    answers = [get(server, "me/conversations", platform="instagram") for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 400]
    assert error_of(answers[2]) == (613, None)
    clock.advance(1)
    assert get(server, "me/conversations", platform="instagram").status_code == 200


def test_a_profile_needs_that_the_person_has_written_and_has_not_blocked_us(
    app: InstagramApp, server: SandboxServer, mia: str
) -> None:
    noor = app.add_person("Noor", "noor.h")
    app.comment(noor, "How much?")
    assert error_of(get(server, noor, fields="name,username")) == (230, None)
    found = get(server, mia, fields="name,username,profile_pic").json()
    assert (found["id"], found["name"], found["username"]) == (mia, "Mia Rossi", "mia.rossi")
    app.block(mia)
    assert error_of(get(server, mia, fields="name")) == (100, 33)


def test_an_attachment_is_loaded_without_a_token(app: InstagramApp, server: SandboxServer, mia: str) -> None:
    app.attachment(mia, "image", data=b"picture")
    url = app.messages[list(app.messages)[-1]].attachments[0]["payload"]["url"]
    assert requests.get(url, timeout=10).content == b"picture"


# -- tokens ------------------------------------------------------------------------------------------------------------


def refresh(server: SandboxServer, token: str, grant_type: str = "ig_refresh_token") -> requests.Response:
    query = {"grant_type": grant_type, "access_token": token}
    return requests.get(f"{server.url}/refresh_access_token", params=query, timeout=10)


def test_a_token_is_refreshed_from_its_second_day_to_its_sixtieth(clock: StandingClock) -> None:
    app = made(clock, login="instagram")
    first = app.access_token
    with SandboxServer(app) as server:
        assert error_of(refresh(server, first))[0] == 190
        clock.advance(DAY + 1)
        answer = refresh(server, first).json()
        assert (answer["token_type"], answer["expires_in"]) == ("bearer", 5_183_944)
        second = answer["access_token"]
        assert second != first
        clock.advance(59 * DAY)
        assert error_of(get(server, "me")) == (190, 463)
        assert error_of(refresh(server, first)) == (190, 463)
        assert requests.get(f"{server.url}/v26.0/me", params={"access_token": second}, timeout=10).status_code == 200
        assert error_of(refresh(server, second, grant_type="ig_exchange_token"))[0] == 100
        assert refresh(server, second).status_code == 200


def test_a_page_token_neither_ends_nor_is_refreshed(
    app: InstagramApp, clock: StandingClock, server: SandboxServer
) -> None:
    clock.advance(400 * DAY)
    assert get(server, "me").status_code == 200
    assert error_of(refresh(server, app.access_token))[0] == 100


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_text_of_1000_bytes_is_taken_and_of_more_refused(server: SandboxServer, mia: str) -> None:
    assert send(server, {"id": mia}, message={"text": "é" * 500}).status_code == 200
    assert error_of(send(server, {"id": mia}, message={"text": "é" * 501}))[0] == 100


def test_the_window_is_24_hours_and_7_days_for_a_human_agent(
    clock: StandingClock, server: SandboxServer, mia: str
) -> None:
    human: dict[str, Any] = {"messaging_type": "MESSAGE_TAG", "tag": "HUMAN_AGENT", "message": {"text": "Hi"}}
    clock.advance(DAY + 1)
    assert error_of(send(server, {"id": mia}, message={"text": "Hi"})) == (10, 2534022)
    assert send(server, {"id": mia}, **human).status_code == 200
    clock.advance(6 * DAY)
    assert error_of(send(server, {"id": mia}, **human)) == (10, 2534022)


def test_a_comment_opens_no_chat_and_allows_one_private_reply_within_seven_days(
    app: InstagramApp, clock: StandingClock, server: SandboxServer
) -> None:
    noor = app.add_person("Noor", "noor.h")
    first, second = app.comment(noor, "How much?"), app.comment(noor, "And in red?")
    assert error_of(send(server, {"id": noor}, message={"text": "12 euros"})) == (10, 2534022)
    assert send(server, {"comment_id": first}, message={"text": "12 euros"}).json()["recipient_id"] == noor
    assert error_of(send(server, {"comment_id": first}, message={"text": "again"})) == (10, 2534025)
    clock.advance(7 * DAY + 1)
    assert error_of(send(server, {"comment_id": second}, message={"text": "13 euros"})) == (10, 2534025)


@pytest.mark.parametrize(
    ("recipient", "body", "expected"),
    [({}, {"message": {"text": "x"}}, (100, None)), ({"id": "1"}, {"message": {"text": "x"}}, (100, 2534014)),
     ({"comment_id": "1"}, {"message": {"text": "x"}}, (100, 2534014)), ({"id": "1"}, {}, (100, None)),
     ({"id": "1"}, {"message": {"text": "x", "attachment": {}}}, (100, 2534014)),
     ({"id": "1"}, {"messaging_type": "MESSAGE_TAG", "tag": "ACCOUNT_UPDATE", "message": {"text": "x"}}, (100, None))],
)  # fmt: skip
def test_it_refuses(server: SandboxServer, recipient: dict[str, str], body: dict[str, Any], expected: Any) -> None:
    assert error_of(send(server, recipient, **body)) == expected


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_is_taken_by_the_receiver_and_its_settings_fit(
    app: InstagramApp, server: SandboxServer, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = app.environment(server.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    route = WebhookRoute(instagram, instagram.Settings())
    with running_receiver(stores, {("instagram", "default"): route}) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.play()
        app.flush()
        account = app.deliverer.account()
        deliveries = receiver.stored.read("instagram", "default", 0, 100)
        app.stop()
    assert (account["dropped"], account["waiting"]) == (1, 0)
    assert account["accepted"] == account["events"] - 1
    kinds = [item.kind for one in deliveries for item in instagram.split(one.body)]
    assert {"message", "message_echo", "message_edit", "message_deleted", "reaction", "comment"} <= set(kinds)
    config = tap_config_from_environment(TapInstagram.name, TapInstagram.settings_model, environment)
    assert TapInstagram(config=config).settings.reconciles


def test_the_scene_tells_what_was_heard_without_what_was_taken_back(app: InstagramApp) -> None:
    app.play()
    heard = app.heard()
    words = [one for _, one, _ in heard if one]
    assert "It is for my mother" in words
    assert "How much is the blue one?" in words
    assert not [one for one in words if "door code" in one or "It is for my mothr" in one]
    assert [one for _, one, _ in heard].count(None) == 3  # a picture, a story, and what was taken back
    assert {channel for channel, _, _ in heard} == {"instagram"}
    assert [at for _, _, at in heard] == sorted(at for _, _, at in heard)


def test_a_callback_that_does_not_answer_is_not_connected(app: InstagramApp, inbox: Inbox) -> None:
    inbox.verify_token = "another"
    with pytest.raises(ConnectionError):
        app.connect(inbox.url.removesuffix("/webhook"))


# -- independent judges ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_sdk_of_meta_lists_conversations_by_its_own_names_and_cursors(
    app: InstagramApp, clock: StandingClock, server: SandboxServer, judge: Judge
) -> None:
    people = [app.add_person(f"Person {number}", f"person.{number}", in_requests=number == 4) for number in range(5)]
    for igsid in people:
        clock.advance(60)
        app.text(igsid, "Hello")
    app.reading.capacity = 100
    clock.advance(100)
    app.require_proof = True
    work = {
        "url": server.url, "token": app.access_token, "app_secret": app.app_secret, "page": app.page_id,
        "platform": "INSTAGRAM", "fields": ["id", "updated_time", "folder"], "limit": 2,
    }  # fmt: skip
    (found,) = judge("instagram_client.py", work)
    assert found["unknown_fields"] == []
    assert [one["id"] for one in found["threads"]] == [app.people[igsid].conversation for igsid in reversed(people)]
    assert [one["folder"] for one in found["threads"]] == ["pending", "inbox", "inbox", "inbox", "inbox"]


@pytest.mark.slow
def test_the_sdk_of_meta_reads_messages_and_profiles_and_understands_refusals(
    app: InstagramApp, server: SandboxServer, mia: str, judge: Judge
) -> None:
    app.reading.capacity = 100
    noor = app.add_person("Noor", "noor.h")
    calls = [
        {"method": "GET", "path": [app.people[mia].conversation], "params": {"fields": "messages{message,from}"}},
        {"method": "GET", "path": [mia], "params": {"fields": "username"}},
        {"method": "GET", "path": [noor], "params": {"fields": "username"}},
        {"method": "GET", "path": ["me", "subscribed_apps"]},
    ]
    work = {"url": server.url, "token": app.access_token, "app_secret": app.app_secret, "calls": calls}
    thread, profile, no_consent, subscriptions = judge("facebook_client.py", work)
    assert thread["ok"]["messages"]["data"][0]["from"]["username"] == "mia.rossi"
    assert profile["ok"]["username"] == "mia.rossi"
    assert (no_consent["code"], no_consent["type"]) == (230, "OAuthException")
    assert "comments" in subscriptions["ok"]["data"][0]["subscribed_fields"]
    (wrong,) = judge("facebook_client.py", {**work, "token": "wrong", "calls": calls[:1]})
    assert wrong["code"] == 190


@pytest.mark.slow
def test_pywa_and_our_receiver_agree_on_every_signature(
    app: InstagramApp, inbox: Inbox, mia: str, judge: Judge
) -> None:
    app.text(mia, "Grüße / 你好 🎁")
    app.comment(mia, "How much?")
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    posts = [
        {"body": body.decode("latin-1"), "signature": headers["X-Hub-Signature-256"]} for headers, body in inbox.posts
    ]
    assert len(posts) == 3
    verdicts = judge("meta_signatures.py", {"app_secret": app.app_secret, "posts": posts})
    assert verdicts == [{"good": True, "tampered": False, "other_secret": False}] * 3
    settings = instagram.Settings.model_validate({"app_secret": app.app_secret, "verify_token": "x"})
    for headers, body in inbox.posts:
        lower = {name.lower(): value for name, value in headers.items()}
        instagram.verify(settings, WebhookRequest(headers=lower, body=body))


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in InstagramApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in InstagramApp.rules)
    assert {rule.judge for rule in InstagramApp.rules} == {"pywa", "facebook-business", None}


def test_the_page_names_every_action_and_every_option() -> None:
    page = (ROOT / "sandbox" / "instagram.md").read_text()
    options = set(inspect.signature(InstagramApp.__init__).parameters) - {"self", "more"}
    assert sorted(name for name in {*InstagramApp.actions, *options} if f"`{name}`" not in page) == []
