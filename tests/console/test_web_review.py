"""The review page: one pair side by side, decided by form or key, and by nobody but whoever looks at it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from console.web import ConsoleApp
from identity.rules import load_rules
from identity.suggest import suggest
from mappings.records import Handle, Message, Profile
from stores.database import Stores
from tests.console.browser import press_key
from tests.console.test_web import HOSTILE, Words
from tests.identity.worlds import answer_of, contact, email, evidence, hubspot, messenger, whatsapp
from tests.identity.worlds import message as world_message
from tests.stores.archive_world import at
from tests.targets.sending_world import World

BASE = "http://127.0.0.1:8481"
HERE = {"Origin": BASE}


def message(handle: Handle, text: str, minutes: float, name: str | None = None) -> Message:
    """A message of a conversation of its own."""
    made = world_message(handle, minute=int(minutes))
    return made.model_copy(
        update={
            "conversation_key": f"whatsapp:1:{handle.value}", "text": text, "sent_at": at(minutes),
            "message_key": f"whatsapp:1:{handle.value}-{minutes}", "profile": Profile(name=name) if name else None,
        }
    )  # fmt: skip


@pytest.fixture
def world(stores: Stores) -> World:
    """A link that a rule refused (two CRM contacts), an address that somebody typed in, and two of one name."""
    made = World(stores)
    made.take(
        contact("7", email("ada"), minute=1, name="Ada Byron"),
        contact("8", email("byron"), minute=2, name="ada byron"),
        message(messenger("x"), "a private sentence", 1, "Ottilie Brandvold"),
        message(messenger("y"), "another one", 2, "Ottilie Brandvold"),
        message(whatsapp("u"), "hello", 3), message(email("victim"), "hello", 4),
    )  # fmt: skip
    made.resolver.resolve([
        evidence(email("ada"), email("byron"), minute=3),
        evidence(whatsapp("u"), email("victim"), method="contact_card", strength="claimed"),
    ])  # fmt: skip
    made.archive.follow_graph()
    return made


@pytest.fixture
def app(world: World) -> ConsoleApp:
    suggest(world.stores, load_rules())
    return ConsoleApp(world.stores, now=lambda: at(50), actor="ann")


@pytest.fixture
def client(app: ConsoleApp) -> Client:
    return Client(app)


def get(client: Client, path: str = "/review") -> str:
    response = client.get(path, base_url=BASE)
    assert response.status_code == 200, response.text
    return response.text


def token(client: Client) -> str:
    return str(re.findall(r'name="token" value="(\w+)"', get(client))[0])


def find(client: Client, words: str) -> str:
    """The path of the item on whose page these words are."""
    path = "/review"
    while words not in (text := get(client, path)):
        path = re.findall(r'href="(/review/[\d-]+)" data-key="j"', text)[0]
    return str(re.findall(r'action="(/review/\d+-\d+)"', text)[0])


def press(
    client: Client, path: str, action: str, *, headers: dict[str, str] | None = None, **fields: Any
) -> TestResponse:
    given = {"token": token(client), "action": action} | fields
    return client.post(path, data=given, base_url=BASE, headers=HERE if headers is None else headers)


def together(world: World, a: Handle, b: Handle) -> bool:
    return world.graph.person_of(a) == world.graph.person_of(b)


# What it shows


def test_the_likeliest_that_waits_comes_first_and_the_keys_lead_through_the_queue(client: Client) -> None:
    seen, path = [], "/review"
    while True:
        text = get(client, path)
        seen += re.findall(r"(Suggested|A rule refused a link|Somebody typed it in)", text)
        following = re.findall(r'href="(/review/[\d-]+)" data-key="j"', text)
        if not following:
            break
        assert 'data-key="k"' in get(client, following[0])
        path = following[0]
    assert seen == ["Suggested", "Somebody typed it in", "A rule refused a link", "Suggested"]


def test_agreement_and_conflict_stand_side_by_side(client: Client) -> None:
    text = get(client, find(client, "Ada Byron"))
    rows = dict(re.findall(r'<tr class="(agrees|clashes)">\s*<th scope="row">([^<]+?) <', text))
    assert rows == {"agrees": "name", "clashes": "HubSpot contact"}
    assert "at most 1 hubspot_contact per person" in text
    assert {"Ada Byron", "ada byron", "ada@mail.example", "byron@mail.example"} <= {*Words(text).words}


def test_why_it_was_suggested_is_told_bit_by_bit(client: Client) -> None:
    text = get(client, find(client, "Suggested"))
    bits = [float(one) for one in re.findall(r"([+-][\d.]+) bits", text)]
    assert len(bits) >= 5
    assert any("first name: the same" in word for word in Words(text).words)


def test_no_message_text_is_shown_only_when_they_wrote(client: Client) -> None:
    text = get(client, find(client, "Suggested"))
    assert "private sentence" not in text
    assert "last wrote 2026-03-02 09:01 UTC" in text


def test_markup_in_names_stays_text(client: Client, world: World) -> None:
    world.take(message(whatsapp("u"), HOSTILE, 9, HOSTILE))
    read = Words(get(client, find(client, "Somebody typed it in")))
    assert "onmouseover" not in read.attributes
    assert HOSTILE in read.words
    assert [url for url in read.urls if not re.match(r"/(?!/)", url)] == []


def test_an_empty_queue_says_what_comes_here(stores: Stores) -> None:
    assert "Nothing to look at" in get(Client(ConsoleApp(stores)))


def test_what_was_decided_meanwhile_leads_back_to_the_queue(client: Client) -> None:
    response = client.get("/review/998-999", base_url=BASE)
    assert (response.status_code, response.headers["Location"]) == (303, "/review")


# What the buttons do; plain forms, so all of this works without JavaScript


def test_same_joins_the_whole_persons_and_goes_on_with_the_next(client: Client, world: World) -> None:
    path = find(client, "Ada Byron")
    response = press(client, path, "same")
    assert response.status_code == 303
    assert together(world, hubspot("7"), hubspot("8"))
    [decision] = world.graph.decisions()
    assert (decision.actor, decision.reason) == ("ann", "on the review page: conflict, suggestion")
    assert client.get(path, base_url=BASE).status_code == 303


def test_different_is_for_ever_and_undo_is_always_there(client: Client, world: World) -> None:
    before = answer_of(world.stores)
    press(client, find(client, "Suggested"), "different")
    suggest(world.stores, load_rules())
    text = get(client)
    assert "Suggested" not in text
    assert re.search(r"Last decided: <b>different</b>", text)
    [undo] = re.findall(r'action="(/review/undo/\d+)"', text)
    assert client.post(undo, data={"token": token(client)}, base_url=BASE, headers=HERE).status_code == 303
    assert world.graph.decisions() == []
    assert answer_of(world.stores) == before


def test_later_puts_a_pair_last_and_up_takes_it_back(client: Client) -> None:
    path = find(client, "Suggested")
    press(client, path, "later")
    assert "Suggested" not in get(client)
    assert "put off" in get(client, path)
    press(client, path, "up")
    assert "Suggested" in get(client)


def test_shared_makes_a_handle_everybody_s(client: Client, world: World) -> None:
    path = find(client, "Ada Byron")
    key = re.findall(r'<option value="(.*?)">', get(client, path))[0]
    press(client, path, "shared", handle=key)
    [decision] = world.graph.decisions()
    assert (decision.kind, decision.handles[0].key) == ("shared", key)


@pytest.mark.parametrize(
    ("action", "fields", "problem"),
    [("shared", {"handle": "email:-:stranger@mail.example"}, "choose the handle"), ("shared", {}, "choose the handle"),
     ("erase", {}, "there is no action")],
)  # fmt: skip
def test_what_cannot_be_done_is_said_on_the_page(
    client: Client, world: World, action: str, fields: dict[str, Any], problem: str
) -> None:
    response = press(client, find(client, "Ada Byron"), action, **fields)
    assert response.status_code == 409
    assert problem in response.text
    assert world.graph.decisions() == []


def test_a_pair_that_somebody_else_decided_meanwhile_is_not_decided_twice(client: Client, world: World) -> None:
    path, secret = find(client, "Ada Byron"), token(client)
    press(client, path, "different")
    again = client.post(path, data={"token": secret, "action": "same"}, base_url=BASE, headers=HERE)
    assert again.status_code == 409
    assert len(world.graph.decisions()) == 1


# Who may decide


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:9999"},
     {"Origin": "file://127.0.0.1:8481"}, {**HERE, "Sec-Fetch-Site": "cross-site"},
     {**HERE, "Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_another_site_cannot_decide_even_with_the_token(client: Client, world: World, headers: dict[str, str]) -> None:
    assert press(client, find(client, "Suggested"), "same", headers=headers).status_code == 403
    assert world.graph.decisions() == []


@pytest.mark.parametrize("given", ["", "0" * 64, "ü"])
def test_nobody_decides_without_the_token(client: Client, world: World, given: str) -> None:
    path = find(client, "Suggested")
    assert press(client, path, "same", token=given).status_code == 403
    assert client.post(path, data={"action": "same"}, base_url=BASE, headers=HERE).status_code == 403
    assert world.graph.decisions() == []


def test_a_token_is_of_one_console_only(client: Client, world: World) -> None:
    other = Client(ConsoleApp(world.stores))
    response = other.post(
        find(client, "Suggested"), data={"token": token(client), "action": "same"}, base_url=BASE, headers=HERE
    )
    assert response.status_code == 403


def test_a_get_decides_nothing(client: Client, world: World) -> None:
    path = find(client, "Suggested")
    client.get(f"{path}?action=same&token={token(client)}", base_url=BASE)
    assert client.get("/review/undo/1", base_url=BASE).status_code in {303, 404, 405}
    assert world.graph.decisions() == []


def test_a_form_of_another_host_name_is_refused(client: Client) -> None:
    response = client.post("/review/1-2", base_url="http://evil.example", headers={"Origin": "http://evil.example"})
    assert response.status_code == 421


def test_a_form_too_big_is_refused(client: Client, world: World) -> None:
    assert press(client, find(client, "Suggested"), "same", handle="x" * 100_000).status_code == 413
    assert world.graph.decisions() == []


def test_the_review_page_is_locked_down_like_the_others(client: Client) -> None:
    response = client.get("/review", base_url=BASE)
    assert response.headers.getlist("Referrer-Policy") == ["same-origin"]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "form-action 'self'" in response.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in response.headers


def test_other_rules_are_said_and_nobody_moves(world: World, app: ConsoleApp) -> None:
    world.graph.save_setting("rules", "others")
    response = Client(app).get("/review", base_url=BASE)
    assert response.status_code == 409
    assert "ONETHREAD_IDENTITY_RULES_FILE" in response.text


# In a browser


@pytest.mark.slow
def test_a_browser_sends_what_the_forms_need(world: World, state_url: str) -> None:
    """Chromium loads the page and presses a key: origin and token arrive as the console wants them."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    suggest(world.stores, load_rules())
    process = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "console", "--port", "0"],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert process.stderr
        url = next(match.group() for line in process.stderr if (match := re.search(r"http://127\S+/", line)))
        text = press_key(chromium, f"{url}review", "d", before="One person or two?", until="Last decided")
        assert "different" in text
        assert [one.kind for one in world.graph.decisions()] == ["different"]
    finally:
        process.terminate()
        process.communicate()
