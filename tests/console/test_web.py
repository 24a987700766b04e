"""The web page: who waits, one thread over all channels, nothing that a stranger's text or site could misuse."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from console.web import ConsoleApp
from mappings.errors import MissingFieldError
from mappings.ids import message_key
from mappings.records import Attachment, Consent, Handle, Message, MessageChange, Profile
from stores.database import Stores
from stores.media import Media
from stores.parked import Parked
from tests.stores.archive_world import PAGE, answer, at, change, email, mail, message, psid, receipt
from tests.stores.file_server import PNG
from tests.targets.sending_world import World, hubspot
from tests.targets.sending_world import phone as phone_number

ADA, BEN, CLEO = "+14155550101", "+14155550102", "+447700900123"
HOSTILE = "<script>alert('x')</script>\" onmouseover=\"alert(1)"


def whatsapp(number: str, name: str, minutes: float, **fields: Any) -> Message:
    """A WhatsApp message of whoever has that number."""
    values: dict[str, Any] = {
        "message_key": message_key("whatsapp", "1", name), "channel": "whatsapp", "account": "1",
        "conversation_key": f"whatsapp:1:{number}", "handles": [phone_number(number)],
    }  # fmt: skip
    return message(name, minutes, **(values | fields))


@pytest.fixture
def world(stores: Stores) -> World:
    """Ada wrote on three channels and waits longest; Ben waits; Cleo was answered."""
    made = World(stores)
    made.take(
        message("m1", 1, who="ada", text="On Messenger first", profile=Profile(name="Ada Byron")),
        whatsapp(ADA, "w1", 2, text="Then on WhatsApp"),
        mail("e1", 3, who="ada", text="And by mail", subject="Order 4711"),
        whatsapp(BEN, "w2", 30, text="Anybody there?", profile=Profile(name="Ben Okri")),
        whatsapp(CLEO, "w3", 10, text="Thanks!", profile=Profile(name="Cleo Vance")),
        whatsapp(CLEO, "w4", 11, text="You are welcome", direction="outbound", author_kind="agent"),
    )
    made.link(psid("ada"), phone_number(ADA), email("ada"))
    return made


@pytest.fixture
def client(world: World) -> Client:
    return Client(ConsoleApp(world.stores, now=lambda: at(50)))


def get(client: Client, path: str, **more: Any) -> TestResponse:
    return client.get(path, base_url="http://127.0.0.1:8481", **more)


def page(client: Client, path: str, **more: Any) -> str:
    response = get(client, path, **more)
    assert response.status_code == 200, response.text
    return response.text


def person_page(client: Client, world: World, handle: Handle) -> str:
    return page(client, f"/person/{person_of(world, handle)}")


def person_of(world: World, handle: Handle) -> str:
    person_id = world.graph.person_of(handle)
    assert person_id is not None
    return person_id


class Words(HTMLParser):
    """What a visitor reads, the tags, and what the page would load or lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.urls: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.urls += [value or "" for name, value in attrs if name in {"href", "src", "action", "hx-get", "srcset"}]

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


def listed(text: str) -> list[str]:
    """The names in the list of people."""
    return re.findall(r'<span class="name">(.*?)</span>', text)


PATHS = ["/", "/people", "/people?q=ada", "/stuck", "/review", "PERSON"]


def all_pages(client: Client, world: World) -> Iterator[str]:
    for path in PATHS:
        yield page(client, path.replace("PERSON", f"/person/{person_of(world, psid('ada'))}"))


# What it shows


def test_who_waits_longest_comes_first_and_who_was_answered_last(client: Client) -> None:
    text = page(client, "/")
    assert listed(text) == ["Ada Byron", "Ben Okri", "Cleo Vance"]
    assert "2 waiting, the longest for 49 min" in text
    assert re.findall(r'<span class="wait">(.*?)</span>', text) == ["49 min", "20 min"]


def test_a_person_s_channels_are_marked_in_the_list(client: Client) -> None:
    first = page(client, "/").partition("</li>")[0]
    assert re.findall(r'class="dot (\w+)" title="(.*?)"', first) == [
        ("email", "E-mail"), ("messenger", "Messenger"), ("whatsapp", "WhatsApp"),
    ]  # fmt: skip


def test_an_empty_archive_has_its_pages_too(stores: Stores) -> None:
    client = Client(ConsoleApp(stores))
    assert "nobody is waiting" in page(client, "/")
    assert "Nobody found" in page(client, "/people?q=ada")
    assert "None." in page(client, "/stuck")


@pytest.mark.parametrize(
    "words", ["ada", "Byron", "ADA byron", ADA, ADA.removeprefix("+"), "+1 415 555 0101", "ada@mail.example"]
)
def test_a_person_is_found_by_name_address_number_and_platform_id(client: Client, words: str) -> None:
    assert listed(page(client, "/people", query_string={"q": words})) == ["Ada Byron"]


@pytest.mark.parametrize("words", ["zoe", "%", "' OR 1=1 --", "\x00", "x" * 5_000, HOSTILE])
def test_a_search_for_nobody_finds_nobody(client: Client, words: str) -> None:
    text = page(client, "/people", query_string={"q": words})
    assert "Nobody found" in text
    assert "<script>alert" not in text


def test_one_thread_holds_the_words_of_all_channels_in_the_order_of_time(client: Client, world: World) -> None:
    words = Words(person_page(client, world, psid("ada"))).words
    spoken = [word for word in words if word in {"On Messenger first", "Then on WhatsApp", "And by mail"}]
    assert spoken == ["On Messenger first", "Then on WhatsApp", "And by mail"]
    assert "Order 4711" in words
    assert "Monday, 2 March 2026" in words


def test_a_person_s_handles_and_why_they_are_one_are_told(client: Client, world: World) -> None:
    words = Words(person_page(client, world, psid("ada"))).words
    assert {ADA, "ada", "ada@mail.example"} <= {*words}
    assert any(word.startswith("account link, verified, since") for word in words)
    assert "merge" in words


def test_the_id_of_a_person_who_was_merged_leads_to_the_survivor(client: Client, world: World) -> None:
    changes = world.graph.changes_since(0, 10)
    lost = {one for change in changes for one in change.from_person_ids if world.graph.current(one) != one}
    assert lost
    for one in lost:
        response = get(client, f"/person/{one}")
        assert (response.status_code, response.headers["Location"]) == (302, f"/person/{person_of(world, psid('ada'))}")


def test_windows_consent_and_the_fate_of_an_answer_are_shown(client: Client, world: World) -> None:
    world.take(
        answer("a1", 50, who="ada", text="It left today."),
        receipt("a1", "failed", 51, reason="Re-engagement <message>"),
        Consent(
            handle_key=psid("ada").key, handle=psid("ada"), channel="messenger", account=PAGE, purpose="promotional",
            status="opted_out", source="keyword", decided_at=at(2),
        ),
    )  # fmt: skip
    text = person_page(client, world, psid("ada"))
    assert "window 23 h left" in text
    assert "failed: Re-engagement &lt;message&gt;" in text
    assert re.search(r"Messenger: promotional <b class=\"opted_out\">declined</b>", text)


def test_what_is_no_text_is_named(client: Client, world: World) -> None:
    photo = Attachment(kind="image", filename="sofa.jpg", mime_type="image/jpeg", size_bytes=20_480)
    world.take(
        message("m5", 5, kind="image", text=None, attachments=[photo]),
        message("m6", 6, kind="location", text=None, content={"name": "The shop", "latitude": 1.5}),
        message("m7", 7, kind="sticker", text=None),
        change("m1", "react", 8, emoji="❤"),
        change("m1", "edit", 9, text="On Messenger, edited"),
    )
    words = Words(person_page(client, world, psid("ada"))).words
    assert {"image · sofa.jpg · image/jpeg · 20 kB", "The shop 1.5", "sticker", "❤", "edited"} <= {*words}
    assert "On Messenger, edited" in words
    assert "On Messenger first" not in words


def test_what_was_taken_back_is_shown_nowhere(client: Client, world: World) -> None:
    photo = Attachment(kind="image", filename="private.jpg")
    world.take(
        message("m5", 5, text="a private sentence", subject="a private subject", attachments=[photo]),
        message("m6", 6, text="about that", reply_to_key=message("m5", 5).message_key),
        change("m5", "unsend", 7),
    )
    text = person_page(client, world, psid("ada"))
    assert "taken back by the customer" in text
    assert "private" not in text + page(client, "/")


def test_a_quote_shows_what_was_answered(client: Client, world: World) -> None:
    world.take(message("m6", 6, text="about that", reply_to_key=message("m1", 1).message_key))
    assert "<blockquote>On Messenger first</blockquote>" in person_page(client, world, psid("ada"))


def test_what_is_stuck_is_listed_with_its_reason_and_without_words(client: Client, world: World) -> None:
    token = world.queue("2", text="a private sentence", handles=[hubspot("2")])
    world.outbox.begin(token, {"channel": "whatsapp"})
    world.outbox.mark_crashed()
    error = MissingFieldError("WhatsApp message: id is missing <b>")
    Parked(world.stores).park("tap-whatsapp", "items", "k", error, {"text": "a private sentence"})
    text = page(client, "/stuck")
    assert "it may have been sent" in text
    assert token[:12] in text
    assert "MissingFieldError: WhatsApp message: id is missing &lt;b&gt;" in text
    assert "private" not in text
    assert re.search(r'Stuck <b class="count hot">2</b>', text)


def test_typing_in_the_search_gets_the_list_alone(client: Client) -> None:
    text = page(client, "/people?q=ada", headers={"HX-Request": "true", "HX-Target": "people"})
    assert text.lstrip().startswith("<li>")
    assert listed(text) == ["Ada Byron"]


@pytest.mark.parametrize("start", ["0", "1", "-5", "abc", "99999999999999999999", ""])
def test_any_start_of_the_list_is_a_page(client: Client, start: str) -> None:
    names = listed(page(client, "/people", query_string={"from": start}))
    assert len(names) == {"1": 2, "99999999999999999999": 0}.get(start, 3)


# What others wrote is text


def test_markup_in_names_texts_subjects_and_files_stays_text(client: Client, world: World) -> None:
    world.take(
        message("h1", 20, who="eve", text=HOSTILE, profile=Profile(name=HOSTILE)),
        message("h2", 21, who="eve", text=None, kind="file", attachments=[Attachment(kind="file", filename=HOSTILE)]),
        message("h3", 22, who="eve", text="{{ 7 * 7 }} {% raw %}", flags=[HOSTILE]),
        mail("h4", 23, who="eve", subject=HOSTILE, text=HOSTILE),
    )
    world.link(psid("eve"), email("eve"))
    clean = Words(person_page(client, world, psid("ada")))
    for text in (person_page(client, world, psid("eve")), page(client, "/")):
        read = Words(text)
        assert read.tags.count("script") == clean.tags.count("script")
        assert "onmouseover" not in read.attributes
    words = Words(person_page(client, world, psid("eve"))).words
    assert words.count(HOSTILE) >= 3
    assert "{{ 7 * 7 }} {% raw %}" in words


def test_a_search_cannot_leave_its_field(client: Client) -> None:
    text = page(client, "/people", query_string={"q": f'"><img src=x onerror=1>{HOSTILE}'})
    read = Words(text)
    assert "img" not in read.tags
    assert not {"onerror", "onmouseover"} & read.attributes


def test_no_page_leads_or_loads_from_anywhere_else(client: Client, world: World) -> None:
    world.take(
        message(
            "m9", 9, text="see https://evil.example/x",
            attachments=[Attachment(kind="image", url="https://cdn.example/a.png")],
            profile=Profile(name="Ada Byron", picture_url="https://cdn.example/me.png"),
        )
    )  # fmt: skip
    for text in all_pages(client, world):
        read = Words(text)
        assert read.urls
        assert [url for url in read.urls if not re.match(r"/(?!/)", url)] == []
        assert "style" not in read.attributes
    for name in ("console.css", "icon.svg"):
        assert not re.search(r"@import|url\((?!/)|(?<!xmlns=\")https?://", page(client, f"/static/{name}"))


def test_no_script_stands_in_a_page_itself(client: Client, world: World) -> None:
    for text in all_pages(client, world):
        assert set(re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)) == {""}
        assert not [name for name in Words(text).attributes if name.startswith("on")]


# Who may look


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8481", 200), ("localhost:8481", 200), ("localhost", 200), ("[::1]:8481", 200),
        ("console.shop.example:8481", 200), ("evil.example", 421), ("evil.example:8481", 421),
        ("127.0.0.1.evil.example:8481", 421), ("localhost.evil.example", 421), ("evil.example:127.0.0.1", 421),
        ("10.0.0.5:8481", 421), ("", 421),
    ],
)  # fmt: skip
def test_only_its_own_host_names_are_answered(world: World, host: str, status: int) -> None:
    client = Client(ConsoleApp(world.stores, hosts=["console.shop.example"]))
    response = client.get("/", headers={"Host": host})
    assert response.status_code == status
    assert ("Ada" in response.text) is (status == 200)


def test_a_host_name_that_a_proxy_claims_is_not_believed(client: Client) -> None:
    response = client.get("/", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"})
    assert response.status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(client: Client, method: str) -> None:
    for path in ("/", "/people", "/stuck", "/static/console.css"):
        response = client.open(path, method=method, base_url="http://localhost")
        assert (response.status_code, response.text) == (405, "This page only shows.\n")


def test_a_head_has_no_body(client: Client) -> None:
    response = client.head("/", base_url="http://localhost")
    assert (response.status_code, response.text) == (200, "")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/stuck", 200), ("/static/console.css", 200), ("/nowhere", 404), ("/person/nobody", 404)],
)
def test_every_answer_is_locked_down(client: Client, path: str, status: int) -> None:
    response = get(client, path)
    assert response.status_code == status
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers


def test_refusals_are_locked_down_too(client: Client, world: World) -> None:
    refused = client.get("/", headers={"Host": "evil.example"})
    posted = client.post("/", base_url="http://localhost")
    for response in (refused, posted):
        assert "Content-Security-Policy" in response.headers
        assert response.content_type.startswith("text/plain")


# Files and errors


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("console.css", "text/css; charset=utf-8"), ("htmx.min.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)  # fmt: skip
def test_static_files_come_with_their_type(client: Client, name: str, content_type: str) -> None:
    response = get(client, f"/static/{name}")
    assert (response.status_code, response.content_type) == (200, content_type)
    assert response.data


@pytest.mark.parametrize(
    "path",
    [
        "/static/../web.py", "/static/..%2fweb.py", "/static/%2e%2e/web.py", "/static/nothing.css", "/static/",
        "/static/....//web.py", "/static//etc/passwd", "/person/", "/people/x", "/console.css",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404_and_says_no_more(client: Client, path: str) -> None:
    response = get(client, path)
    assert response.status_code in {308, 404}
    assert "import" not in response.text
    assert "Traceback" not in response.text


def test_a_page_that_cannot_be_made_says_so_and_the_log_names_no_person(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        message = "the disk is gone"
        raise OSError(message)

    person_id = person_of(world, psid("ada"))
    monkeypatch.setattr("stores.archive.Archive.thread", broken)
    response = get(client, f"/person/{person_id}")
    assert response.status_code == 500
    assert "Traceback" not in response.text
    (record,) = caplog.records
    assert person_id not in record.getMessage()


def test_the_command_serves_the_page(world: World, state_url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "console.cli", "console", "--port", "0"],
        stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        assert process.stderr
        url = next(match.group() for line in process.stderr if (match := re.search(r"http://127\S+/", line)))
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert "Ada Byron" in answer.read().decode()
            assert answer.headers["Content-Security-Policy"]
            assert "waitress" not in (answer.headers["Server"] or "")
    finally:
        process.terminate()
        process.communicate()


def test_a_change_of_a_message_that_nobody_knows_breaks_no_page(client: Client, world: World) -> None:
    world.take(
        MessageChange(
            change_key="messenger:1:x:edit:1", message_key=message_key("messenger", PAGE, "nowhere"),
            channel="messenger", account=PAGE, change="edit", text="new", changed_at=at(4) + timedelta(seconds=1),
            handles=[psid("ada")],
        )
    )  # fmt: skip
    assert "Ada Byron" in person_page(client, world, psid("ada"))


# Files


def kept(world: World, name: str, content: bytes, kind: Any, mime_type: str | None = None) -> str:
    """A file of a message of Ben; its key."""
    file = Attachment(kind=kind, mime_type=mime_type)
    key = message_key("whatsapp", "1", name)
    stored = Media(world.stores).keep([content], max_bytes=10_000, expected=file, message_key=key)
    found = file.model_copy(update={"media_key": stored.media_key, "mime_type": stored.mime_type})
    world.take(whatsapp(BEN, name, 40, attachments=[found]))
    return stored.media_key


def test_a_picture_is_shown_in_the_thread(client: Client, world: World) -> None:
    key = kept(world, "w5", PNG, "image")
    assert f'<img src="/media/{key}"' in person_page(client, world, phone_number(BEN))
    response = get(client, f"/media/{key}")
    assert (response.data, response.content_type) == (PNG, "image/png")
    assert "Content-Disposition" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox; default-src 'none'" in response.headers.getlist("Content-Security-Policy")


@pytest.mark.parametrize(
    ("content", "mime_type", "ending"),
    [(b"<html><script>1</script>", "text/html", ".html"), (b"%PDF-1.7 " + bytes(300), "application/pdf", ".pdf"),
     (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml", ".svg"), (b"?", None, ".bin")],
)  # fmt: skip
def test_any_other_file_can_only_be_saved(
    client: Client, world: World, content: bytes, mime_type: str | None, ending: str
) -> None:
    key = kept(world, "w5", content, "file", mime_type)
    text = person_page(client, world, phone_number(BEN))
    assert f'<a href="/media/{key}">file</a>' in text
    assert "<img" not in text
    response = get(client, f"/media/{key}")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{key}{ending}"'
    assert "sandbox; default-src 'none'" in response.headers.getlist("Content-Security-Policy")


@pytest.mark.parametrize("path", ["/media/" + "0" * 32, "/media/..%2f..%2fkey.json", "/media/", "/media/key.json"])
def test_a_file_that_is_not_there_is_not_found(client: Client, path: str) -> None:
    assert get(client, path).status_code == 404


def test_a_file_is_for_nobody_who_comes_by_another_name(client: Client, world: World) -> None:
    key = kept(world, "w5", PNG, "image")
    assert client.get(f"/media/{key}", base_url="http://evil.example").status_code == 421
