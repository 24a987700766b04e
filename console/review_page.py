"""The review page: one pair of persons at a time, side by side, and what is decided of it."""

from __future__ import annotations

from typing import Any

from identity.desk import Desk
from identity.review import Item, ReviewQueue
from identity.rules import Rules
from mappings.errors import SettingsError
from mappings.records import Handle
from stores.database import Stores

_MOST = 500
"""So many pairs are listed; the next ones come up when these are decided."""


class ReviewPage:
    """What the page shows, and what its buttons do.

    Args:
        actor: who decides.
    """

    def __init__(self, stores: Stores, rules: Rules, actor: str) -> None:
        self._stores = stores
        self._rules = rules
        self._actor = actor

    def look(self, item_id: str | None) -> dict[str, Any]:
        """The values of the page: the pair of that id (without one, the first), its neighbours, the last decision."""
        queue = ReviewQueue(self._stores, self._rules)
        items = queue.items(_MOST)
        place = next((index for index, one in enumerate(items) if one.item_id == item_id), None)
        if item_id is None and items:
            place = 0
        graph = Desk(self._stores, self._rules, self._actor)
        values: dict[str, Any] = {
            "item": None, "items": items, "last": graph.last_decision(), "before": None, "after": None, "number": 0,
        }  # fmt: skip
        if place is None:
            return values
        item = items[place]
        left, right, rows = queue.compare(item)
        return values | {
            "item": item,
            "number": place + 1,
            "left": left,
            "right": right,
            "rows": rows,
            "cluster": [one for one in items if one.cluster == item.cluster],
            "before": items[place - 1].item_id if place else None,
            "after": items[place + 1].item_id if place + 1 < len(items) else None,
            "shareable": self._shareable(item, [handle for side in (left, right) for handle, _ in side.handles]),
        }

    def decide(self, item_id: str, action: str, handle_key: str | None) -> str | None:
        """Do what a button says; the id of the pair to show next.

        Raises:
            SettingsError: the pair is not in the queue any more, or it cannot be decided so; says why.
        """
        queue = ReviewQueue(self._stores, self._rules)
        items = queue.items(_MOST)
        place = next((index for index, one in enumerate(items) if one.item_id == item_id), None)
        if place is None:
            msg = "this pair is not waiting any more; somebody decided it, or its evidence changed"
            raise SettingsError(msg)
        item = items[place]
        following = items[place + 1].item_id if place + 1 < len(items) else None
        if action == "later":
            queue.put_off(item, actor=self._actor)
        elif action == "up":
            queue.take_up(item)
            following = item_id
        elif action in {"same", "different"}:
            words: Any = action
            self._desk().say(words, item.person_ids, reason=_reason(item))
        elif action == "shared":
            self._share(queue, item, handle_key)
        else:
            msg = f"there is no action {action[:20]!r}"
            raise SettingsError(msg)
        waiting = {one.item_id for one in ReviewQueue(self._stores, self._rules).items(_MOST)}
        return following if following in waiting else None

    def undo(self, number: int) -> None:
        """Take a decision back."""
        self._desk().undo(number)

    def _share(self, queue: ReviewQueue, item: Item, handle_key: str | None) -> None:
        handles = [handle for person_id in item.person_ids for handle, _ in queue.side(person_id).handles]
        chosen = [handle for handle in self._shareable(item, handles) if handle.key == handle_key]
        if not chosen:
            msg = "choose the handle that several people use"
            raise SettingsError(msg)
        self._desk().say("shared", [chosen[0].key], reason=_reason(item))

    def _shareable(self, item: Item, handles: list[Handle]) -> list[Handle]:
        """The handles that several people may use: kinds with caps, those that the pair hangs on first."""
        between = {handle for note in item.notes for handle in note.handles}
        found = [handle for handle in dict.fromkeys(handles) if self._rules.of(handle.kind).caps]
        return sorted(found, key=lambda handle: (handle not in between, handle.key))

    def _desk(self) -> Desk:
        return Desk(self._stores, self._rules, self._actor)


def _reason(item: Item) -> str:
    return "on the review page: " + ", ".join(sorted({note.source for note in item.notes}))
