"""What the receiver counts, in the text format of Prometheus. Names of routes and numbers; nothing of any person.

`prometheus_client` writes it: pure Python without dependencies, and what everybody who scrapes such a page knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as CounterMetric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

RouteKey = tuple[str, str]
"""(platform, route)."""

CONTENT_TYPE: str = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types there


class Metrics:
    """The counters of one receiver, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        routes = ["platform", "route"]
        self._deliveries = CounterMetric(
            "onethread_receiver_deliveries",
            "Deliveries by what became of them: stored, repeated (stored before), refused (not authentic).",
            [*routes, "outcome"],
            registry=self._registry,
        )
        self._answers = CounterMetric(
            "onethread_receiver_answers", "Answers by HTTP status.", ["status"], registry=self._registry
        )
        self._batch_rows = Histogram(
            "onethread_receiver_commit_rows", "Deliveries in one commit.", buckets=_ROWS, registry=self._registry
        )
        self._batch_seconds = Histogram(
            "onethread_receiver_commit_seconds", "Duration of one commit.", buckets=_SECONDS, registry=self._registry
        )
        self._commit_failures = CounterMetric(
            "onethread_receiver_commit_failures", "Commits that failed.", registry=self._registry
        )
        self._purged = CounterMetric(
            "onethread_receiver_deliveries_purged", "Deliveries removed by age.", routes, registry=self._registry
        )
        self._clock_alarm = Gauge(
            "onethread_receiver_clock_alarm",
            "1 while deliveries are refused that would be authentic at another time of day: is a clock wrong?",
            routes,
            registry=self._registry,
        )
        self._last_delivery = Gauge(
            "onethread_receiver_last_delivery_timestamp_seconds",
            "When the last authentic delivery came; 0: none yet.",
            routes,
            registry=self._registry,
        )
        # To look a counter up by its labels costs more than to count.
        self._by_status: dict[int, Any] = {}
        self._by_route: dict[RouteKey, Any] = {}

    def watch(
        self, *, waiting: Callable[[], float], disk_free_bytes: Callable[[], float], log_bytes: Callable[[], float]
    ) -> None:
        """Name what is looked up when somebody asks."""
        for name, words, look_up in (
            ("onethread_receiver_waiting_rows", "Deliveries that wait to be committed.", waiting),
            ("onethread_receiver_disk_free_bytes", "Free space on the disk of the state folder.", disk_free_bytes),
            ("onethread_receiver_write_ahead_log_bytes", "Size of SQLite's log beside the deliveries.", log_bytes),
        ):
            Gauge(name, words, registry=self._registry).set_function(look_up)

    def serves(self, key: RouteKey, last_delivery_at: datetime | None) -> None:
        """Show a route from the start: a count that appears with its first event cannot be alarmed on."""
        for outcome in ("stored", "repeated", "refused"):
            self._deliveries.labels(*key, outcome)
        self._last_delivery.labels(*key).set(last_delivery_at.timestamp() if last_delivery_at else 0)
        self._clock_alarm.labels(*key).set(0)

    def answered(self, status: int) -> None:
        """Count an answer."""
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._answers.labels(str(status))
        counter.inc()

    def clock_alarm(self, key: RouteKey, *, on: bool) -> None:
        """Say whether authentic deliveries are refused for their time."""
        self._clock_alarm.labels(*key).set(int(on))

    def refused(self, key: RouteKey) -> None:
        """Count a delivery that is not authentic."""
        self._deliveries.labels(*key, "refused").inc()

    def delivered(self, key: RouteKey, received_at: datetime) -> None:
        """Note when an authentic delivery came."""
        gauge = self._by_route.get(key)
        if gauge is None:
            gauge = self._by_route[key] = self._last_delivery.labels(*key)
        gauge.set(received_at.timestamp())

    def committed(self, seconds: float, rows: Counter[RouteKey], new: Mapping[RouteKey, int]) -> None:
        """Count a commit: its rows by route, and how many of them were new."""
        self._batch_rows.observe(rows.total())
        self._batch_seconds.observe(seconds)
        for key, count in rows.items():
            stored = new.get(key, 0)
            self._deliveries.labels(*key, "stored").inc(stored)
            self._deliveries.labels(*key, "repeated").inc(count - stored)

    def commit_failed(self, seconds: float) -> None:
        """Count a commit that did not come about."""
        self._batch_seconds.observe(seconds)
        self._commit_failures.inc()

    def purged(self, key: RouteKey, count: int) -> None:
        """Count deliveries that were removed by age."""
        self._purged.labels(*key).inc(count)

    def text(self) -> str:
        """The page."""
        return generate_latest(self._registry).decode()
