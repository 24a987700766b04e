"""`onethread send`: settles what is in doubt, decides for each queued reply, sends it once, and tells the archive.

No customer gets a reply twice. The intent is on disk before the call; a call whose outcome is unknown is settled by
evidence that came back (a status or an echo with our token, a mail in Sent), never by sending again; where evidence
does not come, a person decides (`onethread outbox`). One process sends at a time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from mappings.errors import (
    CredentialsError,
    OneThreadError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    SettingsError,
    UnavailableError,
)
from mappings.ids import conversation_key, external_id, is_public_thread, parse_message_key
from mappings.policy import DEFAULT_POLICY, Policy, Refusal, Way, choose_way
from mappings.records import Conversation, Handle, Message, Purpose, Receipt
from stores.archive import Archive
from stores.database import Stores
from stores.graph import FORMER, Graph
from stores.outbox import IN_DOUBT, Outbox, OutboxReply
from targets.senders.base import Outgoing, Sender

logger = logging.getLogger(__name__)

_PURPOSES: tuple[Purpose, ...] = ("service", "promotional")
_LATER_SECONDS = 30.0
_PATIENCE = 3
"""After so many replies in a row that a channel could not take now, it gets a rest for this run: it may be down."""


@dataclass(slots=True)
class SendSummary:
    """What one run of the sender did, by outcome."""

    accepted: int = 0
    refused: int = 0
    failed: int = 0
    later: int = 0
    unknown: int = 0
    settled: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for a person."""
        counts = {
            "sent": self.accepted, "refused": self.refused, "failed": self.failed, "waiting": self.later,
            "outcome unknown": self.unknown, "settled": self.settled,
        }  # fmt: skip
        return ", ".join(f"{number} {what}" for what, number in counts.items() if number) or "nothing to send"


class Dispatcher:
    """Sends what is queued.

    Args:
        senders: by channel; a channel without a sender is refused with a reason.
        now: the clock, aware UTC.
        wait_seconds: how long to wait for another process that is sending.
    """

    def __init__(
        self,
        stores: Stores,
        senders: Mapping[str, Sender],
        *,
        policy: Policy = DEFAULT_POLICY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait_seconds: float = 5,
    ) -> None:
        self._stores = stores
        self._senders = senders
        self._policy = policy
        self._now = now
        self._wait_seconds = wait_seconds
        self._outbox = Outbox(stores)
        self._archive = Archive(stores)
        self._graph = Graph(stores)
        self._stopped: set[str] = set()
        self._in_a_row: Counter[str] = Counter()
        self._held: set[tuple[str, str]] = set()

    def run(self) -> SendSummary:
        """Settle, send and tell, once.

        Raises:
            TimeoutError: another process is sending.
        """
        summary = SendSummary()
        with self._stores.lock("send", timeout_seconds=self._wait_seconds):
            self._stopped.clear()
            self._in_a_row.clear()
            self._held = {
                (one.outgoing["channel"], one.outgoing["to"]["value"]) for one in self._outbox.delayed() if one.outgoing
            }
            self._outbox.mark_crashed()
            summary.settled = self._settle()
            self._tell()  # first, so that a status that came with the evidence finds its message
            self._follow()
            self._tell()
            for waiting in self._outbox.queued():
                self._send_one(waiting, summary)
                self._tell()
        return summary

    # Doubt

    def _settle(self) -> int:
        """Settle unknown replies by evidence; how many were."""
        settled = 0
        for doubtful in self._outbox.unsettled():
            evidence = self._evidence(doubtful)
            if evidence is not None:
                self._outbox.accept(doubtful.token, *evidence)
                settled += 1
        return settled

    def _evidence(self, doubtful: OutboxReply) -> tuple[str, datetime] | None:
        """The message that this reply became and when, if anything that came back proves it."""
        message_key, receipts = self._archive.by_reply_token(doubtful.token)
        if message_key is not None:
            message = self._archive.message(message_key)
            return message_key, message.sent_at if message else doubtful.changed_at
        of_messages = [receipt for receipt in receipts if receipt.subject_kind == "message"]
        if of_messages:
            first = min(of_messages, key=lambda receipt: receipt.occurred_at)
            return first.subject_key, first.occurred_at
        sender = self._senders.get(doubtful.channel or "")
        if sender is None or doubtful.outgoing is None or doubtful.state != "unknown":
            return None
        try:
            accepted = sender.settle(Outgoing.from_json(doubtful.outgoing))
        except Exception as error:  # noqa: BLE001 (one reply that cannot be looked for must not stop the others)
            said = error if isinstance(error, OneThreadError) else type(error).__name__
            logger.warning("reply %s: cannot look for evidence now: %s", doubtful.token[:8], said)
            return None
        return (accepted.message_key, accepted.sent_at) if accepted else None

    def _follow(self) -> None:
        """Take over what the platforms said since of replies that they had accepted."""
        for sent in self._outbox.under_way():
            if sent.message_key is None:  # a person said that it was sent; what the platform calls it may come yet
                evidence = self._evidence(sent)
                if evidence is not None:
                    self._outbox.accept(sent.token, *evidence)
                continue
            message = self._archive.message(sent.message_key)
            status = message.status if message else None
            if status in {"sent", "delivered", "read"}:
                self._outbox.advance(sent.token, status)
            elif status == "failed":
                failed = [one for one in self._archive.receipts_for(sent.message_key) if one.status == "failed"]
                code, reason, actor = (
                    (failed[0].code, failed[0].reason, failed[0].actor) if failed else (None, None, "agent")
                )
                self._outbox.end(
                    sent.token, "failed", code=code, reason=reason or "The platform could not deliver it.", actor=actor
                )

    # Sending

    def _send_one(self, waiting: OutboxReply, summary: SendSummary) -> None:
        if waiting.attempts and (evidence := self._evidence(waiting)) is not None:
            # Somebody said that it was not sent, and meanwhile it turned out that it was.
            self._outbox.accept(waiting.token, *evidence)
            summary.settled += 1
            return
        outgoing = self._decide(waiting)
        if isinstance(outgoing, Refusal):
            self._outbox.end(waiting.token, "refused", code=outgoing.code, reason=outgoing.reason, actor=outgoing.actor)
            summary.refused += 1
            return
        channel, where = outgoing.channel, (outgoing.channel, outgoing.to.value)
        if channel in self._stopped or self._in_a_row[channel] >= _PATIENCE or where in self._held:
            self._held.add(where)
            summary.later += 1
            return
        try:
            self._outbox.begin(waiting.token, outgoing.to_json())
        except RuntimeError:
            logger.info("reply %s was cancelled meanwhile", waiting.token[:8])
            return
        try:
            accepted = self._senders[channel].send(outgoing)
        except RejectedError as error:
            self._outbox.end(waiting.token, "failed", code=error.code, reason=str(error), actor="agent")
            summary.failed += 1
        except (RateLimitedError, UnavailableError) as error:
            seconds = getattr(error, "retry_after_seconds", None) or _LATER_SECONDS * 2 ** min(waiting.attempts, 6)
            self._outbox.later(waiting.token, seconds, str(error))
            self._in_a_row[channel] += 1
            self._held.add(where)
            summary.later += 1
            return
        except (CredentialsError, SettingsError) as error:
            self._outbox.later(waiting.token, _LATER_SECONDS, str(error))
            self._stopped.add(channel)
            self._held.add(where)
            summary.later += 1
            summary.problems.append(str(error))
        except OutcomeUnknownError as error:
            self._end_unknown(waiting, str(error))
            summary.unknown += 1
        except Exception as error:  # noqa: BLE001 (what a sender did not foresee may have been sent, and stops no other)
            said = str(error) if isinstance(error, OneThreadError) else f"{channel}: {type(error).__name__} in sending"
            self._end_unknown(waiting, said)
            summary.unknown += 1
            summary.problems.append(said)
        else:
            self._outbox.accept(waiting.token, accepted.message_key, accepted.sent_at)
            summary.accepted += 1
        self._in_a_row[channel] = 0

    def _end_unknown(self, waiting: OutboxReply, reason: str) -> None:
        hint = "It is not sent again by itself: if no confirmation comes, decide with `onethread outbox`."
        self._outbox.end(waiting.token, "unknown", code=None, reason=f"{reason}. {hint}", actor="nobody")

    def _decide(self, waiting: OutboxReply) -> Outgoing | Refusal:
        """Every rule is checked here, at the moment of sending: the window may have closed, the consent gone."""
        thread = self._thread_of(waiting)
        if isinstance(thread, Refusal):
            return thread
        person_id = self._person_of(waiting)
        if person_id and any(self._person_of(twin) == person_id for twin in self._outbox.twins(waiting.token)):
            reason = "The same reply came before, under a contact that is one person with this one by now."
            return Refusal("duplicate", reason, "nobody")
        if thread is not None:
            ways = [self._way_of(thread, self._graph.handles_of(person_id) if person_id else [])]
        else:
            ways = self._ways(person_id) if person_id else []
            ways = [one for one in ways if _is_in(one, waiting.reply.thread_id)] or ways
        now = self._now()
        way = choose_way(waiting.reply, [one for one in ways if self._is_ours(one)], now, self._policy)
        if isinstance(way, Refusal):
            way = choose_way(waiting.reply, ways, now, self._policy)
        if isinstance(way, Refusal):
            return way
        if way.channel not in self._senders:
            return Refusal(
                "not_configured", f"Nothing is set up to send on {self._policy.of(way.channel).name}.", "operator"
            )
        if not self._is_ours(way):
            return Refusal(
                "account",
                f"The thread is with another {self._policy.of(way.channel).name} account than the one set up.",
                "operator",
            )
        reply = waiting.reply
        return Outgoing(
            reply_key=reply.reply_key,
            token=waiting.token,
            channel=way.channel,
            account=way.account,
            to=way.to,
            conversation_key=way.conversation_key,
            text=reply.text,
            template=reply.template,
            template_language=reply.template_language,
            template_parameters=reply.template_parameters,
            subject=way.subject,
            reply_to_key=way.reply_to_key,
            thread_ids=list(way.thread_ids),
            tag=way.tag,
        )

    def _is_ours(self, way: Way) -> bool:
        """Whether a sender for that channel and account is set up."""
        return way.channel in self._senders and self._senders[way.channel].account == way.account

    def _thread_of(self, waiting: OutboxReply) -> Conversation | Refusal | None:
        """The conversation that the reply answers, if it answers one: then it goes there or nowhere.

        The CRM may show that thread on somebody else's contact, so neither the contact nor where its person wrote last
        says anything.
        """
        key = waiting.reply.conversation_key
        if key is None:
            return None
        if is_public_thread(key):
            return Refusal(
                "public_thread", "This thread is a public comment, which cannot be answered from here.", "agent"
            )
        thread = self._archive.conversation_now(key)
        if thread is None or not thread.handles:
            reason = "Nobody is in this thread any more: its customer was erased, or its messages are not known here."
            return Refusal("no_thread", reason, "agent")
        if thread.handles[0].kind.startswith(FORMER):
            reason = "The address of this thread has another owner by now. Answer the customer in another thread."
            return Refusal("former_owner", reason, "agent")
        return thread

    def _person_of(self, waiting: OutboxReply) -> str | None:
        """The person now: of the thread that is answered, else of the CRM record, which may have moved meanwhile.

        A record that was taken from a wrong person leaves that person at once, even if nobody else can be reached.
        """
        thread = self._thread_of(waiting)
        if isinstance(thread, Conversation):
            return self._graph.person_of(thread.handles[0]) or thread.person_id
        for handle in waiting.reply.handles[:1]:
            found = self._graph.person_of(handle)
            if found is not None:
                return found
        return self._graph.current(waiting.person_id) if waiting.person_id else None

    def _ways(self, person_id: str) -> list[Way]:
        ways = []
        handles = self._graph.handles_of(person_id)
        for conversation in self._archive.conversations_of(person_id):
            if not conversation.handles or is_public_thread(conversation.conversation_key):
                continue
            if conversation.handles[0].kind.startswith(FORMER):
                continue  # the number is somebody else's now
            ways.append(self._way_of(conversation, handles))
        reached = {(way.channel, way.to) for way in ways}
        for channel, sender in self._senders.items():
            if not self._policy.of(channel).can_start:
                continue
            for handle in handles:
                if handle.kind == channel and (channel, handle) not in reached:
                    declined = self._declined(handle, handles, channel, sender.account)
                    ways.append(Way(channel=channel, account=sender.account, to=handle, opted_out=declined))
        return ways

    def _way_of(self, conversation: Conversation, handles: Sequence[Handle]) -> Way:
        """The way into a conversation with a person who has these handles."""
        to = conversation.handles[0]
        way = Way(
            channel=conversation.channel,
            account=conversation.account,
            to=to,
            conversation_key=conversation.conversation_key,
            last_inbound_at=conversation.last_inbound_at,
            opted_out=self._declined(to, handles, conversation.channel, conversation.account),
        )
        return self._with_mail_thread(way) if conversation.channel == "email" else way

    def _with_mail_thread(self, way: Way) -> Way:
        """The way with what a mail needs to stay in its thread: subject and the Message-IDs so far."""
        thread = self._archive.messages_of(way.conversation_key or "", 500)
        ids: list[str] = []
        for message in thread:
            ids += [one for one in (*reversed(message.thread_ids[1:]), *message.thread_ids[:1]) if one not in ids]
        subject = next((one.subject for one in thread if one.subject), None)
        last = next((one.message_key for one in reversed(thread) if one.direction == "inbound"), None)
        return replace(way, subject=subject, thread_ids=tuple(ids), reply_to_key=last)

    def _declined(self, to: Handle, handles: Sequence[Handle], channel: str, account: str) -> frozenset[str]:
        """The purposes that the customer declined: under this handle, or last of all under any other of theirs.

        WhatsApp tells a person now by phone, now by id; a "no" given under the one holds for the other.
        """
        declined: set[str] = set()
        for purpose in _PURPOSES:
            own = self._archive.consent(to.key, channel, account, purpose)
            others = [self._archive.consent(one.key, channel, account, purpose) for one in handles if one != to]
            last = max(
                (one for one in (own, *others) if one), key=lambda one: (one.decided_at, one.status), default=None
            )
            if any(one is not None and one.status == "opted_out" for one in (own, last)):
                declined.add(purpose)
        return frozenset(declined)

    # Telling

    def _tell(self) -> None:
        """Write each reply's fate into the archive, from where the CRM hears it. Repeating it changes nothing."""
        untold = self._outbox.untold()
        if not untold:
            return
        receipts = [self._receipt(one) for one in untold]
        messages = [message for one in untold if (message := self._message(one)) is not None]
        self._archive.fold(messages=messages, receipts=receipts)
        self._archive.follow_graph()
        self._outbox.mark_told(untold)

    @staticmethod
    def _receipt(one: OutboxReply) -> Receipt:
        code, reason = one.code, one.reason
        status: Literal["queued", "accepted", "sent", "delivered", "read", "failed", "refused", "unknown"]
        if one.state == "cancelled":
            status, code, reason = "refused", "cancelled", "A person decided not to send it."
            if one.code == IN_DOUBT:
                status, reason = "unknown", "A person gave it up; it may have been sent."
        else:
            status = "queued" if one.state == "sending" else one.state
        outgoing = one.outgoing or {}
        return Receipt(
            subject_key=one.reply.reply_key,
            subject_kind="reply",
            status=status,
            channel=one.channel or one.reply.channel,
            account=outgoing.get("account") or one.reply.account,
            conversation_key=outgoing.get("conversation_key"),
            occurred_at=one.queued_at if status == "queued" else one.changed_at,
            reply_key=one.reply.reply_key,
            code=code,
            reason=reason,
            actor=one.actor,
        )

    @staticmethod
    def _message(one: OutboxReply) -> Message | None:
        """The reply as a message of the thread, once the platform has named it."""
        if one.message_key is None or one.outgoing is None or one.sent_at is None:
            return None
        outgoing = Outgoing.from_json(one.outgoing)
        platform_id = parse_message_key(one.message_key).platform_message_id
        template = {"template": outgoing.template, "parameters": outgoing.template_parameters}
        return Message(
            message_key=one.message_key,
            channel=outgoing.channel,
            account=outgoing.account,
            conversation_key=outgoing.conversation_key
            or conversation_key(outgoing.channel, outgoing.account, outgoing.to.value),
            thread_ids=[platform_id, *reversed(outgoing.thread_ids)] if outgoing.to.kind == "email" else [],
            direction="outbound",
            kind="template" if outgoing.template else "text",
            text=outgoing.text,
            subject=outgoing.subject,
            content=template if outgoing.template else None,
            reply_to_key=outgoing.reply_to_key,
            sent_at=one.sent_at,
            author_kind=one.reply.author_kind,
            author_name=one.reply.author_name,
            handles=[outgoing.to],
            reply_key=one.reply.reply_key,
            reply_token=one.token,
            seen_by="send",
            person_id=one.person_id,
        )


def _is_in(way: Way, thread_id: str | None) -> bool:
    """Whether a way leads into the thread on whose record in the CRM a reply was written."""
    return way.conversation_key is not None and external_id("conversation", way.conversation_key) == thread_id
