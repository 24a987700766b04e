from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mappings.errors import SignatureError
from taps.webhooks import whatsapp
from tests.contract.webhook import HandshakeContract, JsonBodyContract, WebhookContract

METADATA = {"display_phone_number": "12025550100", "phone_number_id": "106540352242922"}
ANNA = {"profile": {"name": "Anna"}, "wa_id": "447700900123", "user_id": "GB.1122334455667788"}
BEN = {"profile": {"name": "Ben", "username": "ben"}, "user_id": "US.9988776655443322"}


def message(wamid: str, **fields: Any) -> dict[str, Any]:
    return {"id": wamid, "timestamp": "1760000000", "type": "text", "text": {"body": "Grüße"}, **fields}


def change(field: str, **value: Any) -> dict[str, Any]:
    return {"field": field, "value": {"messaging_product": "whatsapp", "metadata": METADATA, **value}}


def delivery(*changes: Any, waba_id: str = "102290129340398") -> bytes:
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": waba_id, "changes": [*changes]}]}
    ).encode()


STATUSES = [{"id": "wamid.out", "status": name, "timestamp": "1760000001"} for name in ("sent", "delivered", "read")]


class TestWhatsAppWebhook(WebhookContract, HandshakeContract, JsonBodyContract):
    slug = "whatsapp"
    module: ClassVar[Any] = whatsapp
    signature_header = "X-Hub-Signature-256"
    body = json.dumps(
        {
            "object": "whatsapp_business_account",
            "entry": [
                {
                    "id": "1",
                    "changes": [
                        change(
                            "messages",
                            contacts=[ANNA, BEN],
                            messages=[
                                message("wamid.1", **{"from": "447700900123"}),
                                message("wamid.2", from_user_id="US.9988776655443322"),
                            ],
                        ),
                        change("messages", statuses=STATUSES),
                    ],
                },
                {"id": "2", "changes": [change("messages", contacts=[ANNA], messages=[message("wamid.3")])]},
            ],
        }
    ).encode()
    kinds = ("message", "message", "status", "status", "status", "message")
    handshake: ClassVar = {"hub.mode": "subscribe", "hub.verify_token": "our-word", "hub.challenge": "1158201444"}
    handshake_answer = "1158201444"
    wrong_handshakes: ClassVar = (
        {**handshake, "hub.verify_token": "our-wor"},
        {**handshake, "hub.verify_token": ""},
        {**handshake, "hub.verify_token": "wörd"},
        {"hub.mode": "subscribe", "hub.challenge": "1158201444"},
        {**handshake, "hub.challenge": "<script>alert(1)</script>"},
        {**handshake, "hub.challenge": "1\r\nSet-Cookie: a=b"},
        {**handshake, "hub.challenge": ""},
    )

    def settings(self, secret: str, previous: str | None = None) -> whatsapp.Settings:
        return whatsapp.Settings.model_validate(
            {"app_secret": secret, "previous_app_secret": previous, "verify_token": "our-word"}
        )

    def sign(self, secret: str, body: bytes) -> str:
        return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_batch_of_three_accounts_two_changes_four_messages_and_five_statuses_is_split_whole() -> None:
    entries: list[dict[str, Any]] = [
        {
            "id": f"waba{entry}",
            "changes": [
                change("messages", messages=[message(f"wamid.{entry}{part}{n}") for n in range(4)]) for part in range(2)
            ],
        }
        for entry in range(3)
    ]
    statuses = [{"id": f"wamid.{n}", "status": "sent"} for n in range(5)]
    entries[2]["changes"].append(change("messages", statuses=statuses))
    items = whatsapp.split(json.dumps({"object": "whatsapp_business_account", "entry": entries}).encode())
    assert len(items) == 29
    accounts = [item.payload["waba_id"] for item in items if item.kind == "message"]
    assert accounts == ["waba0"] * 8 + ["waba1"] * 8 + ["waba2"] * 8


def test_a_message_comes_with_its_account_its_number_and_its_own_contact() -> None:
    first, second = whatsapp.split(
        delivery(
            change(
                "messages",
                contacts=[BEN, ANNA],
                messages=[
                    message("wamid.1", **{"from": "447700900123"}),
                    message("wamid.2", from_user_id=BEN["user_id"]),
                ],
            )
        )
    )
    assert first.payload["waba_id"] == "102290129340398"
    assert first.payload["field"] == "messages"
    assert first.payload["metadata"] == METADATA
    assert first.payload["contact"] == ANNA
    assert first.payload["item"]["text"]["body"] == "Grüße"
    assert second.payload["contact"] == BEN
    assert (first.key, second.key) == ("wamid.1", "wamid.2")


def test_a_contact_is_never_guessed() -> None:
    (item,) = whatsapp.split(
        delivery(change("messages", contacts=[ANNA], messages=[message("wamid.1", **{"from": "12025550199"})]))
    )
    assert item.payload["contact"] is None


def test_a_message_that_names_nobody_gets_the_only_contact_there_is() -> None:
    alone = whatsapp.split(delivery(change("messages", contacts=[ANNA], messages=[message("wamid.1")])))
    among = whatsapp.split(delivery(change("messages", contacts=[ANNA, BEN], messages=[message("wamid.1")])))
    assert alone[0].payload["contact"] == ANNA
    assert among[0].payload["contact"] is None


def test_each_status_of_a_message_has_a_key_of_its_own() -> None:
    items = whatsapp.split(delivery(change("messages", statuses=STATUSES)))
    assert [item.key for item in items] == ["wamid.out:sent", "wamid.out:delivered", "wamid.out:read"]


def test_a_message_that_stands_twice_in_one_delivery_has_one_key() -> None:
    twice = [message("wamid.1"), message("wamid.1")]
    items = whatsapp.split(delivery(change("messages", messages=twice)))
    assert [item.key for item in items] == ["wamid.1", "wamid.1"]


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("smb_message_echoes", {"message_echoes": [message("wamid.e", to="447700900123")]}, "message_echo"),
        ("user_preferences", {"user_preferences": [{"wa_id": "447700900123", "value": "stop"}]}, "user_preference"),
        ("user_id_update", {"user_id_update": [{"user_id": {"previous": "a", "current": "b"}}]}, "user_id_update"),
        ("group_lifecycle_update", {"groups": [{"group_id": "g", "type": "group_create"}]}, "group_event"),
        ("smb_app_state_sync", {"state_sync": [{"type": "contact", "action": "add"}]}, "contact_sync"),
        ("messages", {"errors": [{"code": 130429}]}, "error"),
        ("history", {"messages": [message("wamid.media")]}, "history_message"),
        ("history", {"history": [{"errors": [{"code": 2593109}]}]}, "error"),
        ("account_update", {"event": "VERIFIED_ACCOUNT", "phone_number": "12025550100"}, "other"),
        ("messages", {"messages": []}, "other"),
        ("messages", {"a_new_array": [{"x": 1}]}, "other"),
        ("history", {"history": [{"metadata": {"phase": 2}, "threads": []}]}, "other"),
    ],
)
def test_every_kind_of_change_is_named(field: str, value: dict[str, Any], kind: str) -> None:
    (item,) = whatsapp.split(delivery(change(field, **value)))
    assert (item.kind, item.payload["field"]) == (kind, field)


def test_history_messages_carry_their_thread_and_their_chunk() -> None:
    chunk = {"phase": 1, "chunk_order": 2, "progress": 50}
    threads = [
        {"id": "447700900123", "messages": [message("wamid.1"), message("wamid.2")]},
        {"id": "447700900124", "messages": [message("wamid.3")]},
    ]
    items = whatsapp.split(delivery(change("history", history=[{"metadata": chunk, "threads": threads}])))
    assert [(item.kind, item.key) for item in items] == [
        ("history_message", "wamid.1"),
        ("history_message", "wamid.2"),
        ("history_message", "wamid.3"),
    ]
    assert items[2].payload["history"] == chunk
    assert items[2].payload["thread"] == {"id": "447700900124"}


def test_the_contact_of_a_changed_user_id_is_found_by_the_new_one() -> None:
    update = {"user_id": {"previous": "GB.1", "current": "GB.1122334455667788"}}
    (item,) = whatsapp.split(delivery(change("user_id_update", contacts=[BEN, ANNA], user_id_update=[update])))
    assert item.payload["contact"] == ANNA


def test_an_array_nobody_knows_is_shown_beside_the_messages() -> None:
    items = whatsapp.split(
        delivery(change("messages", messages=[message("wamid.1")], calls_2027=[{"id": 1}, {"id": 2}]))
    )
    assert [item.kind for item in items] == ["message", "other", "other"]
    assert items[1].payload["item"] == {"calls_2027": {"id": 1}}


def test_a_broken_part_among_good_ones_becomes_other_and_the_good_ones_flow() -> None:
    items = whatsapp.split(
        delivery("nonsense", change("messages", messages=[7, message("wamid.1")]), {"field": "messages", "value": None})
    )
    assert [item.kind for item in items] == ["other", "other", "message", "other"]


def test_events_without_an_id_are_keyed_by_what_they_say() -> None:
    stop, again, resume = (
        whatsapp.split(delivery(change("user_preferences", user_preferences=[{"wa_id": "1", "value": value}])))[0].key
        for value in ("stop", "stop", "resume")
    )
    assert stop == again != resume


def test_a_delivery_of_thousands_of_messages_and_contacts_is_split_in_one_pass() -> None:
    contacts = [{"wa_id": f"4477009{n:05}"} for n in range(10_000)]
    messages = [message(f"wamid.{n}", **{"from": f"4477009{n:05}"}) for n in range(10_000)]
    items = whatsapp.split(delivery(change("messages", contacts=contacts, messages=messages)))
    assert all(item.payload["contact"]["wa_id"] == item.payload["item"]["from"] for item in items)


def test_metas_own_examples_are_one_event_each() -> None:
    folder = os.environ.get("ONETHREAD_DATA")
    if not folder:
        pytest.skip("ONETHREAD_DATA is not set: Meta's webhook examples are not here")
    examples = json.loads((Path(folder) / "whatsapp" / "official_webhook_examples.json").read_text(encoding="utf-8"))
    for name, example in examples.items():
        (item,) = whatsapp.split(json.dumps(example).encode())
        assert item.kind == ("group_event" if name.startswith("Group") else "message"), name


JUDGE = Path(__file__).parents[3] / ".venvs" / "judges" / "bin" / "python"
JUDGEMENT = """
import json, sys
from pywa.utils import webhook_updates_validator
cases = json.load(sys.stdin)
print(json.dumps([
    webhook_updates_validator(app_secret=secret, request_body=body.encode("latin-1"), x_hub_signature=signature)
    for secret, body, signature in cases
]))
"""


def test_pywa_takes_and_refuses_the_same_signatures() -> None:
    if not JUDGE.exists():
        pytest.skip("the judge pywa is not installed in .venvs/judges")
    contract = TestWhatsAppWebhook()
    body = contract.body
    good = contract.sign("secret-of-the-app", body)
    cases = [
        ("secret-of-the-app", body, good),
        ("another-secret", body, good),
        ("secret-of-the-app", body + b" ", good),
        ("secret-of-the-app", body, contract.sign("another-secret", body)),
        ("secret-of-the-app", b'{"text":"\\u00e4 \xc3\xa4"}', contract.sign("secret-of-the-app", body)),
    ]
    given = json.dumps([(secret, content.decode("latin-1"), signature) for secret, content, signature in cases])
    judged = subprocess.run([JUDGE, "-c", JUDGEMENT], input=given, capture_output=True, text=True, check=True).stdout
    ours = []
    for secret, content, signature in cases:
        try:
            whatsapp.verify(contract.settings(secret), contract.signed(content, signature))
        except SignatureError:
            ours.append(False)
        else:
            ours.append(True)
    assert json.loads(judged) == ours == [True, False, False, False, False]
