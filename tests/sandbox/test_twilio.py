"""The stand-in of Twilio: what it refuses, tells and counts; Twilio's own library and API document as judges."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from mappings.from_twilio import PLATFORM
from sandbox.base import SandboxServer
from sandbox.deliverer import Delivery
from sandbox.meta import TokenBucket
from sandbox.twilio import TwilioApp
from sandbox.twilio.account import Account
from stores.database import Stores
from taps.twilio import TapTwilio
from taps.webhooks import twilio
from taps.webhooks.receiver import WebhookRoute, build_routes
from tests.contract.webhook import running_receiver
from tests.judges.environment import ask_judge
from tests.sandbox.conftest import ROOT, Inbox, StandingClock

ADA, BEN = "+447700900123", "+12025550177"
SID, TOKEN = "AC0123456789abcdef0123456789abcdef", "sandbox-auth-token"
MESSAGES = f"/2010-04-01/Accounts/{SID}/Messages.json"
DAY = 86_400


@pytest.fixture
def app(clock: StandingClock) -> Iterator[TwilioApp]:
    app = TwilioApp()
    app.clock = clock
    yield app
    app.stop()


@pytest.fixture
def server(app: TwilioApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as server:
        app.public_url = server.url
        yield server


def get(server: SandboxServer, path: str = MESSAGES, **query: Any) -> requests.Response:
    return requests.get(server.url + path, params=query, auth=(SID, TOKEN), timeout=10)


def send(server: SandboxServer, **form: Any) -> requests.Response:
    whole = {"To": ADA, "From": "+12025550100", "Body": "Hi", **form}
    form = {name: value for name, value in whole.items() if value is not None}
    return requests.post(server.url + MESSAGES, data=form, auth=(SID, TOKEN), timeout=10)


def forms(inbox: Inbox) -> list[dict[str, str]]:
    return [dict(parse_qsl(body.decode(), keep_blank_values=True)) for _, body in inbox.posts]


# -- webhooks ----------------------------------------------------------------------------------------------------------


def test_a_message_is_posted_as_a_signed_form_without_a_time(app: TwilioApp, inbox: Inbox) -> None:
    app.connect(inbox.url)
    sid = app.text(ADA, "Grüße 😀 & 17+4=21")
    app.flush()
    (form,) = forms(inbox)
    assert (form["MessageSid"], form["From"], form["To"], form["Body"]) == (sid, ADA, app.number, "Grüße 😀 & 17+4=21")
    assert form["FromCity"] == ""
    assert not [name for name in form if "date" in name.lower() or "time" in name.lower()]


@pytest.mark.parametrize("options", [{}, {"sign_with_port": True}, {"shared_key": "the shared key"}])
def test_what_it_signs_our_receiver_takes(options: dict[str, Any], stores: Stores) -> None:
    app = TwilioApp(**options)
    settings = twilio.Settings.model_validate({"auth_token": TOKEN, "shared_key": options.get("shared_key")})
    with running_receiver(stores, {("twilio", "default"): WebhookRoute(twilio, settings)}) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.text(ADA, "")
        app.picture(BEN, "look")
        app.flush()
        app.stop()
        assert [one["accepted"] for one in app.state()["customer_messages"]] == [1, 1]
        assert receiver.stored.count() == 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"sign_with_port": True}, {"shared_key": "the shared key"}])
def test_what_it_signs_twilios_library_takes(options: dict[str, Any], inbox: Inbox) -> None:
    app = TwilioApp(**options)
    app.told_after = {}
    app.connect(inbox.url)
    app.text(ADA, "Grüße 😀")
    app.text(ADA, "")
    app.send(ADA, app.number, "Hi", callback=f"{inbox.url}/status?reply=1")
    app.set_status(next(one for one in app.messages.values() if not one.inbound), "sent")
    app.flush()
    app.stop()
    cases = [
        {"secret": options.get("shared_key", TOKEN), "signature": headers["X-Twilio-Signature"],
         "url": f"{inbox.url}/status?reply=1" if b"MessageStatus" in body else app.webhook_url,
         "parameters": parse_qsl(body.decode(), keep_blank_values=True),
         "algorithm": headers.get("X-Twilio-Webhooks-Signature-Settings", "HMAC_SHA1").rpartition("=")[2]}
        for headers, body in inbox.posts
    ]  # fmt: skip
    assert len(cases) == 3
    assert [one["valid"] for one in ask_judge("twilio", "twilio_signatures.py", {"cases": cases})] == [True] * 3


def test_a_webhook_that_was_not_taken_is_lost_unless_the_address_asks_for_retries(inbox: Inbox) -> None:
    for retries, accepted in ((0, 0), (1, 1)):
        app = TwilioApp(retries=retries)
        inbox.answers = [503]
        inbox.posts.clear()
        app.connect(inbox.url)
        app.text(ADA, "once")
        app.flush()
        app.stop()
        (row,) = app.state()["customer_messages"]
        assert (row["accepted"], len(inbox.posts)) == (accepted, accepted)
        assert app.state()["webhooks"]["given_up"] == 1 - accepted


def test_a_repeat_has_the_same_token(app: TwilioApp, inbox: Inbox) -> None:
    app.connect(inbox.url)
    app.text(ADA, "one", delivery=Delivery(duplicate=1))
    app.text(ADA, "one")
    app.flush()
    tokens = [headers["I-Twilio-Idempotency-Token"] for headers, _ in inbox.posts]
    assert (len(tokens), len(set(tokens))) == (3, 2)


def test_nobody_is_told_before_there_is_an_address(app: TwilioApp, inbox: Inbox) -> None:
    app.text(ADA, "to nobody")
    app.connect(inbox.url)
    app.flush()
    assert inbox.posts == []
    assert [row["dropped"] for row in app.state()["customer_messages"]] == [True]


def test_statuses_go_to_the_address_of_the_message_and_the_first_to_nobody(
    app: TwilioApp, server: SandboxServer, inbox: Inbox
) -> None:
    app.connect(inbox.url)
    answer = send(server, StatusCallback=f"{inbox.url}/status").json()
    app.fail(answer["sid"], 30003)
    app.flush()
    told = [(form["MessageStatus"], form.get("ErrorCode")) for form in forms(inbox)]
    assert answer["status"] == "queued"
    assert told == [("sent", None), ("delivered", None), ("undelivered", "30003")]


# -- the list ----------------------------------------------------------------------------------------------------------


def test_the_list_has_both_directions_the_newest_first(
    app: TwilioApp, server: SandboxServer, clock: StandingClock
) -> None:
    app.text(ADA, "question")
    clock.advance(5)
    app.staff_text(ADA, "answer")
    rows = get(server).json()["messages"]
    assert [(row["direction"], row["body"], row["status"]) for row in rows] == [
        ("outbound-api", "answer", "delivered"), ("inbound", "question", "received"),
    ]  # fmt: skip
    assert (rows[1]["from"], rows[1]["to"]) == (ADA, app.number)


def test_the_list_is_paged_by_its_own_addresses(app: TwilioApp, server: SandboxServer, clock: StandingClock) -> None:
    written = []
    for number in range(5):
        clock.advance(1)
        written.append(app.text(ADA, str(number)))
    listed: list[str] = []
    path: Any = f"{MESSAGES}?PageSize=2"
    while path:
        page = get(server, path).json()
        listed += [row["sid"] for row in page["messages"]]
        path = page["next_page_uri"]
        clock.advance(1)
        app.text(BEN, "meanwhile")
    assert listed == list(reversed(written))


@pytest.mark.parametrize(
    ("query", "expected"),
    [({"DateSent>": "{today}"}, ["today"]), ({"DateSent<": "{yesterday}"}, ["yesterday"]),
     ({"DateSent": "{yesterday}"}, ["yesterday"]), ({"DateSent>": "{yesterday}"}, ["today", "yesterday"]),
     ({"DateSent>": "{today}T23:59:59Z"}, ["today"]), ({"From": BEN}, []), ({"From": ADA}, ["today", "yesterday"]),
     ({"To": "+12025550100"}, ["today", "yesterday"])],
)  # fmt: skip
def test_the_list_is_filtered_by_whole_days_and_parties(
    app: TwilioApp, server: SandboxServer, clock: StandingClock, query: dict[str, str], expected: list[str]
) -> None:
    days = {}
    for name in ("yesterday", "today"):
        app.text(ADA, name)
        days[name] = f"{datetime.fromtimestamp(clock.epoch(), UTC):%Y-%m-%d}"
        clock.advance(DAY)
    asked = {name: value.format(**days) for name, value in query.items()}
    assert [row["body"] for row in get(server, **asked).json()["messages"]] == expected


@pytest.mark.parametrize("query", [{"PageSize": 0}, {"PageSize": 1001}, {"PageSize": "x"}, {"DateSent": "tomorrow"},
                                   {"PageToken": "PAnone"}])  # fmt: skip
def test_a_wrong_filter_is_refused(app: TwilioApp, server: SandboxServer, query: dict[str, Any]) -> None:
    app.text(ADA, "hello")
    assert get(server, **query).json()["code"] == 20001


def test_media_want_the_password_and_lie_elsewhere(app: TwilioApp, server: SandboxServer) -> None:
    sid = app.picture(ADA, data=b"\x89PNG picture")
    (media,) = get(server, f"/2010-04-01/Accounts/{SID}/Messages/{sid}/Media.json").json()["media_list"]
    url = server.url + app.media_path(sid, media["sid"])
    assert requests.get(url, timeout=10).status_code == 401
    redirect = requests.get(url, auth=(SID, TOKEN), timeout=10, allow_redirects=False)
    assert redirect.status_code == 307
    assert requests.get(redirect.headers["Location"], timeout=10).content == b"\x89PNG picture"


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "path", "auth"),
    [(401, 20003, MESSAGES, None), (401, 20003, MESSAGES, (SID, "wrong")), (401, 20003, MESSAGES, ("", "")),
     (404, 20404, f"/2010-04-01/Accounts/AC{'9' * 32}/Messages.json", (SID, TOKEN)),
     (404, 20404, f"/2010-04-01/Accounts/{SID}/Messages/SM1.json", (SID, TOKEN)),
     (404, 20404, f"/2010-04-01/Accounts/{SID}/Nothing.json", (SID, TOKEN))],
)  # fmt: skip
def test_it_refuses_as_twilio_words_it(
    server: SandboxServer, status: int, code: int, path: str, auth: tuple[str, str] | None
) -> None:
    answer = requests.get(server.url + path, auth=auth, timeout=10)
    assert (answer.status_code, answer.json()["code"], answer.json()["status"]) == (status, code, status)


def test_too_many_requests_are_refused(app: TwilioApp, server: SandboxServer) -> None:
    app.calls = TokenBucket(1, 0)
    assert [get(server).status_code for _ in range(2)] == [200, 429]


WRONG: dict[str, tuple[int, dict[str, Any]]] = {
    "no receiver": (21604, {"To": None}),
    "a receiver that is no number": (21211, {"To": "Ada"}),
    "no sender": (21603, {"From": None}),
    "a sender that is not ours": (21606, {"From": "+12025550199"}),
    "nothing to say": (21602, {"Body": None}),
    "1601 characters": (21617, {"Body": "x" * 1601}),
    "11 files": (21623, {"MediaUrl": ["https://media.example/a.png"] * 11}),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_refuses_to_send(app: TwilioApp, server: SandboxServer, name: str) -> None:
    code, form = WRONG[name]
    answer = send(server, **form)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert app.state()["sent"] == []


@pytest.mark.parametrize("word", ["STOP", " stop ", "Cancel", "UNSUBSCRIBE"])
def test_who_said_stop_gets_nothing_until_start(app: TwilioApp, server: SandboxServer, word: str) -> None:
    app.text(ADA, word)
    assert send(server).json()["code"] == 21610
    assert send(server, To=BEN).status_code == 201
    app.text(ADA, "start")
    assert send(server).status_code == 201
    assert [row["customer"] for row in app.state()["answered"]] == [ADA, ADA]


def test_stop_in_a_sentence_stops_nothing(app: TwilioApp, server: SandboxServer) -> None:
    app.text(ADA, "please stop")
    assert send(server).status_code == 201


def test_advanced_opt_out_tells_what_it_understood(inbox: Inbox) -> None:
    app = TwilioApp(advanced_opt_out=True)
    app.connect(inbox.url)
    for word in ("STOP", "START", "HELP", "hello"):
        app.text(ADA, word)
    app.flush()
    app.stop()
    assert [form.get("OptOutType") for form in forms(inbox)] == ["STOP", "START", "HELP", None]


def test_whatsapp_takes_free_text_for_a_day(app: TwilioApp, server: SandboxServer, clock: StandingClock) -> None:
    whatsapp = {"To": f"whatsapp:{ADA}", "From": f"whatsapp:{app.number}"}
    app.text(f"whatsapp:{ADA}", "hello")
    for moment, status, error in ((DAY, "delivered", None), (1, "failed", 63016)):
        clock.advance(moment)
        sid = send(server, **whatsapp).json()["sid"]
        row = get(server, f"/2010-04-01/Accounts/{SID}/Messages/{sid}.json").json()
        assert (row["status"], row["error_code"]) == (status, error)


def test_a_message_read_on_whatsapp_is_told(app: TwilioApp, inbox: Inbox) -> None:
    app.connect(inbox.url)
    app.text(f"whatsapp:{ADA}", "hello")
    message = app.send(f"whatsapp:{ADA}", f"whatsapp:{app.number}", "hi", callback=inbox.url)
    app.read(message.sid)
    app.flush()
    assert forms(inbox)[-1]["MessageStatus"] == "read"


# -- the scene ---------------------------------------------------------------------------------------------------------


def test_the_scene_ends_with_every_message_on_our_side(
    app: TwilioApp, server: SandboxServer, stores: Stores, state_url: str, run_tap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in app.environment(server.url).items():
        monkeypatch.setenv(name, value)
    routes = {key: route for key, route in build_routes({"twilio": PLATFORM}).items() if key[0] == "twilio"}
    with running_receiver(stores, routes) as receiver:
        app.connect(f"http://127.0.0.1:{receiver.port}")
        app.play()
        app.flush()
        config = {"state_url": state_url, "account_sid": SID, "auth_token": TOKEN, "api_url": server.url}
        messages = run_tap(TapTwilio(config=config))
    records = [one["record"] for one in messages if one.get("stream") == "messages" and "record" in one]
    inbound = {one["message_key"]: one for one in records if one["direction"] == "inbound"}
    heard = app.heard()
    assert sorted(one["text"] for one in inbound.values()) == sorted(words for _, words, _ in heard if words)
    assert len(inbound) == len(heard) == 9
    state = app.state()
    assert [row["dropped"] for row in state["customer_messages"]].count(True) == 1
    assert [one["text"] for one in records if one["seen_by"] == "poll" and "five minutes" in (one["text"] or "")]
    consents = [one["record"] for one in messages if one.get("stream") == "consents" and "record" in one]
    assert {(one["purpose"], one["status"]) for one in consents} == {
        ("service", "opted_out"), ("promotional", "opted_out"),
    }  # fmt: skip


# -- Twilio's own library and document ---------------------------------------------------------------------------------


def work(server: SandboxServer, *calls: tuple[str, dict[str, Any]], token: str = TOKEN) -> list[dict[str, Any]]:
    listed = [{"call": call, "arguments": arguments} for call, arguments in calls]
    answers: list[dict[str, Any]] = ask_judge(
        "twilio",
        "twilio_client.py",
        {"url": server.url, "account_sid": SID, "password": [SID, token], "calls": listed},
    )
    return answers


@pytest.mark.slow
def test_twilios_library_sends_lists_and_reads(app: TwilioApp, server: SandboxServer, clock: StandingClock) -> None:
    written = []
    for number in range(5):
        clock.advance(1)
        written.append(app.text(ADA, f"text {number}"))
    picture = app.picture(BEN, "look")
    today = f"{datetime.fromtimestamp(clock.epoch(), UTC):%Y-%m-%d}T00:00:00+00:00"
    sent, listed, of_ben, one, media, numbers, account = work(
        server,
        ("send", {"to": ADA, "from_": app.number, "body": "Grüße", "status_callback": "https://hooks.example/s"}),
        ("list", {"from_": ADA, "date_sent_after": today, "page_size": 2}),
        ("list", {"from_": BEN}),
        ("fetch", {"sid": written[0]}),
        ("media", {"sid": picture}),
        ("numbers", {}),
        ("account", {}),
    )
    assert (sent["ok"]["status"], sent["ok"]["direction"], sent["ok"]["body"]) == ("queued", "outbound-api", "Grüße")
    assert [row["sid"] for row in listed["ok"]] == list(reversed(written))
    assert [(row["body"], row["num_media"]) for row in of_ben["ok"]] == [("look", "1")]
    at = datetime.fromisoformat(one["ok"]["date_sent"])
    assert (at.timestamp(), at.utcoffset()) == (int(app.messages[written[0]].at), UTC.utcoffset(None))
    assert [row["content_type"] for row in media["ok"]] == ["image/png"]
    assert numbers["ok"][0]["phone_number"] == app.number
    assert (account["ok"]["sid"], account["ok"]["status"]) == (SID, "active")


@pytest.mark.slow
def test_twilios_library_understands_our_refusals(app: TwilioApp, server: SandboxServer) -> None:
    app.text(BEN, "STOP")
    good = {"to": ADA, "from_": app.number, "body": "x"}
    calls = [
        {**good, "to": BEN},
        {**good, "to": "Ada"},
        {**good, "from_": "+12025550199"},
        {**good, "body": "x" * 1601},
    ]
    answers = work(server, *[("send", arguments) for arguments in calls], ("fetch", {"sid": f"SM{'0' * 32}"}))
    assert [one["code"] for one in answers] == [21610, 21211, 21606, 21617, 20404]
    assert [one["code"] for one in work(server, ("account", {}), token="wrong")] == [20003]
    app.calls = TokenBucket(0, 0)
    assert [(one["code"], one["status"]) for one in work(server, ("account", {}))] == [(20429, 429)]


@pytest.fixture
def document() -> Path:
    """The official API document, which the project does not hold."""
    file = Path(os.environ.get("ONETHREAD_SPECS", "")) / "twilio" / "twilio_api_v2010.yaml"
    if not file.is_file():
        pytest.skip("ONETHREAD_SPECS does not name a folder with twilio/twilio_api_v2010.yaml")
    return file


def exchange(response: requests.Response, form: dict[str, str] | None = None) -> dict[str, Any]:
    parts = urlsplit(response.url)
    return {"method": response.request.method, "path": parts.path, "query": parse_qsl(parts.query), "form": form,
            "status": response.status_code, "answer": response.json()}  # fmt: skip


@pytest.mark.slow
def test_requests_and_answers_are_those_of_the_official_document(
    app: TwilioApp, server: SandboxServer, document: Path, run_tap: Any, state_url: str
) -> None:
    app.text(ADA, "hello")
    picture = app.picture(BEN, "look")
    app.fail(app.staff_text(ADA, "sale"), 30006)
    app.text(f"whatsapp:{ADA}", "on WhatsApp")
    base = f"/2010-04-01/Accounts/{SID}"
    form = {"To": ADA, "From": app.number, "Body": "Hi", "StatusCallback": "https://hooks.example/s"}
    good = [
        exchange(get(server, PageSize=2, **{"DateSent>": "2026-01-01"})),
        exchange(get(server, f"{base}/Messages/{picture}.json")),
        exchange(get(server, f"{base}/Messages/{picture}/Media.json")),
        exchange(get(server, f"{base}.json")),
        exchange(get(server, f"{base}/IncomingPhoneNumbers.json", PageSize=1000)),
        exchange(send(server, StatusCallback="https://hooks.example/s"), form),
    ]
    before = len(app.journal)
    config = {"state_url": state_url, "account_sid": SID, "auth_token": TOKEN, "api_url": server.url, "page_size": 2}
    run_tap(TapTwilio(config=config))
    asked = [
        {"method": entry["method"], "path": entry["path"], "query": parse_qsl(entry["query"]), "status": 200,
         "answer": {}}
        for entry in app.journal[before:]
    ]  # fmt: skip
    bad = [
        {**good[0], "query": [("PageSize", "1001")]},
        {**good[0], "answer": {"messages": [{**good[0]["answer"]["messages"][0], "status": "teleported"}]}},
        {**good[0], "answer": {"messages": [{**good[0]["answer"]["messages"][0], "sid": "SM1"}]}},
        {**good[5], "form": {"From": app.number, "Body": "Hi"}},
    ]
    work = {"document": str(document), "exchanges": [*good, *asked, *bad]}
    verdicts = ask_judge("twilio", "twilio_document.py", work)
    assert verdicts[: len(good)] == [{"request": [], "answer": []}] * len(good)
    assert len(asked) >= 3
    assert [one["request"] for one in verdicts[len(good) : -len(bad)]] == [[]] * len(asked)
    assert [bool(one["request"]) for one in verdicts[-len(bad) :]] == [True, False, False, True]
    assert [bool(one["answer"]) for one in verdicts[-len(bad) :]] == [False, True, True, False]


# -- the account of itself ---------------------------------------------------------------------------------------------


def test_each_rule_has_a_source_and_says_who_confirms_it() -> None:
    assert {rule.kind for rule in TwilioApp.rules} <= {"documented", "observed", "assumed"}
    assert all(rule.source for rule in TwilioApp.rules)
    assert {rule.judge for rule in TwilioApp.rules} == {"twilio", "openapi", None}


def test_the_page_names_every_option_and_everything_that_people_do() -> None:
    page = (ROOT / "sandbox" / "twilio.md").read_text()
    options = set(inspect.signature(Account.__init__).parameters) - {"self"}
    deeds = {"text", "picture", "read", "fail", "staff_text", "play", "heard", "connect", "environment"}
    assert sorted(name for name in {*options, *deeds} if f"`{name}`" not in page) == []
