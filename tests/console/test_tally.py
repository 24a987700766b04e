"""The demo's count must notice what is lost and what is doubled: it is the judge of the whole."""

from __future__ import annotations

from typing import Any

from console.tally import Heard, Tally, heard_on_messenger, heard_on_whatsapp, tally

NINE = 1_790_000_000.0


def entry(words: str, *contacts: str, at: float = NINE, channel: str = "WhatsApp") -> dict[str, Any]:
    """A communication as the stand-in holds it."""
    body = f"<p><strong>{channel} · Mia → us</strong></p><p>{words}</p>"
    properties = {"hs_communication_body": body, "hs_timestamp": str(int(at * 1000))}
    return {"properties": properties, "contacts": list(contacts)}


def test_a_message_on_one_timeline_is_neither_lost_nor_doubled() -> None:
    counted = tally([Heard("whatsapp", "Where is it?", NINE)], [entry("Where is it?", "1001")])
    assert counted == Tally(received=1, on_records=1, lost=0, doubled=0, persons=1, persons_on_several_channels=0)


def test_a_message_that_is_on_no_timeline_is_lost() -> None:
    heard = [Heard("whatsapp", "Where is it?", NINE), Heard("whatsapp", "Hello?", NINE)]
    counted = tally(heard, [entry("Hello?", "1001")])
    assert (counted.on_records, counted.lost) == (1, 1)


def test_a_message_on_an_entry_without_a_contact_is_lost() -> None:
    counted = tally([Heard("whatsapp", "Where is it?", NINE)], [entry("Where is it?")])
    assert (counted.on_records, counted.lost) == (0, 1)


def test_a_message_that_stands_twice_is_doubled() -> None:
    twice = [entry("Where is it?", "1001"), entry("Where is it?", "1001")]
    counted = tally([Heard("whatsapp", "Where is it?", NINE)], twice)
    assert (counted.on_records, counted.doubled) == (1, 1)


def test_a_message_on_two_contacts_at_once_is_doubled() -> None:
    counted = tally([Heard("whatsapp", "Where is it?", NINE)], [entry("Where is it?", "1001", "1002")])
    assert (counted.on_records, counted.doubled) == (1, 1)


def test_a_message_without_words_that_stands_twice_is_doubled() -> None:
    twice = [entry("(sticker)", "1001", channel="Messenger"), entry("(sticker)", "1001", channel="Messenger")]
    counted = tally([Heard("messenger", None, NINE)], twice)
    assert (counted.on_records, counted.doubled) == (1, 1)


def test_the_same_words_sent_twice_are_two_messages() -> None:
    heard = [Heard("whatsapp", "Hello?", NINE), Heard("whatsapp", "Hello?", NINE + 60)]
    both = tally(heard, [entry("Hello?", "1001"), entry("Hello?", "1001", at=NINE + 60)])
    assert (both.on_records, both.lost, both.doubled) == (2, 0, 0)
    one = tally(heard, [entry("Hello?", "1001")])
    assert (one.on_records, one.lost, one.doubled) == (1, 1, 0)


def test_words_within_other_words_are_not_found_there_alone() -> None:
    heard = [Heard("whatsapp", "Is it in stock?", NINE), Heard("whatsapp", "Is it", NINE + 60)]
    counted = tally(heard, [entry("Is it in stock?", "1001")])
    assert (counted.on_records, counted.lost) == (1, 1)


def test_a_message_of_another_time_is_not_the_one_without_words() -> None:
    counted = tally([Heard("messenger", None, NINE)], [entry("(sticker)", "1001", at=NINE + 60)])
    assert (counted.on_records, counted.lost) == (0, 1)


def test_an_answer_of_ours_does_not_stand_for_a_message_of_a_customer() -> None:
    ours = entry("Where is it?", "1001")
    ours["properties"]["hs_communication_body"] = "<p><strong>WhatsApp · us → Mia</strong></p><p>Where is it?</p>"
    counted = tally([Heard("whatsapp", "Where is it?", NINE)], [ours])
    assert (counted.on_records, counted.lost) == (0, 1)


def test_escaped_text_is_read_as_it_was_written() -> None:
    counted = tally([Heard("whatsapp", "5 < 6 & 7", NINE)], [entry("5 &lt; 6 &amp; 7", "1001")])
    assert (counted.on_records, counted.lost) == (1, 0)


def test_a_time_as_text_is_understood() -> None:
    told = entry("(sticker)", "1001", channel="Messenger")
    told["properties"]["hs_timestamp"] = "2026-09-21T14:13:20.000Z"
    assert tally([Heard("messenger", None, NINE)], [told]).lost == 0


def test_persons_on_several_channels_are_counted() -> None:
    rows = [entry("a1", "1001"), entry("b2", "1001", channel="Messenger"), entry("c3", "1002", channel="E-mail")]
    counted = tally([], rows)
    assert (counted.persons, counted.persons_on_several_channels) == (2, 1)


def test_what_is_no_message_on_whatsapp_is_not_heard() -> None:
    said = [
        {"id": "1", "kind": "text", "text": "Hi", "at": NINE},
        {"id": "2", "kind": "reaction", "text": "👍", "at": NINE},
        {"id": "3", "kind": "revoke", "text": None, "at": NINE},
        {"id": "4", "kind": "edit", "text": "Hello", "at": NINE},
    ]
    assert heard_on_whatsapp({"customer_messages": said}, [], {"1": "Hello"}) == [Heard("whatsapp", "Hello", NINE)]


def test_a_message_that_was_taken_back_is_heard_without_its_words() -> None:
    said = [{"id": "1", "kind": "text", "text": "My card number", "at": NINE}]
    assert heard_on_whatsapp({"customer_messages": said}, ["1"], {}) == [Heard("whatsapp", None, NINE)]


def test_everything_on_messenger_is_heard() -> None:
    said = [{"id": "1", "text": "Hi", "at": NINE}, {"id": "2", "text": None, "at": NINE}]
    assert heard_on_messenger({"customer_messages": said}) == [
        Heard("messenger", "Hi", NINE), Heard("messenger", None, NINE),
    ]  # fmt: skip


def test_several_without_words_at_one_moment_take_one_entry_each() -> None:
    heard = [Heard("messenger", None, NINE), Heard("messenger", None, NINE + 0.1), Heard("messenger", "Hi", NINE)]
    entries = [
        entry("Hi", "1001", channel="Messenger"),
        entry("(image)", "1001", channel="Messenger", at=NINE + 0.1),
        entry("(sticker)", "1001", channel="Messenger"),
    ]
    counted = tally(heard, entries)
    assert (counted.on_records, counted.lost, counted.doubled) == (3, 0, 0)
    one_more = tally(heard, [*entries, entry("(sticker)", "1001", channel="Messenger")])
    assert (one_more.on_records, one_more.lost, one_more.doubled) == (3, 0, 1)


def test_a_channel_is_told_by_its_whole_name() -> None:
    counted = tally([Heard("x", "Hi", NINE)], [entry("Hi", "1001", channel="WhatsApp")])
    assert counted.lost == 1


def test_two_customers_who_say_the_same_at_one_moment_are_two_messages() -> None:
    heard = [Heard("sms", "STOP", NINE), Heard("sms", "STOP", NINE + 5)]
    entries = [entry("STOP", "1001", channel="SMS"), entry("STOP", "1002", channel="SMS", at=NINE + 5)]
    counted = tally(heard, entries)
    assert (counted.on_records, counted.lost, counted.doubled) == (2, 0, 0)
    assert tally(heard, entries[:1]).lost == 1
    assert tally(heard, [*entries, entries[1]]).doubled == 1
