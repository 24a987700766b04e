"""Replies on their way to customers: intent is on disk before a call, its outcome after it, doubt is a state.

::

    queued -> sending -> accepted -> sent -> delivered -> read
       |         |           +--------+----------+------> failed
       |         +-> unknown -> accepted (evidence, or a person says so) | queued (a person says it was not sent)
       +-> refused | cancelled

Only ``queued`` is ever sent. A ``sending`` row that no process holds any more is ``unknown``: it may have been sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mappings.ids import parse_reply_key, reply_token
from mappings.records import Actor, Reply
from stores.database import Database, Row, Stores
from stores.graph.tombstones import Tombstones

OutboxState = Literal[
    "queued", "sending", "accepted", "sent", "delivered", "read", "failed", "refused", "unknown", "cancelled"
]

_RANK = {"queued": 0, "sending": 1, "unknown": 2, "accepted": 3, "sent": 4, "delivered": 5, "read": 6}
"""How far a reply got. A status never moves it back (webhooks come late and out of order)."""

IN_DOUBT = "in_doubt"
"""The code of a cancelled reply that may have been sent all the same."""

_FOLLOWED = timedelta(days=30)
"""How long a status is waited for; mail never gets one. Assumed: no platform tells anything later."""


@dataclass(frozen=True, slots=True)
class OutboxReply:
    """One reply with its fate so far.

    Attributes:
        outgoing: what was, or is about to be, sent: `targets.senders.base.Outgoing` as JSON; ``None`` before.
        message_key: our key of the platform's message, once the platform took it.
        sent_at: when the platform took it.
    """

    token: str
    reply: Reply
    person_id: str | None
    state: OutboxState
    channel: str | None
    attempts: int
    outgoing: dict[str, Any] | None
    message_key: str | None
    sent_at: datetime | None
    code: str | None
    reason: str | None
    actor: Actor
    queued_at: datetime
    changed_at: datetime


class Outbox:
    """The outbox store."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._codec = stores.codec
        self._database = stores.database("outbox")

    def add(self, replies: Iterable[Reply], same_person: Callable[[str, str], bool]) -> int:
        """Queue replies that are not in yet; the number that was new.

        Args:
            replies: as the CRM's tap gave them, with the person stamped.
            same_person: whether two person ids are one person by now. When a CRM merges two contacts the same reply
                comes again under the survivor's record id: same moment, same words, same person. It is not new.
        """
        new = 0
        with self._database.transaction() as database:
            # Asked inside the transaction: what an erasure finds afterwards is all there is.
            for reply in Tombstones.of(self._stores).without_erased(list(replies)):
                if reply is None:
                    continue
                moment = self._moment(reply)
                if self._came_under_other_key(database, reply, moment, same_person):
                    continue
                now = _now()
                new += database.execute(
                    "INSERT INTO reply (token, moment, body, person_id, state, channel, attempts, not_before_epoch,"
                    " actor, queued_at, changed_at, told) VALUES (?, ?, ?, ?, 'queued', NULL, 0, 0, 'nobody', ?, ?, 0)"
                    " ON CONFLICT (token) DO NOTHING",
                    (
                        reply_token(reply.reply_key), moment,
                        self._codec.encrypt_json(reply.model_dump(mode="json")), reply.person_id, now, now,
                    ),
                )  # fmt: skip
        return new

    def _moment(self, reply: Reply) -> str:
        crm, account, _, moment = parse_reply_key(reply.reply_key)
        parameters = "|".join(reply.template_parameters)
        return self._codec.fingerprint(f"{crm}|{account}|{moment}|{reply.text}|{reply.template}|{parameters}")

    @staticmethod
    def _came_under_other_key(
        database: Database, reply: Reply, moment: str, same_person: Callable[[str, str], bool]
    ) -> bool:
        mine = reply.person_id
        if mine is None:
            return False
        rows = database.query(
            "SELECT person_id FROM reply WHERE moment = ? AND token <> ? AND person_id IS NOT NULL",
            (moment, reply_token(reply.reply_key)),
        )
        return any(same_person(row["person_id"], mine) for row in rows)

    def queued(self, limit: int = 10_000) -> list[OutboxReply]:
        """Replies that may be sent now, oldest first."""
        return self._list("state = 'queued' AND not_before_epoch <= ?", (time.time(),), limit)

    def delayed(self) -> list[OutboxReply]:
        """Replies that wait until they may be tried again, oldest first: later ones must not overtake them."""
        return self._list("state = 'queued' AND not_before_epoch > ?", (time.time(),), 10_000)

    def unsettled(self) -> list[OutboxReply]:
        """Replies whose outcome is not known, oldest first; also those that a person gave up in that state."""
        return self._list("state = 'unknown' OR (state = 'cancelled' AND code = ?)", (IN_DOUBT,), 10_000)

    def under_way(self) -> list[OutboxReply]:
        """Replies that the platform took lately and whose end is not known yet, oldest first."""
        since = _text(datetime.now(UTC) - _FOLLOWED)
        return self._list("state IN ('accepted', 'sent', 'delivered') AND changed_at >= ?", (since,), 100_000)

    def twins(self, token: str) -> list[OutboxReply]:
        """Older replies with the same words of the same moment that are, or may be, on their way to somebody."""
        return self._list(
            "moment = (SELECT moment FROM reply WHERE token = ?) AND id < (SELECT id FROM reply WHERE token = ?)"
            " AND state NOT IN ('failed', 'refused', 'cancelled')",
            (token, token),
            100,
        )

    def untold(self) -> list[OutboxReply]:
        """Replies whose last change the archive has not been told yet."""
        return self._list("told = 0 AND state <> 'sending'", (), 10_000)

    def listing(self, states: Iterable[str] | None = None, limit: int = 200) -> list[OutboxReply]:
        """Replies in any of `states` (``None``: in all), newest first."""
        wanted = sorted(states) if states is not None else sorted([*_RANK, "failed", "refused", "cancelled"])
        marks = ", ".join("?" for _ in wanted)
        rows = self._database.query(
            f"SELECT * FROM reply WHERE state IN ({marks}) ORDER BY id DESC LIMIT ?",  # noqa: S608
            [*wanted, limit],
        )
        return [self._reply(row) for row in rows]

    def find(self, token: str) -> OutboxReply | None:
        """The reply with that token, or ``None``."""
        row = self._database.query_one("SELECT * FROM reply WHERE token = ?", (token,))
        return self._reply(row) if row else None

    def counts(self) -> dict[str, int]:
        """How many replies are in each state."""
        return {
            row["state"]: row["n"] for row in self._database.query("SELECT state, COUNT(*) AS n FROM reply GROUP BY 1")
        }

    def mark_crashed(self) -> int:
        """Turn every ``sending`` row into ``unknown``; only for who holds the sender's lock, so that nobody sends."""
        with self._database.transaction() as database:
            return database.execute(
                "UPDATE reply SET state = 'unknown', reason = ?, actor = 'nobody', changed_at = ?, told = 0"
                " WHERE state = 'sending'",
                ("The sender was interrupted while sending: it may have been sent.", _now()),
            )

    def begin(self, token: str, outgoing: dict[str, Any]) -> None:
        """Write down the intent to send; it is on disk when this returns, before any byte goes out."""
        with self._database.transaction() as database:
            touched = database.execute(
                "UPDATE reply SET state = 'sending', channel = ?, outcome = ?, attempts = attempts + 1, changed_at = ?"
                " WHERE token = ? AND state = 'queued'",
                (outgoing["channel"], self._codec.encrypt_json({"outgoing": outgoing}), _now(), token),
            )
            if touched != 1:
                msg = f"reply {token[:8]} is not queued any more"
                raise RuntimeError(msg)

    def accept(self, token: str, message_key: str, sent_at: datetime) -> None:
        """The platform took it at `sent_at`, and this is its message.

        Evidence may come late: for a reply that a person gave up or queued again, and for one of which a person said
        that it was sent. Repeats: harmless.
        """
        with self._database.transaction() as database:
            row = database.query_one("SELECT * FROM reply WHERE token = ?", (token,))
            if row is None:
                return
            outcome = self._codec.decrypt_json(row["outcome"]) if row["outcome"] else {}
            outcome |= {"message_key": message_key, "sent_at": _text(sent_at)}
            database.execute(
                "UPDATE reply SET state = 'accepted', outcome = ?, code = NULL, reason = NULL, actor = 'nobody',"
                " changed_at = ?, told = 0 WHERE token = ?"
                " AND state IN ('queued', 'sending', 'unknown', 'accepted', 'cancelled')",
                (self._codec.encrypt_json(outcome), _now(), token),
            )

    def later(self, token: str, seconds: float, reason: str) -> None:
        """Nothing was sent, certainly: queue it again, not before `seconds` from now."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE reply SET state = 'queued', not_before_epoch = ?, reason = ?, changed_at = ?"
                " WHERE token = ? AND state = 'sending'",
                (time.time() + seconds, reason, _now(), token),
            )

    def end(
        self, token: str, state: Literal["refused", "failed", "unknown"], *, code: str | None, reason: str, actor: Actor
    ) -> None:
        """Refused (nothing was sent), failed (the platform gave up), or unknown."""
        with self._database.transaction() as database:
            database.execute(
                "UPDATE reply SET state = ?, code = ?, reason = ?, actor = ?, changed_at = ?, told = 0 WHERE token = ?"
                " AND state NOT IN ('failed', 'refused', 'cancelled', 'read')",
                (state, code, reason, actor, _now(), token),
            )

    def advance(self, token: str, state: Literal["sent", "delivered", "read"]) -> None:
        """A status came in; it only ever moves forward."""
        with self._database.transaction() as database:
            row = database.query_one("SELECT state FROM reply WHERE token = ?", (token,))
            if row is None or _RANK.get(row["state"], 99) >= _RANK[state]:
                return
            database.execute(
                "UPDATE reply SET state = ?, changed_at = ?, told = 0 WHERE token = ?", (state, _now(), token)
            )

    def decide(self, token: str, decision: Literal["sent", "not_sent", "cancel"]) -> bool:
        """A person settles an unknown reply (or cancels a queued one); whether there was one to settle."""
        state, was = {
            "sent": ("accepted", ("unknown",)),
            "not_sent": ("queued", ("unknown",)),
            "cancel": ("cancelled", ("unknown", "queued")),
        }[decision]
        marks = ", ".join("?" for _ in was)
        with self._database.transaction() as database:
            return (
                database.execute(
                    "UPDATE reply SET code = CASE WHEN ? = 'cancelled' AND state = 'unknown' THEN ? END,"  # noqa: S608
                    " state = ?, reason = 'decided by a person', actor = 'nobody', changed_at = ?,"
                    f" not_before_epoch = 0, told = 0 WHERE token = ? AND state IN ({marks})",
                    (state, IN_DOUBT, state, _now(), token, *was),
                )
                == 1
            )

    def mark_told(self, told: Iterable[OutboxReply]) -> None:
        """The archive knows these, as they were read; one that changed since stays untold."""
        with self._database.transaction() as database:
            database.execute_many(
                "UPDATE reply SET told = 1 WHERE token = ? AND changed_at = ?",
                [(one.token, _text(one.changed_at)) for one in told],
            )

    def _list(self, where: str, parameters: tuple[Any, ...], limit: int) -> list[OutboxReply]:
        rows = self._database.query(f"SELECT * FROM reply WHERE {where} ORDER BY id LIMIT ?", [*parameters, limit])  # noqa: S608
        return [self._reply(row) for row in rows]

    def _reply(self, row: Row) -> OutboxReply:
        outcome = self._codec.decrypt_json(row["outcome"]) if row["outcome"] else {}
        return OutboxReply(
            token=row["token"],
            reply=Reply.model_validate(self._codec.decrypt_json(row["body"])),
            person_id=row["person_id"],
            state=row["state"],
            channel=row["channel"],
            attempts=row["attempts"],
            outgoing=outcome.get("outgoing"),
            message_key=outcome.get("message_key"),
            sent_at=datetime.fromisoformat(outcome["sent_at"]) if "sent_at" in outcome else None,
            code=row["code"],
            reason=row["reason"],
            actor=row["actor"],
            queued_at=datetime.fromisoformat(row["queued_at"]),
            changed_at=datetime.fromisoformat(row["changed_at"]),
        )


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> str:
    return _text(datetime.now(UTC))
