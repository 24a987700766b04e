"""What SMS is, whichever platform carries it: addresses, the thread, and the words that carriers obey.

Every SMS platform maps to the channel ``sms``: the account is our number (or short code, or sender id), the thread is
with the customer's number. So a number that moves from one platform to another keeps its conversations.

Sources of the carriers' words: twilio.com/docs/messaging/tutorials/advanced-opt-out (opt-out words) and
help.twilio.com/articles/223134027 (all of them; toll-free), read 2026-11, documented for long codes in the United
States and Canada; that other platforms and countries have the same words is assumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from mappings.contact_points import normalize_phone
from mappings.ids import conversation_key
from mappings.keywords import Decision, Keyword, Keywords
from mappings.records import Consent, Handle, Purpose

CHANNEL = "sms"

_STOP = ("STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL")
_START = ("START", "UNSTOP", "YES")

CARRIER_WORDS = Keywords(
    [*(Keyword("opted_out", "en", word) for word in _STOP), *(Keyword("opted_in", "en", word) for word in _START)]
)
"""Words, alone in a message, after which nothing gets through to the customer any more, or everything again."""

TOLL_FREE_WORDS = Keywords(
    [Keyword("opted_out", "en", "STOP"), *(Keyword("opted_in", "en", word) for word in ("START", "UNSTOP"))]
)
"""The same for toll-free numbers of the United States and Canada, where the carrier listens to STOP alone."""

BOTH: tuple[Purpose, ...] = ("service", "promotional")

_TOLL_FREE = re.compile(r"\+18(?:00|33|44|55|66|77|88)[0-9]{7}")
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_BARE_PHONE = re.compile(r"[0-9]{9,15}")


def sms_address(raw: str, *, bare_phones: bool = False) -> tuple[str, str]:
    """What a sender or receiver is, and its one spelling: ``phone``, ``sms_short_code`` or ``sms_sender``.

    A short code (``12345``) and a sender id (``SHOP``) are no phones: nobody can be called there, the first is unique
    in one country only, and the second can be anybody's. Nor is what has the look of a phone and cannot be one.

    Args:
        raw: as the platform wrote it.
        bare_phones: whether the platform writes phones without a plus.
    """
    text = raw.strip()
    dialled = f"+{text}" if bare_phones and _BARE_PHONE.fullmatch(text) else text
    phone = normalize_phone(dialled) if dialled.startswith("+") else None
    if phone is not None:
        return "phone", phone
    return ("sms_short_code" if _SHORT_CODE.fullmatch(text) else "sms_sender"), text


def sms_handle(raw: str, account: str, *, bare_phones: bool = False) -> Handle:
    """The customer's address as a handle: a phone of the whole world, anything else only as `account` sees it."""
    kind, value = sms_address(raw, bare_phones=bare_phones)
    return Handle(kind=kind, scope=None if kind == "phone" else account, value=value)


def sms_conversation_key(account: str, customer: Handle) -> str:
    """The key of the thread of one customer with one of our numbers."""
    return conversation_key(CHANNEL, account, customer.value)


def sms_decisions(
    text: str | None, account: str, keywords: Keywords, *, told: Decision | None = None
) -> dict[Purpose, Decision]:
    """What a message decides for each purpose; nothing unless it is one of the words and nothing else.

    The carriers' words block or unblock all messages, so they decide about service messages too. About advertising
    decide our own words as well, and a carrier's "no"; its "yes" does not, because YES mostly answers a question.

    Args:
        text: of the message.
        account: our number; toll-free ones have fewer words.
        keywords: our own list.
        told: the platform's own word for it, where it has one.
    """
    words = TOLL_FREE_WORDS if _TOLL_FREE.fullmatch(account) else CARRIER_WORDS
    carrier = told or words.decision_of_text(text)
    own = keywords.decision_of_text(text)
    decisions: dict[Purpose, Decision] = {}
    if carrier is not None:
        decisions["service"] = carrier
    advertising = "opted_out" if carrier == "opted_out" else own
    if advertising is not None:
        decisions["promotional"] = advertising
    return decisions


def sms_consents(
    decisions: Mapping[Purpose, Decision],
    customer: Handle,
    account: str,
    *,
    channel: str = CHANNEL,
    source: str,
    decided_at: datetime,
    told_in: str | None,
    raw_ref: str,
) -> list[Consent]:
    """The decisions as records.

    Args:
        decisions: by purpose.
        customer: who decided.
        account: our number: the decision holds for it alone.
        channel: another one that the same platform carries.
        source: ``keyword``, or ``carrier`` when the carrier told it.
        decided_at: when.
        told_in: the key of the message.
        raw_ref: where its bytes are.
    """
    return [
        Consent(
            handle_key=customer.key,
            handle=customer,
            channel=channel,
            account=account,
            purpose=purpose,
            status=decision,
            source=source,
            source_message_key=told_in,
            decided_at=decided_at,
            raw_ref=raw_ref,
        )
        for purpose, decision in decisions.items()
    ]
