"""The state of the stand-in of Apple: customers, what they write, and how that becomes posts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sandbox.apple.rules import RULES
from sandbox.base import SandboxApp
from sandbox.deliverer import Deliverer, Delivery, Event

PLUGIN = (
    "com.apple.messages.MSMessageExtensionBalloonPlugin:0000000000:com.apple.icloud.apps.messages.business.extension"
)
SECRET = base64.b64encode(hashlib.sha256(b"sandbox").digest()).decode()


@dataclass(slots=True)
class Message:
    """One message in or out."""

    number: str
    customer: str
    inbound: bool
    kind: str
    text: str | None
    at: float
    event: Event | None = None


@dataclass(slots=True)
class File:
    """One encrypted file."""

    data: bytes
    owner: str
    signature: bytes
    url: str
    downloads: dict[str, float] = field(default_factory=dict)


class Account(SandboxApp):
    """Apple's side of one provider with one business.

    Args:
        msp_id: the provider.
        secret: base64, shared with Apple.
        business_id: the business that customers write to.
        compress: whether posts are compressed.
        timeout_seconds: how long a post may take.
    """

    name = "apple"
    rules = RULES

    def __init__(
        self,
        *,
        msp_id: str = "sandbox-msp",
        secret: str = SECRET,
        business_id: str = "a884eddf-0000-4000-8000-00000000shop",
        compress: bool = True,
        timeout_seconds: float = 5.0,
    ) -> None:
        self.msp_id = msp_id
        self.secret = secret
        self.business_id = business_id
        self.compress = compress
        self.public_url = "https://mspgw.push.apple.com"
        self.messages: dict[str, Message] = {}
        self.closed: set[str] = set()
        self.files: dict[str, File] = {}
        self._heard: list[tuple[str, str | None, float]] = []
        self.deliverer = Deliverer(self._compose, self._prepare, max_tries=1, timeout_seconds=timeout_seconds)
        super().__init__()

    # -- customers --

    @staticmethod
    def customer() -> str:
        """Somebody with an iPhone, as this business sees them."""
        return f"urn:mbid:{base64.b64encode(secrets.token_bytes(24)).decode()}"

    def text(
        self,
        customer: str,
        text: str,
        *,
        delivery: Delivery | None = None,
        files: list[dict[str, Any]] | None = None,
        intent: str | None = None,
        group: str | None = None,
    ) -> str:
        """A customer writes; the message's id.

        Args:
            customer: as `customer` gave it.
            text: what they write; without words when empty.
            delivery: what happens to the post.
            files: attachments, see `picture`.
            intent: what the link was about by which they came.
            group: for which department it was.
        """
        more: dict[str, Any] = {"body": f"{'￼' * len(files or [])}{text}"}
        more |= {"attachments": files} if files else {}
        more |= {name: value for name, value in (("intent", intent), ("group", group)) if value}
        with self.lock:
            self.closed.discard(customer)
            return self._say(customer, "text", text or None, more, delivery, heard=True)

    def picture(self, customer: str, text: str = "", *, data: bytes = b"\x89PNG\r\n\x1a\npicture") -> str:
        """A customer sends a picture."""
        return self.text(customer, text, files=[self.encrypt(data, "photo.png", "image/png")])

    def tapback(self, customer: str, text: str) -> str:
        """A customer holds a finger on a message: a text like any other."""
        return self.text(customer, f"Loved “{text}”")

    def pick(self, customer: str, *titles: str, session: str = "s-1", twice: bool = False) -> str:
        """A customer chooses from a list; `twice` sends it again under another id."""
        items = [{"identifier": str(number), "title": title, "order": number} for number, title in enumerate(titles)]
        data = {"listPicker": {"sections": [{"title": "Chairs", "items": items}]}, "requestIdentifier": "r-1",
                "version": "1.0"}  # fmt: skip
        said = {"bid": PLUGIN, "data": data, "sessionIdentifier": session, "replyMessage": {"title": ", ".join(titles)}}
        with self.lock:
            self.closed.discard(customer)
            words = ", ".join(titles)
            number = self._say(customer, "interactive", words, {"interactiveData": said}, None, heard=True)
            if twice:
                self._say(customer, "interactive", words, {"interactiveData": said}, None)
            return number

    def type(self, customer: str) -> None:
        """A customer begins to type, and thinks better of it."""
        with self.lock:
            self._say(customer, "typing_start", None, {}, None)
            self._say(customer, "typing_end", None, {}, None)

    def close(self, customer: str) -> str:
        """A customer deletes the chat: nothing more reaches them until they write."""
        with self.lock:
            self.closed.add(customer)
            return self._say(customer, "close", None, {}, None)

    def encrypt(self, data: bytes, name: str, mime_type: str) -> dict[str, Any]:
        """A file as a message tells it."""
        key, number = secrets.token_bytes(32), secrets.token_hex(12)
        cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        encrypted = cipher.update(data) + cipher.finalize()
        signature = b"\x01" + hashlib.sha1(encrypted, usedforsecurity=False).digest()
        file = File(encrypted, f"{number}.owner", signature, f"https://p01-content.icloud.example/{number}")
        self.files[number] = file
        return {
            "name": name, "mimeType": mime_type, "size": str(len(encrypted)), "key": f"00{key.hex()}", "url": file.url,
            "owner": file.owner, "signature": signature.hex().upper(),
            "signature-base64": base64.b64encode(signature).decode(),
        }  # fmt: skip

    def _say(
        self,
        customer: str,
        kind: str,
        text: str | None,
        more: Mapping[str, Any],
        delivery: Delivery | None,
        *,
        heard: bool = False,
    ) -> str:
        number = str(uuid.uuid4())
        message = Message(number, customer, True, kind, text, self.clock.epoch())
        self.messages[number] = message
        body = {"v": 1, "id": number, "type": kind, "sourceId": customer, "destinationId": self.business_id,
                "locale": "en_US", **more}  # fmt: skip
        if heard:
            self._heard.append(("apple", text, message.at))
        message.event = Event("message", number, body)
        self.deliverer.add(message.event, delivery)
        return number

    # -- posts --

    def connect(self, receiver_url: str) -> None:
        """Post to ``<receiver_url>/webhooks/apple`` from now on. Apple itself puts ``/message`` behind it."""
        self.deliverer.start(f"{receiver_url.rstrip('/')}/webhooks/apple", self.secret)

    def flush(self, timeout: float = 10) -> None:
        """Wait until every post has been answered."""
        self.deliverer.flush(timeout)

    def stop(self) -> None:
        """Stop posting."""
        self.deliverer.stop()

    def _compose(self, parts: list[dict[str, Any]]) -> bytes:
        plain = json.dumps(parts[0], ensure_ascii=False).encode()
        return gzip.compress(plain, mtime=0) if self.compress else plain

    def _prepare(self, url: str, body: bytes, secret: str) -> tuple[str, dict[str, str]]:
        message = json.loads(gzip.decompress(body) if self.compress else body)
        token = signed_token({"aud": self.msp_id, "iat": int(self.clock.epoch())}, secret)
        headers = {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json", "id": message["id"],
            "source-id": message["sourceId"], "destination-id": message["destinationId"],
            "capability-list": "AUTH,AUTH2,LIST,TIME,QUICK,FORM", "device-agent": "iPhone OS", "locale": "en_US",
        }  # fmt: skip
        return url, {**headers, **({"Content-Encoding": "gzip"} if self.compress else {})}

    # -- the account --

    def heard(self) -> list[tuple[str, str | None, float]]:
        """(channel, words, epoch seconds) of every message that a customer wrote or chose."""
        with self.lock:
            return list(self._heard)

    def state(self) -> dict[str, Any]:
        """What customers wrote, what they got, who has closed, the account of posts."""
        with self.lock:
            incoming, sent = [], []
            for one in self.messages.values():
                row = {"id": one.number, "customer": one.customer, "type": one.kind, "text": one.text, "at": one.at}
                if one.event is None:
                    sent.append(row)
                else:
                    told = {"dropped": one.event.dropped, "attempts": one.event.attempts,
                            "accepted": one.event.accepted}  # fmt: skip
                    incoming.append({**row, **told})
            return {
                "customer_messages": incoming,
                "sent": sent,
                "closed": sorted(self.closed),
                "webhooks": self.deliverer.account(),
            }


def signed_token(claims: Mapping[str, Any], secret: str) -> str:
    """A JSON Web Token, made by hand (RFC 7515, HS256)."""
    parts = [
        _url64(json.dumps(one, separators=(",", ":")).encode()) for one in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signed = ".".join(parts)
    return f"{signed}.{_url64(hmac.new(base64.b64decode(secret), signed.encode(), hashlib.sha256).digest())}"


def claims_of(token: str, secret: str) -> dict[str, Any] | None:
    """The claims of a token that this secret signed, read by hand; ``None`` of any other."""
    signed, _, signature = token.rpartition(".")
    expected = _url64(hmac.new(base64.b64decode(secret), signed.encode(), hashlib.sha256).digest())
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return None
    payload = signed.partition(".")[2]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims if isinstance(claims, dict) else None


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
