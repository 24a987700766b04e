"""The Conversations API of the stand-ins for Messenger and Instagram: lists of conversations and of their messages.

What it enforces is listed in the rules of both: newest first, details of the twenty newest messages only, no
conversations that lay idle in the Requests folder for 30 days, cursors that stay good when something newer comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from werkzeug.wrappers import Request, Response

from sandbox.base import Clock, json_response
from sandbox.graph_reading import cursor_of, fields_of, graph_time, key_of_cursor, page_of, refuse_missing
from sandbox.meta import refuse

_DETAILED = 20
_REQUESTS_KEPT_SECONDS = 30 * 86_400


class GraphConversations:
    """The reading calls that both have; a stand-in says whose a message is and how it is shown.

    Attributes:
        person_id: the field of a person and of a message that has the person's id.
    """

    person_id: ClassVar[str]
    clock: Clock
    people: dict[str, Any]
    messages: dict[str, Any]
    files: dict[str, tuple[bytes, str]]
    request_folder: str

    # What a stand-in says

    def spend_reading(self) -> None:
        """Count a call; refuse one that is too many."""
        raise NotImplementedError

    def is_shown(self, message: Any) -> bool:
        """Whether a message is still there."""
        del message
        return True

    def facts_of(self, person: Any) -> Mapping[str, Any]:
        """The fields of a conversation that are not the same in both."""
        raise NotImplementedError

    def message_row(self, message: Any, wanted: Mapping[str, str]) -> dict[str, Any]:
        """A message with the fields that were asked for."""
        raise NotImplementedError

    # The calls

    def list_conversations(self, request: Request, fields: str) -> Response:
        """A page of conversations; `fields` are those that a row has if none are asked for."""
        asked = request.args
        threads = [
            one for one in self.people.values()
            if self._thread(one) and asked.get("user_id") in {None, getattr(one, self.person_id)}
            and not (one.in_requests and self.clock.epoch() - self._updated(one) > _REQUESTS_KEPT_SECONDS)
        ]  # fmt: skip

        def place(one: Any) -> str:
            """Where it stands in the list: by time, so that a cursor stays good when something newer comes."""
            return f"{10**16 - int(self._updated(one) * 1_000_000):016d}:{one.conversation}"

        threads.sort(key=place)
        after = key_of_cursor(asked.get("after", ""))
        rows, paging = page_of(request, [one for one in threads if place(one) > after], place)
        wanted = fields_of(asked.get("fields", fields))
        return json_response({"data": [self._conversation(one, wanted) for one in rows], "paging": paging})

    def get_messages(self, request: Request, node: str) -> Response:
        """A page of the messages of a conversation."""
        self.spend_reading()
        person = self._person_of_conversation(node)
        if person is None:
            refuse_missing(node)
        thread = self._thread(person)
        after = self.messages.get(key_of_cursor(request.args.get("after", "")))
        rows, paging = page_of(request, thread[thread.index(after) + 1 if after else 0 :], lambda one: one.id)
        wanted = fields_of(request.args.get("fields", "id,created_time"))
        return json_response({"data": [self._listed(one, wanted, thread) for one in rows], "paging": paging})

    def read_node(self, request: Request, node: str) -> Response:
        """A conversation or a message by its id."""
        self.spend_reading()
        person = self._person_of_conversation(node)
        if person is not None:
            wanted = fields_of(request.args.get("fields", "id,updated_time"))
            return json_response(self._conversation(person, wanted))
        message = self.messages.get(node)
        if message is None:
            refuse_missing(node)
        if message not in self._thread(self.people[getattr(message, self.person_id)])[:_DETAILED]:
            refuse(100, "(#100) This message has been deleted", subcode=33, kind="GraphMethodException")
        return json_response(self.message_row(message, fields_of(request.args.get("fields", "id,created_time"))))

    def get_file(self, request: Request, name: str) -> Response:
        """The bytes of an attachment, for everybody who has its address."""
        del request
        if name not in self.files:
            return Response(status=404)
        data, mime_type = self.files[name]
        return Response(data, content_type=mime_type)

    # Inside

    def _person_of_conversation(self, conversation: str) -> Any:
        return next((one for one in self.people.values() if one.conversation == conversation), None)

    def _thread(self, person: Any) -> list[Any]:
        """The messages of a conversation, newest first."""
        mine = getattr(person, self.person_id)
        found = [one for one in self.messages.values() if getattr(one, self.person_id) == mine and self.is_shown(one)]
        found.reverse()
        return sorted(found, key=lambda one: -one.at)

    def _updated(self, person: Any) -> float:
        return max((one.at for one in self._thread(person)), default=0.0)

    def _conversation(self, person: Any, wanted: dict[str, str]) -> dict[str, Any]:
        known = {
            "updated_time": graph_time(self._updated(person)),
            "folder": self.request_folder if person.in_requests else "inbox",
            **self.facts_of(person),
        }
        row = {"id": person.conversation, **{name: value for name, value in known.items() if name in wanted}}
        if "messages" in wanted:
            thread, inner = self._thread(person), fields_of(wanted["messages"] or "id,created_time")
            shown = thread[: int(inner.pop("limit", "") or 25)]
            row["messages"] = {"data": [self._listed(one, inner, thread) for one in shown]}
            if len(shown) < len(thread):
                row["messages"]["paging"] = {"cursors": {"after": cursor_of(shown[-1].id)}}
        return row

    def _listed(self, message: Any, wanted: dict[str, str], thread: list[Any]) -> dict[str, Any]:
        """A message within a list: beyond the newest ones only its id and time."""
        known = message in thread[:_DETAILED]
        return self.message_row(message, wanted if known else {"created_time": ""})
