"""A reply as a mail, in its thread.

Source: RFC 5322 sections 2.1.1 (lines of at most 998 characters), 3.6.4 (Message-ID, In-Reply-To, References) and 3.6.5
(Subject), documented, read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from mappings import ids
from mappings.contact_points import clean_name, normalize_email
from mappings.errors import PayloadError, RejectedError
from mappings.records import Handle

MOST_REFERENCES = 100
LONGEST_ID = 900
LONGEST_SUBJECT = 500
_REPLY_PREFIX = re.compile(r"\s*(re|aw|sv|antw|rif|odp|vs|ynt)\s*(\[\d+\])?\s*:", re.IGNORECASE)
"""How mail programs of other languages write Re: (German, Scandinavian, Dutch, Italian, Polish, Finnish, Turkish);
assumed. A missing one costs a second prefix."""
_ID = re.compile(r"[^\s<>\x00-\x20\x7f-\U0010ffff]+")

POLICY = SMTP.clone(cte_type="7bit", max_line_length=998, raise_on_defect=False)
"""Lines are folded only at 998 characters: a shorter limit makes the standard library write a long Message-ID in
References as an encoded word, which no mail program finds again (Python 3.11, observed: the test of long ids)."""


def message_id_for_reply(token: str, address: str) -> str:
    """The Message-ID of a reply, without brackets: known before it is sent, so that it can be looked for."""
    return f"{token}@{address.rpartition('@')[2]}"


def email_for_reply(
    to: Handle,
    *,
    token: str,
    text: str | None,
    sender_address: str,
    sender_name: str | None,
    sent_at: datetime,
    subject: str | None = None,
    default_subject: str = "Your message",
    reply_to_key: str | None = None,
    thread_ids: Sequence[str] = (),
    template: str | None = None,
) -> EmailMessage:
    """The mail for one reply: plain text, ``Re:`` and the whole chain of references.

    `thread_ids` are the Message-IDs of the thread, oldest first. Header fields cannot be injected: line ends in subject
    and name become spaces, ids with anything but visible ASCII are left out.

    Raises:
        RejectedError: not for an e-mail address, or nothing to say in it.
    """
    if to.kind != "email" or normalize_email(to.value) is None:
        msg = f"E-mail: a {to.kind} is no address to write to"
        raise RejectedError(msg, code="bad_recipient")
    if template is not None or text is None or not text.strip():
        msg = "E-mail: the reply has no text; templates are not for e-mail"
        raise RejectedError(msg, code="no_text")
    references = _references(thread_ids, reply_to_key)
    mail = EmailMessage(POLICY if f"{to.value}{sender_address}".isascii() else POLICY.clone(utf8=True))
    try:
        mail["Message-ID"] = f"<{message_id_for_reply(token, sender_address)}>"
        mail["Date"] = format_datetime(sent_at)
        mail["From"] = _address(sender_address, sender_name)
        mail["To"] = _address(to.value)
        mail["Subject"] = _subject(subject, default_subject, answers=bool(references))
        if references:
            mail["In-Reply-To"] = f"<{references[-1]}>"
            mail["References"] = " ".join(f"<{one}>" for one in references)
        mail.set_content(_storable(text))
    except (ValueError, MessageError) as error:
        msg = f"E-mail: the reply cannot be written as a mail ({type(error).__name__})"
        raise RejectedError(msg, code="unwritable") from None
    return mail


def _address(email: str, name: str | None = None) -> Address:
    local_part, _, domain = email.rpartition("@")
    return Address(clean_name(name) or "", local_part, domain)


def _references(thread_ids: Sequence[str], reply_to_key: str | None) -> list[str]:
    """The ids to refer to, oldest first; the mail that is answered comes last."""
    chain = list(thread_ids)
    if reply_to_key is not None:
        try:
            answered = ids.parse_message_key(reply_to_key).platform_message_id
        except PayloadError:
            answered = None
        if answered is not None:
            chain = [*(one for one in chain if one != answered), answered]
    usable = [one for one in dict.fromkeys(chain) if _is_usable(one)]
    return usable if len(usable) <= MOST_REFERENCES else [usable[0], *usable[1 - MOST_REFERENCES :]]


def _is_usable(message_id: str) -> bool:
    """Whether it is an id that a mail has; ours for mails without one (``sha256-``) mean nothing to others."""
    return bool(_ID.fullmatch(message_id)) and len(message_id) <= LONGEST_ID and not message_id.startswith("sha256-")


def _subject(subject: str | None, default: str, *, answers: bool) -> str:
    """The thread's subject, said to be an answer where it is one."""
    line = " ".join(_storable(subject or "").split())[:LONGEST_SUBJECT]
    if not answers:
        return line or default
    if not line:
        return f"Re: {default}"
    return line if _REPLY_PREFIX.match(line) else f"Re: {line}"


def _storable(text: str) -> str:
    """Without NUL and lone surrogates, which cannot be encoded."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text)
