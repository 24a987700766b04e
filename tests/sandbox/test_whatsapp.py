"""The stand-in of WhatsApp: what it refuses, what it tells, what it counts; judged by pywa where pywa can see it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.whatsapp import WhatsAppApp
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

Judge = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
ANA, BSUID = "+1 202 555 0101", "US.13491208655302741918"


@pytest.fixture
def app(clock: StandingClock) -> Iterator[WhatsAppApp]:
    app = WhatsAppApp(retry_seconds=(0.01, 0.02))
    app.clock = clock
    yield app
    app.stop_delivery()


@pytest.fixture
def server(app: WhatsAppApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


def send(server: SandboxServer, token: str = "sandbox-access-token", **body: Any) -> requests.Response:
    assert isinstance(server.app, WhatsAppApp)
    url = f"{server.url}/v23.0/{server.app.phone_number_id}/messages"
    body = {"messaging_product": "whatsapp", **body}
    return requests.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=10)


def send_text(server: SandboxServer, text: str = "Hello", to: str = ANA, **more: Any) -> requests.Response:
    return send(server, to=to, type="text", text={"body": text}, **more)


def code_of(response: requests.Response) -> int:
    assert response.status_code >= 400, response.text
    return int(response.json()["error"]["code"])


def statuses(app: WhatsAppApp, inbox: Inbox, url: str | None = None) -> list[dict[str, Any]]:
    """The statuses that arrived."""
    app.start_delivery(url or inbox.url)
    app.deliverer.flush()
    values = [change["value"] for body in inbox.bodies() for entry in body["entry"] for change in entry["changes"]]
    return [status for value in values for status in value.get("statuses", ())]


def signed(app: WhatsAppApp, inbox: Inbox) -> dict[str, Any]:
    """What arrived, as work for the judge of webhooks."""
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    posts = [{"body": body.decode(), "signature": headers["X-Hub-Signature-256"]} for headers, body in inbox.posts]
    return {"app_secret": app.app_secret, "posts": posts}


# -- the webhook -------------------------------------------------------------------------------------------------------


def test_a_webhook_is_signed_over_the_escaped_bytes(app: WhatsAppApp, inbox: Inbox) -> None:
    app.start_delivery(inbox.url)
    app.text(app.add_customer("Ana", ANA), "Grüße / 你好")
    app.deliverer.flush()
    ((headers, body),) = inbox.posts
    right = hmac.new(app.app_secret.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Hub-Signature-256"] == f"sha256={right}"
    assert b"Gr\\u00fc\\u00dfe \\/ \\u4f60\\u597d" in body


def test_a_webhook_that_was_refused_comes_again_until_it_is_accepted(app: WhatsAppApp, inbox: Inbox) -> None:
    inbox.answers = [500, 503, 404]
    app.start_delivery(inbox.url)
    wamid = app.text(app.add_customer("Ana", ANA), "Hello")
    app.deliverer.flush()
    (said,) = app.state()["customer_messages"]
    assert (said["id"], said["attempts"], said["accepted"]) == (wamid, 4, 1)
    assert len(inbox.posts) == 1


def test_webhooks_wait_for_a_callback_that_is_not_there(app: WhatsAppApp, inbox: Inbox) -> None:
    app.start_delivery("http://127.0.0.1:9/webhook")
    app.text(app.add_customer("Ana", ANA), "Hello")
    with pytest.raises(TimeoutError, match="1 webhook post"):
        app.deliverer.flush(0.2)
    app.stop_delivery()
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    assert len(inbox.posts) == 1


def test_a_dropped_webhook_is_never_posted_and_the_platform_knows(app: WhatsAppApp, inbox: Inbox) -> None:
    app.start_delivery(inbox.url)
    app.text(app.add_customer("Ana", ANA), "lost", delivery=Delivery(drop=True))
    app.deliverer.flush()
    (said,) = app.state()["customer_messages"]
    assert (said["text"], said["dropped"], said["accepted"]) == ("lost", True, 0)
    assert inbox.posts == []


def test_a_duplicated_webhook_is_posted_again_with_the_same_bytes(app: WhatsAppApp, inbox: Inbox) -> None:
    app.start_delivery(inbox.url)
    app.text(app.add_customer("Ana", ANA), "twice", delivery=Delivery(duplicate=1))
    app.deliverer.flush()
    assert len(inbox.posts) == 2
    assert inbox.posts[0][1] == inbox.posts[1][1]
    assert app.state()["customer_messages"][0]["accepted"] == 2


def test_a_delayed_webhook_is_overtaken(app: WhatsAppApp, inbox: Inbox) -> None:
    ana = app.add_customer("Ana", ANA)
    app.text(ana, "first", delivery=Delivery(delay_seconds=0.3))
    app.text(ana, "second")
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    arrived = [body["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"] for body in inbox.bodies()]
    assert arrived == ["second", "first"]


def test_events_held_back_come_in_one_post_with_several_of_everything(
    app: WhatsAppApp, server: SandboxServer, inbox: Inbox
) -> None:
    ana, ben = app.add_customer("Ana", ANA, BSUID), app.add_customer("Ben", "+12025550102", "US.2")
    app.start_delivery(inbox.url)
    app.deliverer.hold()
    app.text(ana, "one")
    app.text(ben, "two")
    send_text(server)
    assert app.deliverer.release() == 4
    app.deliverer.flush()
    (body,) = inbox.bodies()
    changes = [change for entry in body["entry"] for change in entry["changes"]]
    assert (len(body["entry"]), len(changes)) == (2, 3)
    assert [one["text"]["body"] for one in changes[0]["value"]["messages"]] == ["one", "two"]
    assert [one["wa_id"] for one in changes[0]["value"]["contacts"]] == ["12025550101", "12025550102"]


def test_events_held_back_come_newest_first_when_asked(app: WhatsAppApp, inbox: Inbox) -> None:
    ana = app.add_customer("Ana", ANA)
    app.deliverer.hold()
    for word in ("one", "two", "three"):
        app.text(ana, word)
    app.deliverer.release(reverse=True, together=False)
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    said = [body["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"] for body in inbox.bodies()]
    assert said == ["three", "two", "one"]


@pytest.mark.parametrize(("token", "status"), [("sandbox-verify-token", 200), ("another", 400)])
def test_a_callback_is_subscribed_only_when_it_answers_the_challenge(
    server: SandboxServer, inbox: Inbox, token: str, status: int
) -> None:
    inbox.verify_token = token
    answer = requests.post(f"{server.url}/_sandbox/subscribe", json={"url": inbox.url}, timeout=10)
    assert answer.status_code == status


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_send_in_the_window_is_accepted_sent_and_delivered_with_our_token(
    app: WhatsAppApp, server: SandboxServer, inbox: Inbox
) -> None:
    app.text(app.add_customer("Ana", ANA, BSUID), "Hello")
    answer = send_text(server, biz_opaque_callback_data="t0ken").json()
    (contact,), (message,) = answer["contacts"], answer["messages"]
    assert contact == {"input": ANA, "wa_id": "12025550101"}
    told = statuses(app, inbox)
    assert [(one["id"], one["status"]) for one in told] == [(message["id"], "sent"), (message["id"], "delivered")]
    assert {one["biz_opaque_callback_data"] for one in told} == {"t0ken"}
    assert {(one["recipient_id"], one["recipient_user_id"]) for one in told} == {("12025550101", BSUID)}


def test_a_wamid_is_base64_and_unique_and_holds_the_number_as_real_ones_do(
    app: WhatsAppApp, server: SandboxServer
) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    ids = {send_text(server).json()["messages"][0]["id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(b"12025550101" in base64.b64decode(one.removeprefix("wamid."), validate=True) for one in ids)


def test_outside_the_window_a_text_is_accepted_and_then_fails(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer, inbox: Inbox
) -> None:
    app.text(app.add_customer("Ana", ANA, BSUID), "Hello", delivery=Delivery(drop=True))
    clock.advance(86_400)
    assert send_text(server, "still open").status_code == 200
    clock.advance(1)
    assert send_text(server, "too late").status_code == 200
    failed = statuses(app, inbox)[-1]
    assert (failed["status"], failed["errors"][0]["code"]) == ("failed", 131047)
    assert "recipient_user_id" not in failed
    assert "contacts" not in inbox.bodies()[-1]["entry"][0]["changes"][0]["value"]
    assert app.state()["sent"][-1]["times_seen"] == 0


def test_outside_the_window_a_template_is_delivered(app: WhatsAppApp, server: SandboxServer) -> None:
    app.add_customer("Ana", ANA)
    answer = send(server, to=ANA, **template("order_update", "en", "Ana", "17"))
    assert answer.json()["messages"][0]["message_status"] == "accepted"
    sent = app.state()["sent"][0]
    assert (sent["text"], sent["status"]) == ("Hello Ana, your order 17 is on its way.", "delivered")


def test_a_failure_is_answered_at_once_when_asked(app: WhatsAppApp, server: SandboxServer) -> None:
    app.reject_at_once = True
    assert code_of(send_text(server)) == 131026
    app.add_customer("Ana", ANA)
    assert code_of(send_text(server)) == 131047
    assert app.state()["sent"] == []


def test_a_provoked_failure_comes_as_a_failed_status_once(
    app: WhatsAppApp, server: SandboxServer, inbox: Inbox
) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    app.fail_next(131049)
    send_text(server, "one")
    send_text(server, "two")
    told = [(one["status"], one.get("errors", [{}])[0].get("code")) for one in statuses(app, inbox)]
    assert told == [("failed", 131049), ("sent", None), ("delivered", None)]


def test_statuses_come_in_the_wrong_order_when_asked(app: WhatsAppApp, server: SandboxServer, inbox: Inbox) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    app.status_delays["read"] = 0.0
    app.statuses_reversed = True
    send_text(server)
    assert [one["status"] for one in statuses(app, inbox)] == ["read", "delivered", "sent"]


def test_a_customer_reads_each_message_once(app: WhatsAppApp, server: SandboxServer) -> None:
    ana = app.add_customer("Ana", ANA)
    app.text(ana, "Hello")
    send_text(server)
    assert (app.read(ana), app.read(ana)) == (1, 0)


def template(name: str, language: str = "en", *values: str) -> dict[str, Any]:
    parameters = [{"type": "text", "text": value} for value in values]
    components = [{"type": "body", "parameters": parameters}] if values else []
    return {"type": "template", "template": {"name": name, "language": {"code": language}, "components": components}}


def image(**parts: Any) -> dict[str, Any]:
    return {"type": "image", "image": parts}


REPLIES = [{"type": "reply", "reply": {"id": str(number), "title": "x"}} for number in range(4)]
BUTTONS = {"type": "button", "body": {"text": "x"}, "action": {"buttons": REPLIES}}
WRONG: dict[str, tuple[int, dict[str, Any]]] = {
    "no messaging_product": (100, {"messaging_product": None, "text": {"body": "x"}}),
    "no receiver": (100, {"to": None, "text": {"body": "x"}}),
    "a group": (100, {"recipient_type": "group", "text": {"body": "x"}}),
    "an unknown type": (100, {"type": "telegram", "telegram": {}}),
    "a type without its part": (131008, {"type": "image", "text": {"body": "x"}}),
    "an empty text": (100, {"text": {"body": ""}}),
    "a text of 4097 characters": (100, {"text": {"body": "x" * 4097}}),
    "a caption of 1025 characters": (100, image(link="https://x.example/a", caption="x" * 1025)),
    "an image with neither id nor link": (131009, image()),
    "an unknown media id": (131053, image(id="1")),
    "a reaction to nothing": (131009, {"type": "reaction", "reaction": {"message_id": "wamid.none", "emoji": "👍"}}),
    "a quote of nothing": (131009, {"text": {"body": "x"}, "context": {"message_id": "wamid.none"}}),
    "a token of 513 characters": (100, {"text": {"body": "x"}, "biz_opaque_callback_data": "x" * 513}),
    "a location without a place": (131008, {"type": "location", "location": {"latitude": 1}}),
    "a template that is unknown": (132001, template("none")),
    "a template in another language": (132001, template("hello_world", "de")),
    "a template in review": (132001, template("not_yet")),
    "a template without its parameters": (132000, template("order_update")),
    "four buttons": (131009, {"type": "interactive", "interactive": BUTTONS}),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_refuses(app: WhatsAppApp, server: SandboxServer, name: str) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    code, body = WRONG[name]
    assert code_of(send(server, **{"to": ANA, "type": "text", **body})) == code
    assert app.state()["sent"] == []


def test_it_takes_a_text_of_4096_characters(app: WhatsAppApp, server: SandboxServer) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    assert send_text(server, "x" * 4096).status_code == 200


def test_a_wrong_token_and_no_token_are_refused(app: WhatsAppApp, server: SandboxServer) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    assert (code_of(send_text(server, token="wrong")), code_of(send_text(server, token=""))) == (190, 104)


def test_more_than_45_messages_at_once_to_one_customer_are_refused_and_one_more_goes_after_6_seconds(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer
) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    for _ in range(45):
        app.pair_rate.take("customer-1", clock.epoch())
    assert code_of(send_text(server)) == 131056
    clock.advance(6)
    assert send_text(server).status_code == 200
    assert code_of(send_text(server)) == 131056


def test_more_than_80_messages_in_a_second_are_refused(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer
) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    for _ in range(80):
        app.throughput.take("", clock.epoch())
    assert code_of(send_text(server)) == 130429
    clock.advance(1)
    assert send_text(server).status_code == 200


def test_a_customer_who_stopped_marketing_gets_none_until_resumed(app: WhatsAppApp, server: SandboxServer) -> None:
    app.reject_at_once = True
    ana = app.add_customer("Ana", ANA)
    app.stop_marketing(ana)
    assert code_of(send(server, to=ANA, **template("spring_sale", "en", "Ana"))) == 131050
    app.resume_marketing(ana)
    assert send(server, to=ANA, **template("spring_sale", "en", "Ana")).status_code == 200


def test_the_same_reply_sent_twice_is_counted_as_seen_twice(app: WhatsAppApp, server: SandboxServer) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    send_text(server, "once", biz_opaque_callback_data="one")
    send_text(server, "twice", biz_opaque_callback_data="two")
    send_text(server, "twice", biz_opaque_callback_data="two")
    assert [sent["times_seen"] for sent in app.state()["sent"]] == [1, 2, 2]


def test_a_fault_after_the_work_hides_a_message_that_the_customer_got(app: WhatsAppApp, server: SandboxServer) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    fault = {"path": "/messages", "status": 500, "when": "after"}
    requests.post(f"{server.url}/_sandbox/faults", json=fault, timeout=10)
    assert send_text(server).status_code == 500
    assert [sent["status"] for sent in app.state()["sent"]] == ["delivered"]


def test_answers_carry_the_usage_headers(app: WhatsAppApp, server: SandboxServer) -> None:
    app.text(app.add_customer("Ana", ANA), "Hello")
    assert "call_count" in send_text(server).headers["X-App-Usage"]


def test_another_form_of_the_number_reaches_the_customer_and_the_answer_has_the_true_one(
    app: WhatsAppApp, server: SandboxServer
) -> None:
    app.text(app.add_customer("Bia", "+55 11 5550 0101", aliases=["+55 11 9 5550 0101"]), "Oi")
    answer = send_text(server, to="+5511955500101").json()
    assert answer["contacts"][0]["wa_id"] == "551155500101"


def test_a_received_message_is_marked_as_read(app: WhatsAppApp, server: SandboxServer) -> None:
    wamid = app.text(app.add_customer("Ana", ANA), "Hello")
    assert send(server, status="read", message_id=wamid, typing_indicator={"type": "text"}).json() == {"success": True}
    assert app.state()["read_by_business"] == [wamid]
    assert code_of(send(server, status="read", message_id="wamid.none")) == 131009


# -- media -------------------------------------------------------------------------------------------------------------


def test_a_media_url_wants_the_token_and_dies_after_five_minutes(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer
) -> None:
    app.media(app.add_customer("Ana", ANA), "image", data=b"picture", caption="look")
    media_id = next(iter(app.media_files))
    headers = {"Authorization": f"Bearer {app.access_token}"}
    url = requests.get(f"{server.url}/v23.0/{media_id}", headers=headers, timeout=10).json()["url"]
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers=headers, timeout=10).content == b"picture"
    clock.advance(301)
    assert requests.get(url, headers=headers, timeout=10).status_code == 404


@pytest.mark.parametrize(("by", "days"), [("customer", 7), ("business", 30)])
def test_media_are_gone_after_their_days(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer, by: str, days: int
) -> None:
    media_id = app._store(b"x", "image/png", None, by)
    url, headers = f"{server.url}/v23.0/{media_id}", {"Authorization": f"Bearer {app.access_token}"}
    clock.advance(days * 86_400)
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    clock.advance(1)
    assert code_of(requests.get(url, headers=headers, timeout=10)) == 100


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def test_a_customer_can_be_played_over_http(server: SandboxServer, inbox: Inbox) -> None:
    def post(path: str, **body: Any) -> Any:
        answer = requests.post(f"{server.url}/_sandbox/{path}", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    post("subscribe", url=inbox.url)
    ana = post("customers", name="Ana", phone=ANA, user_id=BSUID)["customer"]
    wamid = post("act", customer=ana, action="text", text="Hello", delivery={"duplicate": 1})["id"]
    assert post("flush")["accepted_posts"] == 2
    (said,) = requests.get(f"{server.url}/_sandbox/state", timeout=10).json()["customer_messages"]
    assert (said["id"], said["accepted"]) == (wamid, 2)


@pytest.mark.parametrize(
    "body", [{"customer": "customer-1", "action": "fly"}, {"customer": "nobody", "action": "text", "text": "x"}]
)
def test_what_cannot_be_played_is_refused(server: SandboxServer, body: dict[str, Any]) -> None:
    assert requests.post(f"{server.url}/_sandbox/act", json=body, timeout=10).status_code == 400


# -- pywa as a sender --------------------------------------------------------------------------------------------------


def by_pywa(
    app: WhatsAppApp,
    server: SandboxServer,
    judge: Judge,
    *calls: tuple[str, dict[str, Any]],
    token: str = "sandbox-access-token",
) -> list[dict[str, Any]]:
    work = [{"call": call, "arguments": arguments} for call, arguments in calls]
    where = {"url": server.url, "phone_number_id": app.phone_number_id, "token": token}
    return judge("pywa_client.py", {**where, "calls": work})


def test_pywa_sends_and_understands_every_answer(app: WhatsAppApp, server: SandboxServer, judge: Judge) -> None:
    ana = app.add_customer("Ana", "12025550101", BSUID)
    wamid = app.text(ana, "Hello")
    picture = app._store(b"picture", "image/png", None, "customer")
    body = {"type": "body", "parameters": [{"type": "text", "text": "Ana"}, {"type": "text", "text": "17"}]}
    to = {"to": "12025550101"}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("send_message", {**to, "text": "hi", "tracker": "t", "reply_to_message_id": wamid}),
        ("send_message", {"to": BSUID, "text": "hi"}),
        ("send_message", {**to, "text": "pick", "buttons": [["Yes", "y"], ["No", "n"]]}),
        ("send_image", {**to, "image": "https://media.example/a.png", "caption": "c"}),
        ("send_image", {**to, "image": picture}),
        ("send_document", {**to, "document": "https://media.example/a.pdf", "filename": "a.pdf"}),
        ("send_reaction", {**to, "emoji": "👍", "message_id": wamid}),
        ("send_location", {**to, "latitude": 1.0, "longitude": 2.0}),
        ("send_template", {**to, "name": "order_update", "language": "en", "params": [body]}),
        ("mark_message_as_read", {"message_id": wamid}),
        ("indicate_typing", {"message_id": wamid}),
        ("media", {"media_id": picture}),
        ("upload_media", {"media": "text", "mime_type": "text/plain", "filename": "a.txt"}),
    ]
    results = by_pywa(app, server, judge, *calls)
    assert [result for result in results if "ok" not in result] == []
    ids = [result["ok"]["id"] for result in results[:9]]
    assert ids == [sent["id"] for sent in app.state()["sent"]]
    assert [result["ok"]["to"] for result in results[:2]] == ["12025550101", BSUID]
    assert results[11]["ok"] == {"mime_type": "image/png", "size": "7", "right": True}
    assert app.media_files[results[12]["ok"]["id"]].data == b"text"


def test_pywa_names_every_error_as_we_mean_it(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer, judge: Judge
) -> None:
    app.reject_at_once = True
    app.text(app.add_customer("Ana", "12025550101", BSUID), "Hello")
    app.add_customer("Ben", "12025550102")
    app.stop_marketing(app.add_customer("Cleo", "12025550103"))
    busy = app.add_customer("Dan", "12025550104")
    for _ in range(45):
        app.pair_rate.take(busy, clock.epoch())
    for _ in range(80 - 4):  # of the calls below, four get as far as this budget
        app.throughput.take("", clock.epoch())
    body = {"type": "body", "parameters": [{"type": "text", "text": "x"}]}
    sale = {"name": "spring_sale", "language": "en", "params": [body]}
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "ReEngagementMessage": ("send_message", {"to": "12025550102", "text": "x"}),
        "MessageUndeliverable": ("send_message", {"to": "12025550109", "text": "x"}),
        "TooManyMessages": ("send_message", {"to": "12025550104", "text": "x"}),
        "UserStoppedMarketingMessages": ("send_template", {"to": "12025550103", **sale}),
        "RateLimitHit": ("send_message", {"to": "12025550101", "text": "x"}),
        "TemplateNotExists": ("send_template", {"to": "12025550101", **sale, "name": "none"}),
        "TemplateParamCountMismatch": ("send_template", {"to": "12025550101", **sale, "params": []}),
        "BSUIDRecipientNotSupported": ("send_template", {"to": BSUID, **sale, "name": "login_code"}),
    }
    results = by_pywa(app, server, judge, *calls.values())
    assert [result.get("error") for result in results] == list(calls)


def test_pywa_names_a_wrong_token(app: WhatsAppApp, server: SandboxServer, judge: Judge) -> None:
    app.access_token = "another"
    (result,) = by_pywa(app, server, judge, ("send_message", {"to": "12025550101", "text": "x"}), token="wrong")
    assert (result["error"], result["status"]) == ("ExpiredAccessToken", 401)


# -- pywa as a receiver ------------------------------------------------------------------------------------------------


def test_pywa_accepts_our_signatures_and_refuses_tampered_and_unsigned_bodies(
    app: WhatsAppApp, inbox: Inbox, judge: Judge
) -> None:
    app.text(app.add_customer("Ana", ANA, BSUID), "Grüße / 你好")
    (verdict,) = judge("pywa_webhooks.py", signed(app, inbox))
    assert (verdict["good"], verdict["tampered"], verdict["unsigned"]) == (200, 403, 401)


def everything(app: WhatsAppApp, server: SandboxServer, **identity: Any) -> dict[str, str]:
    """A customer does all there is to do; the wamid of each deed."""
    app.coexistence = True
    ana = app.add_customer("Ana", **identity)
    done = {"text": app.text(ana, "Grüße / 你好")}
    receiver = {"to": identity["phone"]} if identity.get("phone") else {"recipient": identity["user_id"]}
    ours = send(server, **receiver, text={"body": "Hi"}, biz_opaque_callback_data="t0ken").json()["messages"][0]["id"]
    app.read(ana)
    item = {"product_retailer_id": "di9ozbzfi4", "quantity": 2, "item_price": 30, "currency": "USD"}
    done |= {
        "reply": app.text(ana, "to you", reply_to=ours),
        "image": app.media(ana, "image", caption="look"),
        "sticker": app.media(ana, "sticker", mime_type="image/webp"),
        "audio": app.media(ana, "audio", mime_type="audio/ogg; codecs=opus"),
        "document": app.media(ana, "document", mime_type="application/pdf", filename="a.pdf"),
        "location": app.location(ana, 37.44, -122.16, name="A café", address="1 Main St"),
        "contacts": app.contact_card(ana, "Lucía Gómez", "+1 202 555 0177"),
        "react": app.react(ana, ours),
        "unreact": app.unreact(ana, ours),
        "unreact without emoji": app.unreact(ana, ours, leave_out=True),
        "button reply": app.button_reply(ana, ours, "y", "Yes"),
        "list reply": app.list_reply(ana, ours, "express", "Express", description="Next day"),
        "template button": app.template_button(ana, ours, "Unsubscribe"),
        "order": app.order(ana, [item]),
        "unsupported": app.unsupported(ana),
        "product inquiry": app.product_inquiry(ana, "Still there?", "di9ozbzfi4"),
        "from ad": app.from_ad(ana, "More?"),
        "edit": app.edit(ana, done["text"], "Grüße!"),
        "revoke": app.revoke(ana, done["text"]),
        "echo": app.app_text(ana, "from the app"),
    }
    app.stop_marketing(ana)
    return done


MODELS = {
    "text": "Message", "reply": "Message", "image": "Message", "sticker": "Message", "audio": "Message",
    "document": "Message", "location": "Message", "contacts": "Message", "react": "Message", "unreact": "Message",
    "product inquiry": "Message", "unreact without emoji": "Message",
    "button reply": "CallbackButton", "list reply": "CallbackSelection",
    "template button": "CallbackButton", "order": "Message", "unsupported": "Message", "from ad": "Message",
    "edit": "EditedMessage", "revoke": "DeletedMessage", "echo": "OutgoingMessage",
}  # fmt: skip


@pytest.mark.parametrize(
    "identity",
    [{"phone": "12025550101", "user_id": BSUID}, {"user_id": BSUID, "username": "@ana"}],
    ids=["phone and user id", "user id alone"],
)
def test_pywa_models_everything_that_a_customer_does(
    app: WhatsAppApp, server: SandboxServer, inbox: Inbox, judge: Judge, identity: dict[str, str]
) -> None:
    done = everything(app, server, **identity)
    verdicts = judge("pywa_webhooks.py", signed(app, inbox))
    assert {(one["good"], one["tampered"], one["unsigned"]) for one in verdicts} == {(200, 403, 401)}
    updates = [update for verdict in verdicts for update in verdict["updates"]]
    assert [update for update in updates if "problem" in update or update["model"] is None] == []
    assert {(one["user_id"], one["wa_id"], one["name"]) for one in updates} == {(BSUID, identity.get("phone"), "Ana")}
    by_id = {update["id"]: update for update in updates if update["list"] in {"messages", "message_echoes"}}
    by_id[done["edit"]] = next(one for one in updates if one["model"] == "EditedMessage")
    assert {deed: by_id[wamid]["model"] for deed, wamid in done.items()} == MODELS
    assert by_id[done["text"]]["text"] == "Grüße / 你好"
    assert by_id[done["unreact"]]["reaction"][1] is None
    assert by_id[done["unreact without emoji"]]["reaction"][1] is None
    assert all(by_id[done[deed]].get("reply_to_message") for deed in ("reply", "button reply", "list reply"))
    assert all(by_id[done[deed]].get("media") for deed in ("image", "sticker", "audio", "document"))
    assert by_id[done["unsupported"]]["error"] == ["UnsupportedMessageType", 131051]
    assert by_id[done["from ad"]]["referral"]
    assert by_id[done["edit"]]["text"] == "Grüße!"
    assert by_id[done["revoke"]]["original_message_id"] == done["text"]
    told = [(one["status"], one["tracker"]) for one in updates if one["model"] == "MessageStatus"]
    assert told == [("sent", "t0ken"), ("delivered", "t0ken"), ("read", "t0ken")]
    assert [one["value"] for one in updates if one["list"] == "user_preferences"] == ["stop"]


def test_pywa_models_a_change_of_number_and_of_user_id(app: WhatsAppApp, inbox: Inbox, judge: Judge) -> None:
    ana = app.add_customer("Ana", "12025550101", BSUID)
    app.change_number(ana, "12025550111")
    app.change_user_id(ana, "US.2", phone="12025550112")
    updates = [update for verdict in judge("pywa_webhooks.py", signed(app, inbox)) for update in verdict["updates"]]
    changes = [update for update in updates if update["list"] == "messages"]
    assert [(one["model"], one["sys_type"]) for one in changes] == [
        ("PhoneNumberChange", "user_changed_number"), ("PhoneNumberChange", "user_changed_user_id"),
    ]  # fmt: skip
    assert [(one["old_wa_id"], one["new_wa_id"]) for one in changes] == [
        ("12025550101", "12025550111"), ("12025550111", "12025550112"),
    ]  # fmt: skip
    assert changes[1]["new_user_id"] == "US.2"


def test_pywa_cannot_model_the_phone_only_shape_nor_failed_statuses(
    app: WhatsAppApp, server: SandboxServer, inbox: Inbox, judge: Judge
) -> None:
    """Both are documented and pywa 4.5.0 wants more: contacts[].user_id, and contacts beside a failed status."""
    app.text(app.add_customer("Old", "12025550105"), "before April 2026")
    app.fail_next(131049)
    send_text(server, to="12025550105")
    updates = [update for verdict in judge("pywa_webhooks.py", signed(app, inbox)) for update in verdict["updates"]]
    assert [update.get("problem") for update in updates] == ["KeyError('user_id')", "KeyError('contacts')"]


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_a_hidden_number_is_absent_everywhere(app: WhatsAppApp, server: SandboxServer, inbox: Inbox) -> None:
    hidden = app.add_customer("Ana", ANA, BSUID, username="@ana", shows_phone=False)
    app.text(hidden, "Hello")
    send(server, recipient=BSUID, text={"body": "Hi"})
    app.change_user_id(hidden, "US.2")
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    visible = re.sub(rb"wamid\.[\w\\/+=]+", b"", b"".join(body for _, body in inbox.posts))
    assert b"12025550101" not in visible
    assert b'"wa_id"' not in visible
    assert b'"from"' not in visible


def test_without_coexistence_an_edit_arrives_as_unsupported(app: WhatsAppApp, inbox: Inbox) -> None:
    ana = app.add_customer("Ana", ANA)
    app.edit(ana, app.text(ana, "Hello"), "Hello!")
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    (message,) = inbox.bodies()[1]["entry"][0]["changes"][0]["value"]["messages"]
    assert (message["type"], message["errors"][0]["code"]) == ("unsupported", 131051)


@pytest.mark.parametrize(("action", "seconds"), [("edit", 15 * 60), ("revoke", 2 * 86_400)])
def test_an_edit_and_a_revoke_have_their_time(
    app: WhatsAppApp, clock: StandingClock, action: str, seconds: int
) -> None:
    app.coexistence = True
    ana = app.add_customer("Ana", ANA)
    wamid = app.text(ana, "Hello")
    clock.advance(seconds + 1)
    with pytest.raises(ValueError, match="a message can be"):
        getattr(app, action)(ana, wamid, *(["x"] if action == "edit" else []))


def test_a_new_user_id_is_told_with_the_old_one(app: WhatsAppApp, inbox: Inbox) -> None:
    ana = app.add_customer("Ana", ANA, BSUID)
    app.change_number(ana, "12025550111", user_id="US.2")
    app.start_delivery(inbox.url)
    app.deliverer.flush()
    update = inbox.bodies()[1]["entry"][0]["changes"][0]
    assert update["field"] == "user_id_update"
    assert update["value"]["user_id_update"][0]["user_id"] == {"previous": BSUID, "current": "US.2"}


def test_a_customer_without_a_user_id_has_none_to_change(app: WhatsAppApp) -> None:
    with pytest.raises(ValueError, match="none to change"):
        app.change_user_id(app.add_customer("Old", "12025550105"), "US.2")


def test_rates_do_not_suffer_from_a_clock_that_is_turned_back(
    app: WhatsAppApp, clock: StandingClock, server: SandboxServer
) -> None:
    ana = app.add_customer("Ana", ANA)
    send_text(server)
    clock.advance(-50 * 3_600)
    app.text(ana, "Hello")
    assert send_text(server).status_code == 200


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in WhatsAppApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in WhatsAppApp.rules)
    assert {rule.judge for rule in WhatsAppApp.rules} == {"pywa", "openapi", "facebook-business", None}


def test_the_page_names_every_action_and_every_option() -> None:
    page = (ROOT / "sandbox" / "whatsapp.md").read_text()
    options = set(inspect.signature(WhatsAppApp.__init__).parameters) - {"self", "more"}
    assert sorted(name for name in {*WhatsAppApp.actions, *options} if f"`{name}`" not in page) == []
