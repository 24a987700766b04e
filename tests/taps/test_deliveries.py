"""The base of webhook-fed taps: repeats, replays, crashes, following, and deliveries that nobody can read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from mappings.errors import SettingsError
from mappings.records import Message, Record
from stores.database import Stores
from stores.deliveries import Deliveries
from stores.items import Items
from stores.parked import Parked
from taps.base import Checkpoint
from taps.webhooks.items import Item
from taps.whatsapp import TapWhatsApp
from tests.taps.webhook_source import RECEIVED_AT, WebhookSource

RunTap = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture
def source(stores: Stores, state_url: str) -> Iterator[WebhookSource]:
    made = WebhookSource(stores, state_url, TapWhatsApp, {})
    yield made
    made.close()


def tap_of(source: WebhookSource, state: dict[str, Any] | None = None, **config: Any) -> TapWhatsApp:
    return TapWhatsApp(config=source.config(**config), state=state or {})


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [one["record"]["text"] for one in messages if one["type"] == "RECORD" and one["stream"] == "messages"]


def state_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = [one["value"] for one in messages if one["type"] == "STATE"][-1]
    return value


def text(body: str, number: int = 1) -> dict[str, Any]:
    message = {"from": "447700900123", "id": f"wamid.{number}", "timestamp": "1772366400", "type": "text",
               "text": {"body": body}}  # fmt: skip
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"}, "messages": [message]}
    return {"object": "whatsapp_business_account", "entry": [{"id": "2", "changes": [{"field": "messages",
                                                                                     "value": value}]}]}  # fmt: skip


def repeated(body: dict[str, Any]) -> dict[str, Any]:
    """The same event in another delivery: the bytes differ."""
    return {**body, "entry": [{**entry, "time": 5} for entry in body["entry"]]}


def test_an_event_that_comes_again_in_another_delivery_is_left_out(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("once"))
    source.deliver(repeated(text("once")))
    tap = tap_of(source)
    assert texts(run_tap(tap)) == ["once"]
    assert tap.repeats == 1


def test_a_repeat_days_later_is_left_out_by_the_next_run(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("once"))
    state = state_of(run_tap(tap_of(source)))
    source.deliver(repeated(text("once")), at=RECEIVED_AT + timedelta(days=7))
    again = run_tap(tap_of(source, state))
    assert texts(again) == []
    assert state_of(again)["bookmarks"]["cursor"]["delivery_id"] == 2


def test_two_messages_that_say_the_same_are_two_messages(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("ok", 1))
    source.deliver(text("ok", 2))
    assert texts(run_tap(tap_of(source))) == ["ok", "ok"]


def test_the_same_ids_on_two_numbers_are_two_messages(source: WebhookSource, run_tap: RunTap) -> None:
    other = text("two")
    other["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "9"
    source.deliver(text("one"))
    source.deliver(other)
    assert texts(run_tap(tap_of(source))) == ["one", "two"]


def test_a_route_is_read_alone_and_remembers_alone(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("one"))
    source.deliver(repeated(text("one")), route="second")
    assert texts(run_tap(tap_of(source))) == ["one"]
    assert texts(run_tap(tap_of(source, route="second"))) == ["one"]


def test_a_crash_after_the_claim_and_before_the_state_loses_nothing(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("one", 1))
    source.deliver(text("two", 2))
    reading = tap_of(source).read()
    next(reading)  # all events of the page are claimed now
    reading.close()  # type: ignore[attr-defined]  # a generator: what kill -9 leaves is the same, without the close
    assert texts(run_tap(tap_of(source))) == ["one", "two"]


def test_a_state_that_went_back_gives_everything_after_it_again(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("one", 1))
    early = state_of(run_tap(tap_of(source)))
    source.deliver(text("two", 2))
    run_tap(tap_of(source, early))
    assert texts(run_tap(tap_of(source, early))) == ["two"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 100_000, b'{"n":NaN}'])
def test_a_body_that_nobody_can_read_is_parked_with_its_bytes(
    source: WebhookSource, run_tap: RunTap, stores: Stores, body: bytes
) -> None:
    delivery_id = source.deliver(body)
    source.deliver(text("after"))
    assert texts(run_tap(tap_of(source))) == ["after"]
    (parked,) = Parked(stores).list()
    assert (parked.stream, parked.raw_ref) == ("deliveries", f"delivery:{delivery_id}")


def test_a_bad_event_is_parked_with_the_reason_and_the_good_ones_flow(
    source: WebhookSource, run_tap: RunTap, stores: Stores
) -> None:
    source.deliver_fixture("batch")
    assert texts(run_tap(tap_of(source))) == ["one", "three", "four, to the other number"]
    (parked,) = Parked(stores).list()
    assert (parked.error, parked.reason) == ("MissingFieldError", "WhatsApp message: from is int, not a text")
    assert (parked.part, parked.stream, parked.raw_ref) == ("tap-whatsapp", "items", "delivery:1#1")


def test_a_mapping_that_breaks_parks_the_event_and_tells_no_content(
    source: WebhookSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TapWhatsApp.records_of

    def broken(self: TapWhatsApp, item: Any, received_at: Any, raw_ref: str) -> Any:
        if item.key == "wamid.1":
            raise KeyError(item.payload["item"]["text"]["body"])
        return original(self, item, received_at, raw_ref)

    monkeypatch.setattr(TapWhatsApp, "records_of", broken)
    source.deliver(text("my secret", 1))
    source.deliver(text("fine", 2))
    assert texts(run_tap(tap_of(source))) == ["fine"]
    (parked,) = Parked(stores).list()
    assert (parked.error, "secret" in parked.reason) == ("UnknownShapeError", False)


def parked_then_fixed(source: WebhookSource, run_tap: RunTap, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Deliver one text, let the mapping refuse it, mend the mapping; the state after the first run."""
    with monkeypatch.context() as patch:
        patch.setattr(TapWhatsApp, "records_of", lambda *_: (_ for _ in ()).throw(ValueError()))
        source.deliver(text("late but here"))
        return state_of(run_tap(tap_of(source)))


def test_what_was_parked_is_mapped_again_when_asked_for(
    source: WebhookSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = parked_then_fixed(source, run_tap, monkeypatch)
    assert texts(run_tap(tap_of(source, state))) == []
    Parked(stores).ask_replay([one.parked_id for one in Parked(stores).list()])
    assert texts(run_tap(tap_of(source, state))) == ["late but here"]


def test_a_replay_is_finished_only_when_its_state_has_come_back(
    source: WebhookSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked = Parked(stores)
    state = parked_then_fixed(source, run_tap, monkeypatch)
    parked.ask_replay([one.parked_id for one in parked.list()])
    after = state_of(run_tap(tap_of(source, state)))
    assert parked.count("replay") == 1
    assert texts(run_tap(tap_of(source, state))) == ["late but here"]  # the state was lost: once more
    assert texts(run_tap(tap_of(source, after))) == []
    assert (parked.count("replay"), parked.count("replayed")) == (0, 1)


def test_what_fails_again_in_a_replay_is_parked_again(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    parked = Parked(stores)
    source.deliver_fixture("unknown_field")
    state = state_of(run_tap(tap_of(source)))
    parked.ask_replay([one.parked_id for one in parked.list()])
    run_tap(tap_of(source, state))
    (row,) = parked.list()
    assert (row.status, row.tries) == ("parked", 2)


def test_a_parked_body_is_split_again_when_asked_for(
    source: WebhookSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("taps.webhooks.whatsapp.parse_body", _refuse)
        source.deliver(text("out of a body"))
        state = state_of(run_tap(tap_of(source)))
    Parked(stores).ask_replay([one.parked_id for one in Parked(stores).list()])
    (record,) = [one["record"] for one in run_tap(tap_of(source, state)) if one["type"] == "RECORD"]
    assert (record["text"], record["raw_ref"]) == ("out of a body", "delivery:1#0")


def _refuse(body: bytes) -> Any:
    from mappings.errors import PayloadError

    raise PayloadError("not today")


def test_another_routes_parked_events_are_left_to_it(
    source: WebhookSource, run_tap: RunTap, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked_then_fixed(source, run_tap, monkeypatch)
    Parked(stores).ask_replay([one.parked_id for one in Parked(stores).list()])
    assert texts(run_tap(tap_of(source, route="second"))) == []
    assert Parked(stores).count("replay") == 1


def test_deliveries_that_were_replaced_are_noticed(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("one"))
    state = state_of(run_tap(tap_of(source)))
    state["bookmarks"]["cursor"]["delivery_id"] = 500
    assert texts(run_tap(tap_of(source, state))) == []  # a bookmark that is only far ahead, by retention, is fine
    source.deliver(text("of a new file", 2), at=RECEIVED_AT + timedelta(hours=1))
    with pytest.raises(SettingsError, match="full-refresh"):
        run_tap(tap_of(source, state))


def test_without_following_a_run_ends_at_what_was_there_when_it_began(source: WebhookSource) -> None:
    source.deliver(text("one", 1))
    seen = []
    for item in tap_of(source).read():
        if isinstance(item, Checkpoint):
            continue
        seen.append(item)
        source.deliver(text("more", len(seen) + 1))  # never ends if it chased what arrives
        assert len(seen) < 5
    assert len(seen) >= 1


def test_following_reads_what_arrives_meanwhile(source: WebhookSource, state_url: str) -> None:
    source.deliver(text("one", 1))
    tap = tap_of(source, follow_seconds=20)
    seen: list[str | None] = []
    for item in tap.read():
        if isinstance(item, Checkpoint):
            if seen == ["one"] and item.heartbeat:
                source.deliver(text("two", 2))
            elif seen == ["one", "two"]:
                tap._stop_requested = True
        elif isinstance(item, Message):
            seen.append(item.text)
    assert seen == ["one", "two"]


def test_following_beats_while_nothing_comes(source: WebhookSource) -> None:
    beats = [item for item in tap_of(source, follow_seconds=2.5).read() if isinstance(item, Checkpoint)]
    assert any(beat.heartbeat for beat in beats)


def test_a_stop_ends_the_following_at_once(source: WebhookSource, run_tap: RunTap) -> None:
    tap = tap_of(source, follow_seconds=3600)
    timer = threading.Timer(0.5, lambda: setattr(tap, "_stop_requested", True))
    timer.start()
    with pytest.raises(SystemExit) as stopped:
        run_tap(tap)
    timer.join()
    assert stopped.value.code == 143


def test_the_tap_does_not_write_the_deliveries(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver(text("one"))
    reader = Deliveries(stores)
    before = reader.count()
    run_tap(tap_of(source))
    assert reader.count() == before == 1
    reader.close()


def test_missing_words_file_is_a_settings_error(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("one"))
    with pytest.raises(SettingsError, match="keywords_file"):
        run_tap(tap_of(source, keywords_file="no/such/file.csv"))


def test_items_remember_the_kind_and_the_platforms_time(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver_fixture("batch")
    run_tap(tap_of(source))
    assert Items(stores).counts("whatsapp") == {"message": 4, "status": 1}


# Looking where a webhook only rings


class Ringing(TapWhatsApp):
    """A platform whose deliveries bring nothing: each rings for a look, which finds `there`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bells = 0
        self.looks: list[int] = []
        self.there: list[tuple[Item, datetime | None]] = []

    def records_of(self, item: Item, received_at: datetime, raw_ref: str) -> Sequence[Record]:
        if raw_ref.startswith("poll:"):
            return super().records_of(item, received_at, raw_ref)
        self.bells += 1
        return []

    def rings(self) -> bool:
        return self.bells > 0

    def poll(self, items: Items) -> Iterator[Record | Checkpoint]:
        self.looks.append(self.bells)
        self.bells = 0
        yield from self.emit_polled(items, self.there, len(self.looks))
        yield Checkpoint({"poll_pass": len(self.looks)})


def test_each_run_looks_once_and_again_for_what_rang(source: WebhookSource, run_tap: RunTap) -> None:
    for number in range(3):
        source.deliver(text("bell", number))
    tap = Ringing(config=source.config())
    run_tap(tap)
    assert tap.looks == [3]  # all that had rung before the look
    state = state_of(run_tap(Ringing(config=source.config())))
    quiet = Ringing(config=source.config(), state=state)
    run_tap(quiet)
    assert quiet.looks == [0]


def test_a_bell_is_answered_also_where_nothing_is_polled(source: WebhookSource, run_tap: RunTap) -> None:
    source.deliver(text("bell"))
    tap = Ringing(config=source.config())
    tap.polls = False
    run_tap(tap)
    assert tap.looks == [1]


def test_what_a_webhook_was_not_to_bring_is_not_missed(source: WebhookSource, run_tap: RunTap, stores: Stores) -> None:
    source.deliver(text("bell"))
    tap = Ringing(config=source.config())
    run_tap(tap)
    items = Items(stores)
    found = [(Item(0, "message", {}, key), RECEIVED_AT) for key in ("a", "b")]
    assert tap.unseen(items, found, 1, expected=lambda item, _: item.key == "a") == [one for one, _ in found]
    assert (tap.missed, items.missed()) == (1, {"whatsapp": 1})
    assert tap.unseen(items, found, 2) == []
