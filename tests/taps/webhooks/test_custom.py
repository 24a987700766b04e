from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from mappings.errors import PayloadError, SettingsError, SignatureError
from mappings.from_custom import PLATFORM
from taps.webhooks import custom
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import build_routes
from tests.contract.webhook import HOSTILE_BODIES, JsonBodyContract, WebhookContract
from tests.judges.environment import ask_judge

MESSAGE = {"kind": "message", "id": "m-1", "who": {"id": 7}, "text": "Grüße", "sent_at": "2026-03-01T12:00:00Z"}
EDIT = {"kind": "change", "message": "m-1", "change": "edit", "text": "Hallo", "changed_at": "2026-03-01T12:01:00Z"}


def secret_of(text: str) -> str:
    return "whsec_" + base64.b64encode(text.encode()).decode()


SECRET, PREVIOUS = secret_of("a current secret of the site"), secret_of("the secret before this one")


def sign(secret: str, body: bytes, message_id: str = "msg_1", timestamp: int | str | None = None) -> dict[str, str]:
    """The three headers, as a sender makes them."""
    timestamp = str(int(time.time()) if timestamp is None else timestamp)
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}


class TestCustomWebhook(WebhookContract, JsonBodyContract):
    slug = "custom"
    module: ClassVar[Any] = custom
    signature_header = "webhook-signature"
    current = SECRET
    previous = PREVIOUS
    body = json.dumps([MESSAGE, {**MESSAGE, "id": "m-2", "kind": "form"}, EDIT], ensure_ascii=False).encode()
    kinds = ("message", "form", "change")
    hostile_bodies: ClassVar = {
        **HOSTILE_BODIES,
        "breaking out of the list": b'[]},{"x":1',
        "another member": b'[1],"x":2',
        "the same member": b'[1],"records":[2]',
    }

    def setup_method(self) -> None:
        """Signed now, whenever the test runs."""
        headers = sign(self.current, b"")
        self.more_headers = {name: headers[name] for name in ("webhook-id", "webhook-timestamp")}

    def settings(self, secret: str, previous: str | None = None) -> custom.Settings:
        return custom.Settings.model_validate({"secret": secret, "previous_secret": previous})

    def sign(self, secret: str, body: bytes) -> str:
        timestamp = self.more_headers["webhook-timestamp"]
        return sign(secret, body, timestamp=timestamp)["webhook-signature"]


def request(headers: dict[str, str], body: bytes = b"{}", received_at: datetime | None = None) -> WebhookRequest:
    return WebhookRequest(headers=headers, body=body, received_at=received_at or datetime.now(UTC))


def settings() -> custom.Settings:
    return custom.Settings.model_validate({"secret": SECRET})


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 40 * 86_400])
def test_a_delivery_from_another_time_is_refused(seconds: int) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    headers = sign(SECRET, b"{}", timestamp=int(now.timestamp()))
    custom.verify(settings(), request(headers, received_at=now + timedelta(seconds=299 if seconds > 0 else -299)))
    with pytest.raises(SignatureError, match="five minutes"):
        custom.verify(settings(), request(headers, received_at=now + timedelta(seconds=seconds)))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed_and_signed(name: str) -> None:
    good = sign(SECRET, b"{}")
    custom.verify(settings(), request(good))
    for wrong in (None, "", "x", f"{good[name]}1", f"{good[name]}, {good[name]}"):
        headers = {header: value for header, value in {**good, name: wrong}.items() if value is not None}
        with pytest.raises(SignatureError):
            custom.verify(settings(), request(headers))


@pytest.mark.parametrize(
    ("message_id", "timestamp"),
    [("msg.1", "1772366400"), ("msg 1", "1772366400"), ("", "1772366400"), ("a,b", "1772366400"), ("m" * 257, "1"),
     ("msg", "1772366400.5"), ("msg", "-5"), ("msg", "1e9"), ("msg", "١٧٧٢"), ("msg", " 1772366400")],
)  # fmt: skip
def test_an_id_or_a_time_that_could_be_read_in_two_ways_is_refused_even_when_signed(
    message_id: str, timestamp: str
) -> None:
    headers = sign(SECRET, b"{}", message_id, timestamp)
    with pytest.raises(SignatureError, match="is not"):
        custom.verify(settings(), request(headers, received_at=datetime(2026, 3, 1, 12, tzinfo=UTC)))


def test_one_good_signature_of_several_is_enough() -> None:
    headers = sign(SECRET, b"{}")
    others = [f"v1,{base64.b64encode(bytes([number] * 32)).decode()}" for number in range(3)]
    ed25519 = f"v1a,{base64.b64encode(bytes(64)).decode()}"
    for listed in ([*others, headers["webhook-signature"]], [headers["webhook-signature"], *others], [ed25519]):
        given = request({**headers, "webhook-signature": " ".join(listed)})
        if listed == [ed25519]:
            with pytest.raises(SignatureError, match="does not match"):
                custom.verify(settings(), given)
        else:
            custom.verify(settings(), given)


def test_a_signature_of_another_version_does_not_pass_for_ours() -> None:
    headers = sign(SECRET, b"{}")
    for version in ("v2", "v1a", "v0"):
        other = headers["webhook-signature"].replace("v1", version)
        with pytest.raises(SignatureError, match="does not match"):
            custom.verify(settings(), request({**headers, "webhook-signature": other}))


def test_a_flood_of_signatures_is_not_computed() -> None:
    headers = sign(SECRET, b"{}")
    many = " ".join([headers["webhook-signature"]] * 21)
    with pytest.raises(SignatureError, match="is not a list"):
        custom.verify(settings(), request({**headers, "webhook-signature": many}))


@pytest.mark.parametrize(
    "secret", ["", " ", "whsec_", "whsec_!!!", secret_of("x" * 23), secret_of("x" * 65), "a plain word", "whsec_AAAA"]
)
def test_a_secret_that_protects_nothing_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError):
        custom.Settings.model_validate({"secret": secret})


@pytest.mark.parametrize(
    ("copied", "secret"),
    [
        (SECRET.removeprefix("whsec_"), SECRET),
        (f" {SECRET} ", SECRET),
        (secret_of("x" * 25).rstrip("="), secret_of("x" * 25)),
    ],
)
def test_a_secret_is_taken_as_people_copy_it(copied: str, secret: str) -> None:
    custom.verify(custom.Settings.model_validate({"secret": copied}), request(sign(secret, b"{}")))


def test_each_route_has_its_own_secret_and_the_unnamed_one_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETHREAD_CUSTOM_ROUTES", "forms, calls")
    monkeypatch.setenv("ONETHREAD_CUSTOM_FORMS_SECRET", SECRET)
    monkeypatch.setenv("ONETHREAD_CUSTOM_CALLS_SECRET", PREVIOUS)
    routes = build_routes({"custom": PLATFORM})
    assert set(routes) == {("custom", "forms"), ("custom", "calls")}
    headers = sign(SECRET, b"{}")
    custom.verify(routes["custom", "forms"].settings, request(headers))
    with pytest.raises(SignatureError):
        custom.verify(routes["custom", "calls"].settings, request(headers))


def test_a_route_without_a_secret_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETHREAD_CUSTOM_ROUTES", "forms")
    with pytest.raises(SettingsError, match="ONETHREAD_CUSTOM_FORMS_SECRET"):
        build_routes({"custom": PLATFORM})


def test_one_record_or_a_list_of_records() -> None:
    (single,) = custom.split(json.dumps(MESSAGE).encode())
    (listed,) = custom.split(json.dumps([MESSAGE]).encode())
    assert single == listed
    assert single.payload == {"record": MESSAGE}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (MESSAGE, {**MESSAGE, "text": "corrected"}, True),
        (MESSAGE, {**MESSAGE, "kind": "form"}, True),
        ({**MESSAGE, "id": 1}, {**MESSAGE, "id": "1 "}, True),
        ({**MESSAGE, "id": True}, {**MESSAGE, "id": "True"}, False),
        (MESSAGE, {**MESSAGE, "id": "m-2"}, False),
        (EDIT, {**EDIT, "text": "Hi"}, False),
        ({**EDIT, "id": "m-1"}, MESSAGE, False),
        ({**MESSAGE, "id": None}, {**MESSAGE, "id": None}, True),
        ({**MESSAGE, "id": None}, {**MESSAGE, "id": None, "text": "another"}, False),
        ({**MESSAGE, "kind": "fax"}, {**MESSAGE, "kind": "fax", "text": "another"}, False),
    ],
)
def test_a_record_is_known_again_by_its_id_else_by_what_it_says(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    first, second = custom.split(json.dumps([one, other]).encode())
    assert (first.key == second.key) is same


@pytest.mark.parametrize("body", [b"[]", b" [ ] ", b"7", b'"x"', b"", b"null", b"true"])
def test_what_holds_no_record_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError, match=r"neither a record|not JSON"):
        custom.split(body)


def test_the_code_on_the_page_signs() -> None:
    page = (Path(custom.__file__).parents[1] / "custom.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(block), names)
    custom.verify(settings(), request(names["headers"](SECRET, "msg_1", b"{}")))


BODIES = ["{}", json.dumps([MESSAGE], ensure_ascii=False), '{"text": "a.b.c\\n"}', " " * 100]


@pytest.mark.slow
def test_what_the_projects_own_library_signs_is_taken() -> None:
    now = int(time.time())
    cases = [{"secret": SECRET, "id": f"msg_{n}", "timestamp": now, "body": body} for n, body in enumerate(BODIES)]
    for case, verdict in zip(
        cases, ask_judge("standardwebhooks", "standard_webhooks.py", {"cases": cases}), strict=True
    ):
        headers = {"webhook-id": case["id"], "webhook-timestamp": str(now), "webhook-signature": verdict["signature"]}
        body = str(case["body"]).encode()
        custom.verify(settings(), request(headers, body))
        with pytest.raises(SignatureError):
            custom.verify(settings(), request(headers, body + b" "))


@pytest.mark.slow
def test_the_projects_own_library_agrees_about_good_and_bad() -> None:
    now = int(time.time())
    good = {"secret": SECRET, "id": "msg_1", "timestamp": now, "body": BODIES[1]}
    headers = sign(SECRET, BODIES[1].encode(), timestamp=now)
    several = {
        **headers,
        "webhook-signature": f"v1,{base64.b64encode(bytes(32)).decode()} {headers['webhook-signature']}",
    }
    old = sign(SECRET, BODIES[1].encode(), timestamp=now - 400)
    tried = [headers, several, old, sign(PREVIOUS, BODIES[1].encode(), timestamp=now), {**headers, "webhook-id": "m"}]
    verdicts = ask_judge(
        "standardwebhooks", "standard_webhooks.py", {"cases": [{**good, "headers": one} for one in tried]}
    )

    def ours(given: dict[str, str]) -> bool:
        try:
            custom.verify(settings(), request(given, BODIES[1].encode()))
        except SignatureError:
            return False
        return True

    assert [one["valid"] for one in verdicts] == [ours(one) for one in tried] == [True, True, False, False, False]
