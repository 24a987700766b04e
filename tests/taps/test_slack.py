"""tap-slack over the deliveries of its fixtures, and walking the history of the stand-in server."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.errors import CredentialsError, SettingsError
from mappings.records import Attachment, Message
from sandbox.base import Fault, SandboxServer
from sandbox.slack import SlackApp
from stores.database import Stores
from stores.items import Items
from stores.parked import Parked
from stores.tokens import Tokens
from taps.base import Checkpoint
from taps.slack import TapSlack
from taps.slack_memory import Memory
from tests.contract.tap import TapContract
from tests.taps.webhook_source import WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]
PARTS = {
    1: ["message", "edit", "files", "reaction_added"],
    2: ["message_stop", "user_change", "deleted", "app_mention"],
}
PARTNER = "T0PARTNER1"


class TestTapSlack(TapContract):
    @pytest.fixture
    def source(self, stores: Stores, state_url: str) -> Iterator[WebhookSource]:
        made = WebhookSource(stores, state_url, TapSlack, PARTS)
        yield made
        made.close()


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapSlack, PARTS)
    yield made
    made.close()


@pytest.fixture
def app() -> SlackApp:
    """A workspace an hour ago, whose limits nobody meets."""
    made = SlackApp(team_id="T0OURS0001")
    made.clock.advance(-3600)
    made.per_minute = dict.fromkeys(made.per_minute, 100_000)
    return made


@pytest.fixture
def server(app: SlackApp) -> Iterator[SandboxServer]:
    with SandboxServer(app) as running:
        app.public_url = running.url
        yield running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""

    def no_seconds(self: Any, error: Exception) -> float:
        return 0.0

    monkeypatch.setattr("taps.base._WaitSeconds.__call__", no_seconds)


Make = Callable[..., TapSlack]


@pytest.fixture
def make_tap(source: WebhookSource, app: SlackApp, server: SandboxServer) -> Make:
    """A tap that reads the history."""

    def make(state: dict[str, Any] | None = None, **config: Any) -> TapSlack:
        settings = {"access_token": app.access_token, "api_url": f"{server.url}/api", **config}
        return TapSlack(config=source.config(**settings), state=state or {})

    return make


class Scene:
    """Two customers and one of us in a shared channel."""

    def __init__(self, app: SlackApp) -> None:
        self.app = app
        self.sam = app.add_member("sam", "Sam Reed", email="sam@shop.example").id
        self.ada = app.add_member("ada", "Ada Example", PARTNER, email="Ada@partner.example").id
        self.bo = app.add_member("bo", "Bo Example", PARTNER, email="bo@partner.example").id
        self.channel = app.add_channel("ext-partner", shared=True)

    def say(self, user: str, text: str, **more: Any) -> str:
        self.app.clock.advance(1)
        return self.app.write(user, more.pop("channel", self.channel), text, **more)


@pytest.fixture
def scene(app: SlackApp) -> Scene:
    return Scene(app)


def records_of(messages: list[dict[str, Any]], stream: str = "messages") -> list[dict[str, Any]]:
    return [one["record"] for one in messages if one["type"] == "RECORD" and one["stream"] == stream]


def texts_of(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(one["text"] for one in records_of(messages))


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def event_of(app: SlackApp, channel: str, ts: str) -> dict[str, Any]:
    """The delivery that tells a message of the stand-in."""
    event = app.message(channel, ts).event
    assert event is not None
    return event.part


def asked(app: SlackApp, method: str) -> int:
    return sum(entry["path"] == f"/api/{method}" for entry in app.journal)


def addressees(messages: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {one["text"]: [handle["value"] for handle in one["handles"]] for one in records_of(messages)}


# -- Deliveries ------------------------------------------------------------------------------------------------------


def test_the_same_message_under_another_event_id_is_read_once(source: WebhookSource, run_tap: RunTap) -> None:
    tap = TapSlack(config=source.config())
    for event_id in ("Ev1", "Ev2"):
        source.deliver({**_body(), "event_id": event_id})
    source.deliver({**_body(), "event_id": "Ev3", "event": {**_body()["event"], "type": "app_mention"}})
    assert len(records_of(run_tap(tap))) == 1
    assert tap.repeats == 2


def test_two_messages_with_the_same_words_are_two(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(_body(text="ok", ts="1772366400.000001"))
    source.deliver(_body(text="ok", ts="1772366400.000002"))
    assert len(records_of(run_tap(TapSlack(config=source.config())))) == 2


def test_what_is_ours_alone_and_what_is_about_the_app_is_counted_by_name(
    source: WebhookSource, run_tap: RunTap, stores: Stores, caplog: Any
) -> None:
    for name in ("message_in_our_own_channel", "edit_by_a_link_preview", "url_verification", "account_tokens_revoked"):
        source.deliver_fixture(name)
    tap = TapSlack(config=source.config())
    with caplog.at_level(logging.WARNING):
        assert records_of(run_tap(tap)) == []
    assert tap.ignored == {"internal": 2, "url_verification": 1, "tokens_revoked": 1}
    assert Items(stores).counts("slack")["ignored:internal"] == 2
    assert "tokens of the app were revoked" in caplog.text


def test_an_answer_of_a_later_run_is_for_the_customer_who_spoke_before(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("message")
    first = run_tap(TapSlack(config=source.config()))
    source.deliver_fixture("agent_message")
    source.deliver_fixture("agent_reply_in_a_thread")
    second = run_tap(TapSlack(config=source.config(), state=state_of(first)))
    assert [[handle["value"] for handle in one["handles"]] for one in records_of(second)] == [["U0ADA00001"]] * 2
    assert {one["conversation_key"] for one in records_of(second)} == {records_of(first)[0]["conversation_key"]}


def test_the_bookmark_names_nobody(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("message")
    state = state_of(run_tap(TapSlack(config=source.config())))
    assert "people" in state["bookmarks"]["cursor"]
    assert "U0ADA00001" not in str(state)


def test_a_reaction_is_understood_by_what_its_writer_sent_before(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("message")
    source.deliver_fixture("agent_message")
    source.deliver_fixture("reaction_added")
    source.deliver_fixture("reaction_with_skin_tone")
    changes = records_of(run_tap(TapSlack(config=source.config())), "message_changes")
    assert [one["author_kind"] for one in changes] == ["customer", "agent"]


def test_a_channel_with_a_new_id_keeps_what_was_and_goes_on(source: WebhookSource, run_tap: RunTap) -> None:
    old = _body(channel="G0PRIVATE1", ts="1772366200.000001", text="before")
    source.deliver(old)
    source.deliver_fixture("channel_id_changed")
    source.deliver(_body(ts="1772366200.000001", text="before"))  # the same one, told again under the new id
    first = run_tap(TapSlack(config=source.config()))
    source.deliver_fixture("agent_message")
    second = run_tap(TapSlack(config=source.config(), state=state_of(first)))
    assert [one["message_key"] for one in records_of(first)] == ["slack:T0OURS0001:G0PRIVATE1:1772366200.000001"]
    (answer,) = records_of(second)
    assert answer["handles"][0]["value"] == "U0ADA00001"
    assert ":C0SHARED01:" in answer["message_key"]


def test_a_writer_of_whom_nothing_is_known_is_asked_for_once(
    make_tap: Make, app: SlackApp, source: WebhookSource, scene: Scene, run_tap: RunTap
) -> None:
    for number in range(2):
        body = _body(user=scene.ada, ts=f"1772366400.00000{number}")
        body["event"] = {name: body["event"][name] for name in ("type", "channel", "user", "text", "ts")}
        source.deliver(body)
    assert len(records_of(run_tap(make_tap(read_history=False)))) == 2
    assert asked(app, "users.info") == 1


def test_a_writer_who_cannot_be_asked_for_is_parked_and_can_be_replayed(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("message_of_a_stranger_without_team")
    state = state_of(run_tap(TapSlack(config=source.config())))
    parked = Parked(stores)
    (row,) = parked.list()
    source.deliver_fixture("message")  # from which the workspace is learned
    parked.ask_replay([row.parked_id])
    state = state_of(run_tap(TapSlack(config=source.config(), state=state)))
    parked.ask_replay([row.parked_id])
    assert "Hello" in texts_of(run_tap(TapSlack(config=source.config(), state=state)))


def _body(**event: Any) -> dict[str, Any]:
    message = {"type": "message", "channel": "C0SHARED01", "user": "U0ADA00001", "team": PARTNER, "text": "Hello",
               "ts": "1772366400.000100", **event}  # fmt: skip
    installed = {"team_id": "T0OURS0001", "user_id": "U0BOT00001", "is_bot": True}
    return {"type": "event_callback", "team_id": "T0OURS0001", "api_app_id": "A0APP", "event": message,
            "event_id": "Ev0", "authorizations": [installed], "is_ext_shared_channel": True}  # fmt: skip


# -- History ---------------------------------------------------------------------------------------------------------


def test_the_history_of_a_customer_channel_is_read_with_its_threads(
    make_tap: Make, scene: Scene, run_tap: RunTap
) -> None:
    parent = scene.say(scene.ada, "It broke")
    scene.say(scene.sam, "When?", thread=parent)
    scene.say(scene.bo, "For me too", thread=parent, broadcast=True)
    scene.say(scene.ada, "Yesterday", thread=parent)
    messages = run_tap(make_tap())
    assert texts_of(messages) == ["For me too", "It broke", "When?", "Yesterday"]
    assert {one["seen_by"] for one in records_of(messages)} == {"poll"}
    assert {one["reply_to_key"] for one in records_of(messages) if one["text"] != "It broke"} == {
        f"slack:T0OURS0001:{scene.channel}:{parent}"
    }


def test_only_customer_conversations_are_read(make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap) -> None:
    scene.say(scene.ada, "shared")
    scene.say(scene.ada, "direct", channel=app.open_direct(scene.ada))
    scene.say(scene.sam, "among ourselves", channel=app.add_channel("internal"))
    scene.say(scene.sam, "to the bot", channel=app.open_direct(scene.sam))
    scene.say(scene.ada, "without the bot", channel=app.add_channel("other", shared=True, bot_is_in=False))
    assert texts_of(run_tap(make_tap())) == ["direct", "shared"]


def test_named_channels_are_read_and_direct_messages_always(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    other = app.add_channel("second", shared=True)
    scene.say(scene.ada, "not named")
    scene.say(scene.ada, "named", channel=other)
    scene.say(scene.ada, "direct", channel=app.open_direct(scene.ada))
    assert texts_of(run_tap(make_tap(channels=[other]))) == ["direct", "named"]


def test_what_an_event_brought_is_not_told_again_and_what_it_missed_is_counted(
    make_tap: Make, app: SlackApp, source: WebhookSource, scene: Scene, run_tap: RunTap, stores: Stores
) -> None:
    seen, parent = scene.say(scene.ada, "seen"), scene.say(scene.ada, "parent")
    reply = scene.say(scene.bo, "seen reply", thread=parent)
    scene.say(scene.bo, "missed reply", thread=parent)
    for ts in (seen, parent, reply):
        source.deliver(event_of(app, scene.channel, ts))
    messages = run_tap(make_tap())
    assert Counter((one["text"], one["seen_by"]) for one in records_of(messages)) == {
        ("seen", "webhook"): 1, ("parent", "webhook"): 1, ("seen reply", "webhook"): 1, ("missed reply", "poll"): 1,
    }  # fmt: skip
    assert Items(stores).missed() == {"slack": 1}


def test_an_event_that_comes_late_takes_the_message_off_the_count(
    make_tap: Make, app: SlackApp, source: WebhookSource, scene: Scene, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("message")
    ts = scene.say(scene.ada, "slow")
    state = state_of(run_tap(make_tap()))
    assert Items(stores).missed() == {"slack": 1}
    source.deliver(event_of(app, scene.channel, ts))
    again = records_of(run_tap(make_tap(state)))
    assert [(one["text"], one["seen_by"]) for one in again] == [("slow", "webhook")]
    assert Items(stores).missed() == {}


def test_history_without_any_delivery_is_no_miss(make_tap: Make, scene: Scene, run_tap: RunTap, stores: Stores) -> None:
    scene.say(scene.ada, "Hello")
    tap = make_tap()
    assert texts_of(run_tap(tap)) == ["Hello"]
    assert (tap.missed, Items(stores).missed()) == (0, {})


def test_an_edit_that_no_event_told_stands_in_the_history(
    make_tap: Make, app: SlackApp, source: WebhookSource, scene: Scene, run_tap: RunTap
) -> None:
    ts = scene.say(scene.ada, "Helo")
    source.deliver(event_of(app, scene.channel, ts))
    app.edit(scene.channel, ts, "Hello")
    messages = run_tap(make_tap())
    (change,) = records_of(messages, "message_changes")
    assert (change["change"], change["text"], change["handles"][0]["value"]) == ("edit", "Hello", scene.ada)
    told = app.deliverer.events[-1].part
    source.deliver(told)
    assert records_of(run_tap(make_tap(state_of(messages))), "message_changes")[0]["change_key"] == change["change_key"]


def test_a_deletion_that_left_a_tombstone_is_found(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    parent = scene.say(scene.ada, "never mind")
    scene.say(scene.bo, "what?", thread=parent)
    app.delete(scene.channel, parent)
    messages = run_tap(make_tap())
    assert texts_of(messages) == ["what?"]
    assert [one["change"] for one in records_of(messages, "message_changes")] == ["unsend"]


def test_a_second_pass_gives_nothing_more(make_tap: Make, scene: Scene, run_tap: RunTap) -> None:
    parent = scene.say(scene.ada, "Hello")
    scene.say(scene.sam, "Hi", thread=parent)
    first = run_tap(make_tap())
    second = run_tap(make_tap(state_of(first)))
    assert [one for one in second if one["type"] == "RECORD"] == []
    assert state_of(second)["bookmarks"]["cursor"]["poll_pass"] == 2


def test_a_reply_to_an_old_parent_is_found_within_the_look_back(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    app.clock.advance(-5 * 86_400)
    parent = scene.say(scene.ada, "five days ago")
    app.clock.advance(5 * 86_400)
    for number in range(5):
        scene.say(scene.ada, f"between {number}")
    state = state_of(run_tap(make_tap()))
    scene.say(scene.bo, "still broken", thread=parent)
    state["bookmarks"]["cursor"]["read_to"] = {scene.channel: before(hours=2)}
    assert texts_of(run_tap(make_tap(state, thread_lookback_days=1))) == []
    assert texts_of(run_tap(make_tap(state))) == ["still broken"]


def test_a_pass_overlaps_the_one_before_by_two_minutes(make_tap: Make, scene: Scene, run_tap: RunTap) -> None:
    state = state_of(run_tap(make_tap()))
    scene.say(scene.ada, "in between")  # an hour ago
    for minutes, found in ((50, []), (59, ["in between"])):
        state["bookmarks"]["cursor"]["read_to"] = {scene.channel: before(minutes=minutes)}
        assert texts_of(run_tap(make_tap(state, thread_lookback_days=0))) == found


def before(**ago: float) -> str:
    """A ``ts`` of that long ago."""
    return f"{int((datetime.now(UTC) - timedelta(**ago)).timestamp())}.000000"


def test_a_thread_without_news_costs_no_call(make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap) -> None:
    parent = scene.say(scene.ada, "Hello")
    scene.say(scene.sam, "Hi", thread=parent)
    app.clock.advance(-1800)
    state = state_of(run_tap(make_tap()))
    assert asked(app, "conversations.replies") == 1
    run_tap(make_tap(state))
    assert asked(app, "conversations.replies") == 1


def test_messages_of_the_last_minute_are_left_to_their_event(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    app.clock.advance(3600)
    scene.say(scene.ada, "just now")
    assert texts_of(run_tap(make_tap())) == []


def test_the_first_pass_reads_as_far_back_as_it_is_told(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    app.clock.advance(-200 * 86_400)
    scene.say(scene.ada, "long ago")
    app.clock.advance(200 * 86_400)
    scene.say(scene.ada, "today")
    assert texts_of(run_tap(make_tap())) == ["today"]
    assert texts_of(run_tap(make_tap(history_days=0))) == ["long ago", "today"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 200])
def test_every_message_is_read_whatever_the_page(make_tap: Make, scene: Scene, run_tap: RunTap, page_size: int) -> None:
    said = []
    for number in range(9):
        parent = scene.say(scene.ada if number % 3 else scene.sam, f"message {number}")
        said.append(f"message {number}")
        for reply in range(number % 3):
            scene.say(scene.sam, f"reply {number}.{reply}", thread=parent)
            said.append(f"reply {number}.{reply}")
    assert sorted(set(texts_of(run_tap(make_tap(page_size=page_size))))) == sorted(said)


@pytest.mark.parametrize("page_size", [1, 3, 200])
def test_an_answer_in_the_history_is_for_the_customer_who_spoke_before(
    make_tap: Make, scene: Scene, run_tap: RunTap, page_size: int
) -> None:
    scene.say(scene.sam, "welcome")
    asked_by_ada = scene.say(scene.ada, "ada asks")
    scene.say(scene.sam, "to ada")
    scene.say(scene.bo, "bo asks")
    scene.say(scene.sam, "to bo")
    scene.say(scene.sam, "to ada in her thread", thread=asked_by_ada)
    scene.say(scene.bo, "bo joins the thread", thread=asked_by_ada)
    scene.say(scene.sam, "to bo in the thread", thread=asked_by_ada)
    told = addressees(run_tap(make_tap(page_size=page_size)))
    assert told["to ada in her thread"] == [scene.ada]
    assert told["to bo in the thread"] == [scene.bo]
    if page_size > 1:  # a page of one shows nobody before
        assert (told["to ada"], told["to bo"], told["welcome"]) == ([scene.ada], [scene.bo], [scene.ada])


def test_our_reply_is_known_by_its_token_in_the_history(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    token = "0123456789abcdef0123456789abcdef"
    scene.say(scene.ada, "Hello")
    scene.say(app.bot, "Hi", metadata={"event_type": "onethread_reply", "event_payload": {"outbox_id": token}})
    scene.say(app.bot, "We are closed", blocks=[])
    found = {one["text"]: (one["author_kind"], one["reply_token"]) for one in records_of(run_tap(make_tap()))}
    assert found == {"Hello": ("customer", None), "Hi": ("agent", token), "We are closed": ("bot", None)}


def test_a_channel_that_was_shared_meanwhile_gives_no_second_copy(
    make_tap: Make, app: SlackApp, source: WebhookSource, scene: Scene, run_tap: RunTap
) -> None:
    channel = app.add_channel("support", private=True)
    ts = scene.say(scene.ada, "before", channel=channel)
    source.deliver(event_of(app, channel, ts))
    app.clock.advance(1)
    shared = app.share_channel(channel)
    source.deliver(app.deliverer.events[-1].part)
    scene.say(scene.ada, "after", channel=shared)
    keys = sorted(one["message_key"].split(":")[2] for one in records_of(run_tap(make_tap(channels=[channel]))))
    assert keys == sorted([channel, shared])


_SPOKEN = st.lists(
    st.tuples(st.sampled_from(["C1", "C2"]), st.integers(1, 30), st.integers(0, 3), st.sampled_from(["U1", "U2"])),
    unique_by=lambda one: one[1], max_size=12,
)  # fmt: skip


@given(_SPOKEN, st.randoms())
def test_who_spoke_last_does_not_depend_on_the_order_of_arrival(spoken: list[Any], random: Any) -> None:
    events = [
        ({"channel": channel, "ts": f"{ts}.000000", **({"thread_ts": f"{thread}.000000"} if thread else {})}, user)
        for channel, ts, thread, user in spoken
    ]
    again = [*events, *events[:3]]
    random.shuffle(again)
    memories = Memory(), Memory()
    for memory, told in zip(memories, (sorted(events, key=lambda one: int(one[0]["ts"][:-7])), again), strict=True):
        for event, user in told:
            memory.heard(event, user)
    assert memories[0].speakers == memories[1].speakers


# -- Being cut off ---------------------------------------------------------------------------------------------------


def test_a_walk_that_is_killed_anywhere_is_continued_without_a_gap(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    second = app.add_channel("second", shared=True)
    wanted = set()
    for number in range(8):
        channel = scene.channel if number % 2 else second
        parent = scene.say(scene.ada, f"message {number}", channel=channel)
        scene.say(scene.bo, f"reply {number}", channel=channel, thread=parent)
        wanted |= {f"message {number}", f"reply {number}"}
    reading = make_tap(page_size=2).read()
    cuts, cursor, told = 0, {}, set()
    for item in reading:
        if isinstance(item, Message):
            told.add(str(item.text))
        elif isinstance(item, Checkpoint):
            cursor.update(item.cursor)
            rest = run_tap(make_tap({"bookmarks": {"cursor": dict(cursor)}}, page_size=2))
            assert told | {one["text"] for one in records_of(rest)} == wanted, cursor
            cuts += 1
    assert cuts > 10


def test_the_severe_limit_lets_every_run_get_on(make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap) -> None:
    """One call a minute and method, 15 messages: each run makes its call, ends and is continued."""
    app.restricted = True
    wanted = set()
    for number in range(40):
        parent = scene.say(scene.ada if number % 4 else scene.sam, f"message {number}")
        wanted.add(f"message {number}")
        if number % 10 == 0:
            for reply in range(20):
                scene.say(scene.bo, f"reply {number}.{reply}", thread=parent)
                wanted.add(f"reply {number}.{reply}")
    state: dict[str, Any] = {}
    told: set[str] = set()
    runs = 0
    while runs < 60 and not state.get("bookmarks", {}).get("cursor", {}).get("poll_pass"):
        messages = run_tap(make_tap(state))
        told |= set(texts_of(messages))
        state = state_of(messages)
        app.clock.advance(60)
        runs += 1
    assert told == wanted
    assert 4 < runs < 60


def test_the_severe_limit_is_explained_once(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, caplog: Any
) -> None:
    app.restricted = True
    for number in range(40):
        scene.say(scene.ada, f"message {number}")
    with caplog.at_level(logging.WARNING):
        run_tap(make_tap())
    assert caplog.text.count("outside the Marketplace") == 1
    assert "go on after" in caplog.text


def test_a_pass_that_was_cut_off_goes_on_with_the_channel_that_it_was_in(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    channels = [scene.channel, *(app.add_channel(f"c{number}", shared=True) for number in range(2))]
    for channel in channels:
        scene.say(scene.ada, f"in {channel}", channel=channel)
    fault = Fault("/conversations.history", status=429, times=1000, headers={"Retry-After": "3600"})
    state: dict[str, Any] = {}
    seen = []
    for _ in range(3):
        app.per_minute["conversations.history"] = 1
        messages = run_tap(make_tap(state))
        seen += texts_of(messages)
        state = state_of(messages)
        app.clock.advance(60)
    app.faults.append(fault)
    assert seen == [f"in {channel}" for channel in sorted(channels)]
    assert state["bookmarks"]["cursor"]["poll_pass"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/conversations.history", status=429, times=2, body={"ok": False, "error": "ratelimited"},
              headers={"Retry-After": "1"}),
        Fault("/conversations.history", status=200, times=2, body={"ok": False, "error": "internal_error"}),
        Fault("/conversations.history", status=503, times=2),
        Fault("/users.conversations", status=500, times=1),
    ],
)  # fmt: skip
def test_a_passing_refusal_is_tried_again(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, fault: Fault
) -> None:
    scene.say(scene.ada, "Hello")
    app.faults.append(fault)
    assert texts_of(run_tap(make_tap())) == ["Hello"]


def test_a_longer_wait_than_allowed_ends_the_run_with_its_bookmark(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, caplog: Any
) -> None:
    scene.say(scene.ada, "Hello")
    headers = {"Retry-After": "31"}
    fault = Fault("/conversations.history", status=429, times=9, body={"ok": False, "error": "ratelimited"},
                  headers=headers)  # fmt: skip
    app.faults.append(fault)
    with caplog.at_level(logging.WARNING):
        state = state_of(run_tap(make_tap()))
    assert fault.times == 8
    assert "go on after" in caplog.text
    assert "read_to" not in state["bookmarks"]["cursor"]
    app.faults.clear()
    assert texts_of(run_tap(make_tap(state))) == ["Hello"]


@pytest.mark.parametrize("code", ["not_in_channel", "channel_not_found"])
def test_a_channel_that_the_bot_has_left_does_not_stop_the_others(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, code: str
) -> None:
    scene.say(scene.ada, "gone")
    scene.say(scene.ada, "here", channel=app.add_channel("second", shared=True))
    app.faults.append(Fault("/conversations.history", status=200, times=1, body={"ok": False, "error": code}))
    assert texts_of(run_tap(make_tap())) == ["here"]


def test_a_cursor_that_was_kept_too_long_begins_its_thread_again(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    parent = scene.say(scene.ada, "parent")
    for number in range(4):
        scene.say(scene.bo, f"reply {number}", thread=parent)
    refused = {"ok": False, "error": "invalid_cursor"}
    walk = {"channel": scene.channel, "top": "9999999999.000000", "oldest": "0.000000", "replies_since": "0.000000",
            "latest": "9999999999.000000", "thread": parent, "cursor": "bmV4dDoy", "finished": False}  # fmt: skip
    app.faults.append(Fault("/conversations.replies", status=200, times=1, body=refused))
    told = texts_of(run_tap(make_tap({"bookmarks": {"cursor": {"walk": walk}}})))
    assert told == ["parent", *(f"reply {number}" for number in range(4))]


def test_a_history_that_repeats_itself_ends_the_run(
    make_tap: Make, scene: Scene, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    for number in range(4):
        scene.say(scene.ada, f"message {number}")
    original = TapSlack.api.func  # type: ignore[attr-defined]

    def same_page(tap: TapSlack) -> Any:
        session = original(tap)
        history = session.history
        session.history = lambda channel, *, oldest, latest, limit: history(
            channel, oldest=oldest, latest="9999999999.0", limit=2
        )
        return session

    monkeypatch.setattr(TapSlack, "api", property(same_page))
    with caplog.at_level(logging.WARNING):
        state = state_of(run_tap(make_tap()))
    assert "repeats itself" in caplog.text
    assert "read_to" not in state["bookmarks"]["cursor"]


def test_a_refused_token_stops_the_run_after_the_events_were_read(
    make_tap: Make, source: WebhookSource, scene: Scene
) -> None:
    source.deliver_fixture("message")
    seen: list[Any] = []
    with pytest.raises(CredentialsError) as caught:
        seen.extend(_until_it_fails(make_tap(access_token="xoxb-wrong-0123456789").read(), seen))
    assert "xoxb-wrong" not in str(caught.value)
    assert [item.text for item in seen if isinstance(item, Message)] == ["Hello"]


def test_a_bookmark_of_another_key_file_costs_no_more_than_the_memory(
    source: WebhookSource, run_tap: RunTap, tmp_path: Any
) -> None:
    source.deliver_fixture("message")
    state = state_of(run_tap(TapSlack(config=source.config())))
    other = {**source.config(), "state_url": f"sqlite:///{tmp_path}/other"}
    assert records_of(run_tap(TapSlack(config=other, state=state))) == []


def _until_it_fails(items: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    for item in items:
        seen.append(item)
    yield from ()


def test_conversations_that_no_scope_covers_are_left_out(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    app.scopes -= {"im:read", "mpim:history"}
    scene.say(scene.ada, "shared")
    scene.say(scene.ada, "direct", channel=app.open_direct(scene.ada))
    assert texts_of(run_tap(make_tap())) == ["shared"]


def test_a_missing_scope_is_named(make_tap: Make, app: SlackApp, run_tap: RunTap) -> None:
    app.scopes = {"users:read"}
    with pytest.raises(CredentialsError, match="channels:read"):
        run_tap(make_tap())


def test_a_message_that_cannot_be_understood_is_parked_and_the_rest_goes_on(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, stores: Stores
) -> None:
    scene.say(scene.ada, "before")
    bad = scene.say(scene.ada, "bad")
    app.message(scene.channel, bad).files = [{"id": 7}]
    scene.say(scene.ada, "after")
    assert texts_of(run_tap(make_tap())) == ["after", "before"]
    assert [one.reason for one in Parked(stores).list()] == ["Slack message: id is int, not a text"]


def test_what_arrives_during_a_pass_is_not_kept_waiting(make_tap: Make, source: WebhookSource, scene: Scene) -> None:
    for number in range(6):
        scene.say(scene.ada, f"polled {number}")
    texts: list[str] = []
    for item in make_tap(page_size=1).read():
        if isinstance(item, Message):
            texts.append(str(item.text))
            if len(texts) == 1:
                source.deliver(_body(text="by event"))
    assert texts.index("by event") < 4


# -- People ----------------------------------------------------------------------------------------------------------


def test_names_and_addresses_of_customers_are_asked_for_once(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    scene.say(scene.ada, "Hello")
    scene.say(scene.sam, "Hi")
    first = run_tap(make_tap())
    found = {(one["method"], one["strength"], one["handles"][-1]["value"]) for one in records_of(first, "evidence")}
    assert found == {("profile", "verified", scene.ada), ("workspace_email", "claimed", "ada@partner.example")}
    scene.say(scene.ada, "Still there?")
    assert records_of(run_tap(make_tap(state_of(first))), "evidence") == []


def test_names_that_cannot_be_read_now_are_asked_for_later(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    scene.say(scene.ada, "Hello")
    app.faults.append(Fault("/users.info", status=429, times=99, headers={"Retry-After": "600"}))
    state = state_of(run_tap(make_tap()))
    app.faults.clear()
    found = run_tap(make_tap(state))
    assert {one["method"] for one in records_of(found, "evidence")} == {"profile", "workspace_email"}
    assert records_of(run_tap(make_tap(state_of(found))), "evidence") == []


def test_the_address_of_a_trusted_workspace_is_verified(make_tap: Make, scene: Scene, run_tap: RunTap) -> None:
    scene.say(scene.ada, "Hello")
    found = records_of(run_tap(make_tap(trusted_teams=[PARTNER])), "evidence")
    assert [one["strength"] for one in found] == ["verified", "verified"]


def test_without_the_permission_there_are_names_alone(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    scene.say(scene.ada, "Hello")
    app.email_access = False
    assert [one["method"] for one in records_of(run_tap(make_tap()), "evidence")] == ["profile"]
    app.scopes -= {"users:read"}
    scene.say(scene.bo, "Hello too")
    assert "Hello too" in texts_of(run_tap(make_tap()))


def test_named_agents_make_everybody_else_a_customer(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap
) -> None:
    channel = app.add_channel("community")
    guest = app.add_member("gil", "Gil Guest").id
    scene.say(guest, "a guest asks", channel=channel)
    scene.say(scene.sam, "we answer", channel=channel)
    scene.say(guest, "in private", channel=app.open_direct(guest))
    records = records_of(run_tap(make_tap(agents=[scene.sam], channels=[channel])))
    assert {one["text"]: one["direction"] for one in records} == {
        "a guest asks": "inbound", "we answer": "outbound", "in private": "inbound",
    }  # fmt: skip


# -- Tokens, files, doctor -------------------------------------------------------------------------------------------


@pytest.fixture
def rotated(app: SlackApp) -> dict[str, Any]:
    """The settings of a token that lives twelve hours."""
    app.rotation, app.refresh_token, app._ends_at = True, "xoxe-1-first", app.clock.epoch() + 43_200
    return {"refresh_token": "xoxe-1-first", "client_id": app.client_id, "client_secret": app.client_secret}


def test_a_token_that_has_expired_is_replaced_and_kept(
    make_tap: Make, app: SlackApp, scene: Scene, run_tap: RunTap, stores: Stores, rotated: dict[str, Any]
) -> None:
    configured = app.access_token
    scene.say(scene.ada, "Hello")
    app._ends_at = app.clock.epoch()
    assert texts_of(run_tap(make_tap(**rotated))) == ["Hello"]
    assert app.access_token != configured
    assert asked(app, "oauth.v2.access") == 1
    # The next run has the same settings, whose refresh token is used up, and goes on with what is stored.
    run_tap(make_tap(**rotated, access_token=configured))
    assert asked(app, "oauth.v2.access") == 1
    (status,) = Tokens(stores).listing()
    assert status.name == "slack:default"
    assert status.expires_at is not None
    assert timedelta(hours=11) < status.expires_at - datetime.now(UTC) < timedelta(hours=13)


def test_a_refresh_token_that_is_used_up_is_an_error_without_a_secret_in_it(
    make_tap: Make, app: SlackApp, run_tap: RunTap, rotated: dict[str, Any]
) -> None:
    app._ends_at, app.refresh_token = app.clock.epoch(), "xoxe-1-another"
    with pytest.raises(CredentialsError) as caught:
        run_tap(make_tap(**rotated))
    assert "xoxe-1" not in str(caught.value)


def test_a_refresh_whose_answer_is_lost_is_not_tried_again_at_once(
    make_tap: Make, app: SlackApp, source: WebhookSource, run_tap: RunTap, rotated: dict[str, Any], caplog: Any
) -> None:
    source.deliver_fixture("message")
    app._ends_at = app.clock.epoch()
    app.faults.append(Fault("/oauth.v2.access", status=502, times=9, when="after"))
    configured = app.access_token
    with caplog.at_level(logging.WARNING):
        assert texts_of(run_tap(make_tap(**rotated))) == ["Hello"]
    assert asked(app, "oauth.v2.access") == 1
    assert "polling is not complete" in caplog.text
    app.faults.clear()
    with pytest.raises(CredentialsError):  # the one good token went with the answer: a person must act
        run_tap(make_tap(**rotated, access_token=configured))


def test_an_expired_token_without_rotation_says_what_to_do(make_tap: Make, app: SlackApp, run_tap: RunTap) -> None:
    app._ends_at = app.clock.epoch()
    with pytest.raises(CredentialsError, match="nothing to refresh it with"):
        run_tap(make_tap())


def files_config(server: SandboxServer) -> dict[str, Any]:
    host = server.url.partition("://")[2]
    return {"fetch_media": True, "file_hosts": ["127.0.0.1"], "media_private_hosts": [host]}


def test_files_are_fetched_with_the_token(
    make_tap: Make, app: SlackApp, server: SandboxServer, scene: Scene, run_tap: RunTap
) -> None:
    app.share_file(scene.ada, scene.channel)
    (message,) = records_of(run_tap(make_tap(**files_config(server))))
    (file,) = message["attachments"]
    assert file["media_key"]
    assert (message["kind"], file["mime_type"]) == ("image", "image/png")


def test_a_file_of_another_organisation_is_looked_up(
    make_tap: Make, app: SlackApp, server: SandboxServer, scene: Scene, run_tap: RunTap
) -> None:
    app.hides_files = True
    app.share_file(scene.ada, scene.channel)
    (message,) = records_of(run_tap(make_tap(**files_config(server))))
    assert message["attachments"][0]["media_key"]
    assert asked(app, "files.info") == 1


def test_a_login_page_is_not_taken_for_a_picture(
    make_tap: Make, app: SlackApp, server: SandboxServer, scene: Scene, run_tap: RunTap, stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    app.share_file(scene.ada, scene.channel)
    request = TapSlack.media_request

    def without_token(self: TapSlack, attachment: Attachment, message: Message) -> Any:
        found = request(self, attachment, message)
        return type(found)(url=found.url, hosts=found.hosts) if found else None

    monkeypatch.setattr(TapSlack, "media_request", without_token)
    (message,) = records_of(run_tap(make_tap(**files_config(server))))
    assert message["attachments"][0]["media_key"] is None
    assert [one.stream for one in Parked(stores).list()] == ["media"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://files.slack.com/files-pri/T0-F0/a.png", "files.slack.com"),
        ("https://docs.example/d/1", None),
        ("https://files.slack.com.evil.example/x", None),
        (None, None),
    ],
)
def test_the_token_goes_to_slacks_host_for_files_only(
    source: WebhookSource, run_tap: RunTap, url: str | None, host: str | None
) -> None:
    source.deliver_fixture("message")
    (record,) = records_of(run_tap(TapSlack(config=source.config())))
    tap = TapSlack(config=source.config(access_token="xoxb-1", read_history=False))
    found = tap.media_request(Attachment(kind="file", url=url), Message.model_validate(record))
    assert (found.hosts if found else None) == (frozenset({host}) if host else None)
    if found:
        assert found.headers == {"Authorization": "Bearer xoxb-1"}
        assert "xoxb-1" not in repr(found)


def test_without_a_token_no_file_is_asked_for(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver_fixture("files")
    (record,) = records_of(run_tap(TapSlack(config=source.config(fetch_media=True))))
    assert [one["media_key"] for one in record["attachments"]] == [None, None]


def test_doctor_finds_a_good_account_good(make_tap: Make, app: SlackApp) -> None:
    checks = {one.what: one for one in make_tap().check()}
    assert {name: one.ok for name, one in checks.items()} == {
        "settings": True, "Web API": True, "access token": True, "scopes": True, "clock": True, "events": None,
    }  # fmt: skip
    assert "T0OURS0001" in checks["access token"].detail
    assert app.access_token not in str(checks)


def test_doctor_names_what_is_wrong(make_tap: Make, app: SlackApp) -> None:
    app.scopes -= {"users:read.email", "files:read"}
    checks = {one.what: one for one in make_tap().check()}
    assert checks["scopes"].detail == "missing: files:read, users:read.email"
    checks = {one.what: one for one in make_tap(access_token="xoxb-wrong").check()}
    assert (checks["Web API"].ok, checks["access token"].ok) == (True, False)
    app.faults.append(Fault("/auth.test", status=503, times=9))
    assert {one.what: one.ok for one in make_tap().check()}["Web API"] is False


def test_doctor_tells_when_a_rotated_token_ends(make_tap: Make, app: SlackApp, rotated: dict[str, Any]) -> None:
    assert "twelve hours" in {one.what: one.detail for one in make_tap(**rotated).check()}["access token"]
    configured, app._ends_at = app.access_token, app.clock.epoch()
    assert "valid until" in {
        one.what: one.detail for one in make_tap(**rotated, access_token=configured).check()
    }["access token"]  # fmt: skip


def test_doctor_does_without_a_token(source: WebhookSource) -> None:
    checks = {one.what: one.ok for one in TapSlack(config=source.config()).check()}
    assert checks == {"settings": True, "access token": None}


@pytest.mark.parametrize("given", [{"read_history": True}, {"refresh_token": "x"}])
def test_settings_that_cannot_work_are_refused(source: WebhookSource, run_tap: RunTap, given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        run_tap(TapSlack(config=source.config(**given)))
