"""How a stand-in pushes: webhooks that come late, twice, in another order or not at all, with an account of each."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import requests


@dataclass(frozen=True, slots=True)
class Delivery:
    """What happens to one event on its way.

    Attributes:
        duplicate: how many times it is posted again although it was accepted.
        drop: never post it: a lost webhook.
        delay_seconds: post it this much later; what happens meanwhile overtakes it.
    """

    duplicate: int = 0
    drop: bool = False
    delay_seconds: float = 0.0


@dataclass(slots=True)
class Event:
    """One thing that the platform has to tell, and the account of telling it.

    `subject` is the message id that it is about, `part` what `compose` puts into a body.
    """

    kind: str
    subject: str
    part: dict[str, Any]
    dropped: bool = False
    given_up: bool = False
    attempts: int = 0
    accepted: int = 0


@dataclass(order=True, slots=True)
class _Post:
    due: float
    sequence: int
    body: bytes = field(compare=False)
    events: list[Event] = field(compare=False)
    tries: int = field(compare=False, default=0)


class Deliverer:
    """Posts events to the callback from a thread of its own, until each is accepted, and keeps account.

    Without a callback events wait. `hold` keeps them back, `release` lets them go in another order or in one post.

    Args:
        compose: the parts of the events of one post -> its bytes.
        prepare: (callback, body, secret) -> the address to post to and the headers, signed, of each try.
        retry_seconds: pauses before the second, third, ... try; the last one repeats. Platforms take minutes to hours;
            here they are short.
        max_tries: after so many tries the events of a post are given up; ``None``: never.
        timeout_seconds: how long the callback may take.
    """

    def __init__(
        self,
        compose: Callable[[list[dict[str, Any]]], bytes],
        prepare: Callable[[str, bytes, str], tuple[str, Mapping[str, str]]],
        *,
        max_tries: int | None = None,
        retry_seconds: Sequence[float] = (0.05, 0.1, 0.2, 0.4, 0.8),
        timeout_seconds: float = 5.0,
    ) -> None:
        self.events: list[Event] = []
        self._compose = compose
        self._prepare = prepare
        self._max_tries = max_tries
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._url: str | None = None
        self._secret = ""
        self._changed = threading.Condition()
        self._posts: list[_Post] = []
        self._held: list[tuple[Event, Delivery]] | None = None
        self._in_flight = 0
        self._sequence = 0
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self, url: str, secret: str) -> None:
        """Begin to post to `url`, signed with `secret`; a second call changes both."""
        with self._changed:
            self._url, self._secret = url, secret
            if self._thread is None:
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop posting. What was not accepted stays and goes on with the next `start`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(self._timeout_seconds + 1)

    def add(self, event: Event, delivery: Delivery | None = None) -> None:
        """Tell `event` to the callback, in the way that `delivery` says."""
        delivery = delivery or Delivery()
        with self._changed:
            self.events.append(event)
            if delivery.drop:
                event.dropped = True
            elif self._held is not None:
                self._held.append((event, delivery))
            else:
                self._queue([event], delivery)

    def hold(self) -> None:
        """Keep new events back until `release`."""
        with self._changed:
            self._held = self._held or []

    def release(self, *, reverse: bool = False, together: bool = True) -> int:
        """Let go of the events held back: newest first with `reverse`, in one post with `together`. How many."""
        with self._changed:
            held, self._held = self._held or [], None
            if reverse:
                held.reverse()
            if together and held:
                self._queue([event for event, _ in held], Delivery(max(one.duplicate for _, one in held)))
            elif not together:
                for event, delivery in held:
                    self._queue([event], delivery)
            return len(held)

    def flush(self, timeout_seconds: float = 10.0) -> None:
        """Wait until every event that is not held back was accepted; raises `TimeoutError` after the timeout."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._posts and not self._in_flight, timeout_seconds):
                message = f"{len(self._posts) + self._in_flight} webhook posts are still waiting to be accepted"
                raise TimeoutError(message)

    def account(self) -> dict[str, int]:
        """Counts: events, accepted (at least once), dropped, given_up, waiting, held, attempts, accepted_posts."""
        with self._changed:
            return {
                "events": len(self.events),
                "accepted": sum(1 for event in self.events if event.accepted),
                "dropped": sum(1 for event in self.events if event.dropped),
                "given_up": sum(1 for event in self.events if event.given_up),
                "waiting": len(self._posts) + self._in_flight,
                "held": len(self._held or ()),
                "attempts": sum(event.attempts for event in self.events),
                "accepted_posts": sum(event.accepted for event in self.events),
            }

    def _queue(self, events: list[Event], delivery: Delivery) -> None:
        body = self._compose([event.part for event in events])
        for _ in range(1 + delivery.duplicate):
            self._sequence += 1
            heapq.heappush(self._posts, _Post(time.monotonic() + delivery.delay_seconds, self._sequence, body, events))
        self._changed.notify_all()

    def _run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for post, url, secret in self._due():
                accepted = self._send(session, post, url, secret)
                with self._changed:
                    self._in_flight -= 1
                    for event in post.events:
                        event.attempts += 1
                        event.accepted += accepted
                    if not accepted and post.tries + 1 == self._max_tries:
                        for event in post.events:
                            event.given_up = True
                    elif not accepted:
                        pause = self._retry_seconds[min(post.tries, len(self._retry_seconds) - 1)]
                        post.tries, post.due = post.tries + 1, time.monotonic() + pause
                        heapq.heappush(self._posts, post)
                    self._changed.notify_all()

    def _due(self) -> Iterator[tuple[_Post, str, str]]:
        while True:
            with self._changed:
                while not self._stopping and not (self._posts and self._posts[0].due <= time.monotonic()):
                    self._changed.wait(self._posts[0].due - time.monotonic() if self._posts else None)
                if self._stopping or self._url is None:
                    return
                post = heapq.heappop(self._posts)
                self._in_flight += 1
                found = (post, self._url, self._secret)
            yield found

    def _send(self, session: requests.Session, post: _Post, url: str, secret: str) -> bool:
        url, headers = self._prepare(url, post.body, secret)
        try:
            answer = session.post(
                url, data=post.body, headers=dict(headers), timeout=self._timeout_seconds, allow_redirects=False
            )
        except requests.RequestException:
            return False
        return 200 <= answer.status_code < 300
