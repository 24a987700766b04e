"""What tap-slack must know beyond one event: who spoke last where, who belongs to which workspace, renamed channels.

One of us who answers in a channel names nobody: the answer is for the customer who spoke last there. That can be runs
ago, so it goes into the bookmark, encrypted because it names people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mappings.errors import SettingsError
from mappings.from_slack import Move, team_of, ts_parts
from stores.codec import Codec

_MOST = 1_000
"""Threads and people that are remembered; the longest unheard of is forgotten first."""


@dataclass(slots=True)
class Memory:
    """See the attributes of the same names of `mappings.from_slack.SlackContext`.

    Attributes:
        spoken: when each of the speakers spoke last.
        unnamed: customers whose name is still to be asked for.
    """

    speakers: dict[str, str] = field(default_factory=dict)
    spoken: dict[str, str] = field(default_factory=dict)
    teams: dict[str, str] = field(default_factory=dict)
    moved: dict[str, Move] = field(default_factory=dict)
    unnamed: dict[str, None] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def load(cls, cursor: Mapping[str, Any], codec: Codec) -> Memory:
        """What the bookmark holds."""
        moved = {new: Move(*before) for new, before in cursor.get("moved", {}).items()}
        if not cursor.get("people"):
            return cls(moved=moved)
        try:
            people = codec.decrypt_json(bytes.fromhex(cursor["people"]))
        except SettingsError:  # another key file: it is learned again
            return cls(moved=moved)
        unnamed = dict.fromkeys(people["unnamed"])
        return cls(people["speakers"], people["spoken"], people["teams"], moved, unnamed)

    def save(self, codec: Codec) -> dict[str, Any]:
        """What goes into the bookmark."""
        self.changed = False
        for remembered in (self.speakers, self.teams, self.unnamed):
            while len(remembered) > _MOST:
                forgotten = next(iter(remembered))
                remembered.pop(forgotten)
                if remembered is self.speakers:
                    self.spoken.pop(forgotten, None)
        people = {"speakers": self.speakers, "spoken": self.spoken, "teams": self.teams, "unnamed": list(self.unnamed)}
        moved = {new: list(move) for new, move in self.moved.items()}
        return {"people": codec.encrypt_json(people).hex(), **({"moved": moved} if moved else {})}

    def heard(self, event: Any, customer: str) -> None:
        """A customer spoke: in the channel, and in the thread if it is in one."""
        channel, ts = event["channel"], event["ts"]
        thread = event.get("thread_ts")
        if isinstance(thread, str) and thread != ts:
            self._heard(f"{channel}/{thread}", ts, customer)
        else:
            self._heard(f"{channel}/{ts}", ts, customer)  # the start of a thread that may follow
        self._heard(channel, ts, customer)

    def meet(self, channel: str, customer: str) -> None:
        """The other one in a direct message, whether they ever spoke or not."""
        if channel not in self.speakers:
            self._heard(channel, "0.0", customer)

    def _heard(self, place: str, ts: str, customer: str) -> None:
        if (ts_parts(self.spoken.get(place)) or (-1, 0)) >= (ts_parts(ts) or (0, 0)):
            return
        self.speakers.pop(place, None)  # so that it is the youngest again
        self.speakers[place], self.spoken[place] = customer, ts
        self.changed = True

    def learn_team(self, event: Any) -> str | None:
        """Keep which workspace the writer of a message belongs to; the writer, when it is not known."""
        if not isinstance(event, dict):
            return None
        message = event.get("message") if event.get("subtype") == "message_changed" else event
        user = message.get("user") if isinstance(message, dict) else None
        if not isinstance(message, dict) or not isinstance(user, str) or not user or message.get("bot_id"):
            return None
        self.know_team(user, team_of(message))
        return None if user in self.teams else user

    def is_unnamed(self, user: str, *, unnamed: bool = True) -> None:
        """Keep whether the name of a customer is still to be asked for."""
        if unnamed and user not in self.unnamed:
            self.unnamed[user] = None
            self.changed = True
        elif not unnamed and user in self.unnamed:
            self.unnamed.pop(user)
            self.changed = True

    def know_team(self, user: str, team: str | None) -> None:
        """Keep which workspace somebody belongs to."""
        if team is not None and self.teams.get(user) != team:
            self.teams[user] = team
            self.changed = True

    def move(self, event: Any) -> None:
        """A channel has another id from now on. What is no such event changes nothing."""
        if not isinstance(event, dict):
            return
        old, new, at = (event.get(name) for name in ("old_channel_id", "new_channel_id", "event_ts"))
        if not (isinstance(old, str) and isinstance(new, str) and isinstance(at, str)) or old == new:
            return
        if ts_parts(at) is None or new in self.moved or new in self.former_ids(old):
            return
        self.moved[new] = Move(old, at)
        self.changed = True
        for place in [one for one in self.speakers if one == old or one.startswith(f"{old}/")]:
            self._heard(new + place.removeprefix(old), self.spoken[place], self.speakers[place])

    def former_ids(self, channel: str) -> set[str]:
        """All ids that a channel has had, the present one too."""
        found = {channel}
        move = self.moved.get(channel)
        while move is not None and move.old not in found:
            found.add(move.old)
            move = self.moved.get(move.old)
        return found
