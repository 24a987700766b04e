from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.errors import PayloadError, SignatureError
from stores.database import Stores
from taps.webhooks import twilio
from taps.webhooks.items import WebhookRequest
from taps.webhooks.receiver import WebhookRoute
from tests.contract.webhook import HOSTILE_BODIES, PUBLIC_URL, RunningReceiver, WebhookContract, running_receiver
from tests.judges.environment import ask_judge

ADDRESS = f"{PUBLIC_URL}/webhooks/twilio"
FORM = {
    "MessageSid": "SM1", "AccountSid": "AC1", "From": "+447700900123", "To": "+12025550100",
    "Body": "Grüße 😀 & 17+4=21", "NumMedia": "0", "FromCity": "",
}  # fmt: skip


def signature_of(secret: str, body: bytes, url: str = ADDRESS, digest: str = "sha1") -> str:
    """As Twilio's pages describe it: the address, then every parameter sorted, name and value."""
    pairs = {tuple(part.replace(b"+", b" ").partition(b"=")[::2]) for part in body.split(b"&") if part}
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, value in pairs)
    text = url.encode() + b"".join(name + value for name, value in decoded)
    return base64.b64encode(hmac.new(secret.encode(), text, digest).digest()).decode()


class TestTwilioWebhook(WebhookContract):
    slug = "twilio"
    module: ClassVar[Any] = twilio
    signature_header = "X-Twilio-Signature"
    content_type = "application/x-www-form-urlencoded; charset=UTF-8"
    body = urlencode(FORM).encode()
    kinds = ("message",)
    answer = b"<Response/>"
    hostile_bodies: ClassVar = {
        **HOSTILE_BODIES,
        "1001 parameters": b"&".join(b"p%d=1" % number for number in range(1001)),
        "a word between parameters": b"MessageSid=SM1&hello&Body=x",
        "separators alone": b"&&&",
    }

    def settings(self, secret: str, previous: str | None = None) -> twilio.Settings:
        return twilio.Settings.model_validate({"auth_token": secret, "previous_auth_token": previous})

    def sign(self, secret: str, body: bytes) -> str:
        return signature_of(secret, body)

    def test_the_answer_is_twiml_without_words(self, receiver: RunningReceiver) -> None:
        answer = self.post(receiver, self.body, self.sign(self.current, self.body))
        assert answer.headers["content-type"] == "text/xml; charset=utf-8"

    def test_a_get_is_no_handshake(self, receiver: RunningReceiver) -> None:
        assert receiver.request("GET", "/webhooks/twilio?MessageSid=SM1").status == 405

    def test_what_tells_a_repeat_is_kept_and_no_secret(self, receiver: RunningReceiver) -> None:
        headers = [("Content-Type", self.content_type), ("X-Twilio-Signature", self.sign(self.current, self.body)),
                   ("I-Twilio-Idempotency-Token", "token-1"), ("Authorization", "Basic x")]  # fmt: skip
        receiver.request("POST", "/webhooks/twilio", self.body, headers)
        (delivery,) = receiver.stored.read("twilio", "default", 0, 10)
        assert delivery.headers["i-twilio-idempotency-token"] == "token-1"
        assert "authorization" not in delivery.headers


SECRET = "current-secret-0123456789"


def checked(**more: Any) -> twilio.Settings:
    return twilio.Settings.model_validate({"auth_token": SECRET, **more})


def request_of(body: bytes, signature: str, url: str = ADDRESS, **headers: str) -> WebhookRequest:
    kept = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    query = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebhookRequest(url=url, query=query, headers={**kept, **named}, body=body)


def accepts(request: WebhookRequest, **more: Any) -> bool:
    try:
        twilio.verify(checked(**more), request)
    except SignatureError:
        return False
    return True


BODY = urlencode(FORM).encode()


@pytest.mark.parametrize(
    ("called", "signed"),
    [("https://shop.example/w", "https://shop.example:443/w"), ("https://shop.example:443/w", "https://shop.example/w"),
     ("http://shop.example/w", "http://shop.example:80/w"), ("https://shop.example:8443/w", "https://shop.example/w"),
     ("https://ada:pw@shop.example/w?a=b", "https://ada:pw@shop.example:443/w?a=b"),
     ("https://[2001:db8::1]/w", "https://[2001:db8::1]:443/w"),
     ("https://shop.example/w", "https://shop.example/w")],
)  # fmt: skip
def test_the_address_is_tried_with_its_port_and_without(called: str, signed: str) -> None:
    assert accepts(request_of(BODY, signature_of(SECRET, BODY, signed), called))


@pytest.mark.parametrize(
    "signed",
    ["http://hooks.shop.example/webhooks/twilio", "https://other.example/webhooks/twilio", f"{ADDRESS}/shop2",
     f"{ADDRESS}?a=b", f"{PUBLIC_URL}:8443/webhooks/twilio"],
)  # fmt: skip
def test_another_address_is_refused(signed: str) -> None:
    assert not accepts(request_of(BODY, signature_of(SECRET, BODY, signed)))


@pytest.mark.parametrize("host", ["[", "shop.example]", "a:b:c", "", "\u2100.example"])
def test_an_address_that_is_none_is_refused_and_no_fault_of_ours(host: str) -> None:
    assert not accepts(request_of(BODY, signature_of(SECRET, BODY), f"https://{host}/webhooks/twilio"))


def test_behind_a_proxy_the_public_address_counts(stores: Stores) -> None:
    headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Host", "10.0.0.7:8080"),
               ("X-Twilio-Signature", signature_of(SECRET, BODY))]  # fmt: skip
    for public_url, status in ((PUBLIC_URL, 200), (None, 401)):
        routes = {("twilio", "default"): WebhookRoute(twilio, checked())}
        with running_receiver(stores, routes, public_url=public_url) as receiver:
            assert receiver.request("POST", "/webhooks/twilio", BODY, headers).status == status


def test_an_empty_parameter_is_part_of_what_is_signed() -> None:
    with_it, without = b"Body=&MessageSid=SM1", b"MessageSid=SM1"
    assert accepts(request_of(with_it, signature_of(SECRET, with_it)))
    assert not accepts(request_of(without, signature_of(SECRET, with_it)))


def test_a_value_that_comes_twice_counts_once_and_the_order_does_not_matter() -> None:
    signed = signature_of(SECRET, b"a=1&a=2&b=3")
    assert accepts(request_of(b"b=3&a=2&a=1&a=2", signed))
    assert not accepts(request_of(b"a=1&b=3", signed))


def test_new_parameters_change_nothing() -> None:
    body = BODY + b"&SomethingOf2027=yes"
    assert accepts(request_of(body, signature_of(SECRET, body)))
    (item,) = twilio.split(body)
    assert (item.kind, item.payload["form"]["SomethingOf2027"]) == ("message", "yes")


# -- JSON --------------------------------------------------------------------------------------------------------------

JSON_BODY = json.dumps({"MessageSid": "SM1", "Body": "Hi"}).encode()
JSON_ADDRESS = f"{ADDRESS}?bodySHA256={hashlib.sha256(JSON_BODY).hexdigest()}"
JSON_SIGNATURE = signature_of(SECRET, b"", JSON_ADDRESS)


def test_a_json_body_is_bound_by_its_digest_in_the_signed_address() -> None:
    request = request_of(JSON_BODY, JSON_SIGNATURE, JSON_ADDRESS, content_type="application/json")
    assert accepts(request)
    assert not accepts(replace(request, body=JSON_BODY.replace(b"Hi", b"Ho")))


def test_a_json_body_without_a_digest_is_refused_though_the_address_is_signed() -> None:
    assert not accepts(request_of(JSON_BODY, signature_of(SECRET, b""), content_type="application/json"))


def test_a_signed_address_cannot_be_taken_for_a_form() -> None:
    captured = request_of(b"", JSON_SIGNATURE, JSON_ADDRESS)
    assert not accepts(captured)
    assert not accepts(replace(captured, body=JSON_BODY, headers={**captured.headers, "content-type": "text/plain"}))


def test_a_digest_that_is_no_digest_is_refused() -> None:
    url = f"{ADDRESS}?bodySHA256=\u00e9"
    request = request_of(JSON_BODY, signature_of(SECRET, b"", url), url, content_type="application/json")
    assert not accepts(request)


# -- shared keys -------------------------------------------------------------------------------------------------------

SHARED = {"x_twilio_webhooks_signature_settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}


def test_a_shared_key_signs_with_the_algorithm_that_the_header_names() -> None:
    request = request_of(BODY, signature_of("the shared key", BODY, digest="sha256"), **SHARED)
    assert accepts(request, shared_key="the shared key")
    assert accepts(request, shared_key="a newer one", previous_shared_key="the shared key")
    assert not accepts(request, shared_key="a newer one")


def test_auth_token_and_shared_key_do_not_stand_for_each_other() -> None:
    assert not accepts(request_of(BODY, signature_of(SECRET, BODY, digest="sha256"), **SHARED), shared_key="other key")
    assert not accepts(request_of(BODY, signature_of("the shared key", BODY)), shared_key="the shared key")


def test_without_a_shared_key_the_refusal_says_what_to_set() -> None:
    with pytest.raises(SignatureError, match="ONETHREAD_TWILIO_SHARED_KEY"):
        twilio.verify(checked(), request_of(BODY, signature_of("key", BODY, digest="sha256"), **SHARED))


@pytest.mark.parametrize(
    "named",
    ["", "algorithm=", "algorithm=HMAC_MD5", "key=1", "algorithm=HMAC_SHA1,algorithm=HMAC_SHA256",
     "key=1,algorithm=HMAC_SHA256, key=2,algorithm=HMAC_SHA256"],
)  # fmt: skip
def test_an_algorithm_that_nobody_knows_is_refused(named: str) -> None:
    header = {"x_twilio_webhooks_signature_settings": named}
    signed = signature_of("key", BODY, digest="sha256")
    assert not accepts(request_of(BODY, signed, **header), shared_key="key")


def test_an_empty_secret_refuses_to_start() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        twilio.Settings.model_validate({"auth_token": " "})


# -- split -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "kind", "key"),
    [({"MessageSid": "SM1", "Body": "x", "SmsStatus": "received"}, "message", "SM1"),
     ({"MessageSid": "SM1", "MessageStatus": "sent", "SmsStatus": "sent"}, "status", "SM1:sent"),
     ({"MessageSid": "SM1", "MessageStatus": ""}, "other", None),
     ({"MessageSid": "", "Body": "x"}, "other", None),
     ({"CallSid": "CA1", "CallStatus": "ringing"}, "other", None)],
)  # fmt: skip
def test_every_kind_of_webhook_is_named_and_keyed(form: dict[str, str], kind: str, key: str | None) -> None:
    (item,) = twilio.split(urlencode(form).encode())
    assert (item.kind, item.payload) == (kind, {"form": form})
    assert item.key == key or (key is None and item.key.startswith("other:"))


def test_of_a_parameter_that_comes_twice_the_first_counts() -> None:
    (item,) = twilio.split(b"MessageSid=SM1&Body=one&Body=two")
    assert item.payload["form"]["Body"] == "one"


def test_a_character_that_was_cut_does_not_cost_the_message() -> None:
    (item,) = twilio.split(b"MessageSid=SM1&Body=cut%F0%9F%98")
    assert item.payload["form"]["Body"] == "cut\ufffd"


def test_a_json_webhook_is_split_like_a_form() -> None:
    assert twilio.split(JSON_BODY)[0].payload == {"form": {"MessageSid": "SM1", "Body": "Hi"}}


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200))
def test_whatever_the_bytes_are_split_gives_an_item_or_says_why_not(body: bytes) -> None:
    try:
        (item,) = twilio.split(body)
    except PayloadError:
        return
    assert item.key
    json.dumps(item.payload, ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), settings_header=st.none() | st.text(max_size=40), host=st.text(max_size=12))
def test_whatever_comes_unsigned_is_refused(body: bytes, settings_header: str | None, host: str) -> None:
    more = {} if settings_header is None else {"x_twilio_webhooks_signature_settings": settings_header}
    request = request_of(body, "A" * 27 + "=", f"https://{host}/webhooks/twilio", **more)
    assert not accepts(request, shared_key="key")


# -- Twilio's own library ----------------------------------------------------------------------------------------------

SIGNED_BY_TWILIO: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a message": (ADDRESS, list(FORM.items())),
    "empty values": (ADDRESS, [("Body", ""), ("MessageSid", "SM1")]),
    "a value twice and two values": (ADDRESS, [("a", "2"), ("a", "1"), ("a", "2"), ("B", "x"), ("b", "y")]),
    "no parameters": (ADDRESS, []),
    "an address with a query": (f"{ADDRESS}?shop=2&x=%20y", [("Body", "x")]),
    "names in the order of code points": (ADDRESS, [("é", "1"), ("z", "2"), ("Z", "3"), ("😀", "4"), ("\uffee", "5")]),
    "an address with the port": (f"{PUBLIC_URL}:443/webhooks/twilio", list(FORM.items())),
}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["HMAC_SHA1", "HMAC_SHA256"])
def test_twilios_library_signs_what_we_accept_and_accepts_what_we_sign(algorithm: str) -> None:
    shared = {"x_twilio_webhooks_signature_settings": f"key=1,algorithm={algorithm}"} if "256" in algorithm else {}
    ours = [
        twilio.sign(SECRET, url, [(name.encode(), value.encode()) for name, value in pairs], algorithm)
        for url, pairs in SIGNED_BY_TWILIO.values()
    ]
    cases = [
        {"secret": SECRET, "url": url, "parameters": pairs, "algorithm": algorithm, "signature": signature}
        for (url, pairs), signature in zip(SIGNED_BY_TWILIO.values(), ours, strict=True)
    ]
    verdicts = ask_judge("twilio", "twilio_signatures.py", {"cases": cases})
    assert [one["valid"] for one in verdicts] == [True] * len(cases)
    for name, verdict in zip(SIGNED_BY_TWILIO, verdicts, strict=True):
        url, pairs = SIGNED_BY_TWILIO[name]
        request = request_of(urlencode(pairs).encode(), verdict["signature"], url, **shared)
        assert accepts(request, shared_key=SECRET), name
        assert not accepts(replace(request, body=request.body + b"&more=1"), shared_key=SECRET), name


@pytest.mark.slow
def test_twilios_library_agrees_about_json_bodies() -> None:
    good = {"secret": SECRET, "url": JSON_ADDRESS, "parameters": JSON_BODY.decode(), "algorithm": "HMAC_SHA1",
            "signature": JSON_SIGNATURE}  # fmt: skip
    verdicts = ask_judge("twilio", "twilio_signatures.py", {"cases": [good, {**good, "parameters": "{}"}]})
    assert [one["valid"] for one in verdicts] == [True, False]
    assert verdicts[0]["signature"] == JSON_SIGNATURE
