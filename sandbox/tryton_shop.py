"""What the people of the demo's shop do in Tryton, and what the server holds, in the form in which the demo counts.

Everything is asked of the real server, by a user who is not ours.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from mappings.to_tryton import MADE_PREFIX, REPLY_MARKER
from sandbox.tryton import USERNAME, TrytonServer

_FATE = "Your reply"
_WRITTEN = re.compile(r" · (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC$")


class TrytonShop:
    """A Tryton server as the demo's stage knows a CRM: the same verbs and the same state as HubSpot's stand-in."""

    def __init__(self, server: TrytonServer) -> None:
        self._server = server
        self._agent = server.log_in()
        (ours,) = self._agent.search_read("res.user", [["login", "=", USERNAME]], ["id"])
        self._our_user_id: int = ours["id"]

    def create_contact_as_person(self, properties: Mapping[str, str]) -> str:
        """A party that a person of the shop makes; its id."""
        name = " ".join(properties[one] for one in ("firstname", "lastname") if properties.get(one))
        return self._agent.add_party(name, **{one: properties[one] for one in ("email", "phone") if one in properties})

    def edit_contact_as_agent(self, contact_id: str, properties: Mapping[str, str]) -> None:
        """An agent writes an answer: a note that begins with ``@reply``."""
        channel = properties["onethread_reply_channel"]
        command = REPLY_MARKER if channel == "auto" else f"{REPLY_MARKER} {channel}"
        self._agent.add_note(contact_id, f"{command}\n{properties['onethread_reply_text']}")

    def state(self) -> dict[str, Any]:
        """Live parties under ``contacts``, notes that show messages under ``communications``, as HubSpot's stand-in."""
        parties = self._agent.search_read("party.party", [], ["name", "active", "identifiers.code"])
        on = [["resource", "in", [f"party.party,{one['id']}" for one in parties]]]
        notes = self._agent.search_read("ir.note", on, ["message", "resource", "create_uid"])
        ours = [one for one in notes if one["create_uid"] == self._our_user_id]
        live = {one["id"]: one for one in parties if one["active"]}
        communications = {}
        for note in ours:
            party_id = int(note["resource"].partition(",")[2])
            if _WRITTEN.search(note["message"].partition("\n")[0]):
                on_live = [str(party_id)] if party_id in live else []
                communications[str(note["id"])] = {"properties": _as_activity(note["message"]), "contacts": on_live}
        return {
            "contacts": {str(key): _as_contact(key, one, ours, communications) for key, one in live.items()},
            "communications": communications,
            "archived_contacts": {str(one["id"]): one for one in parties if not one["active"]},
        }


def _as_activity(text: str) -> dict[str, str]:
    """A note as one of HubSpot's activities: heading, words and reference apart."""
    heading, _, rest = text.partition("\n")
    words, _, reference = rest.rpartition("\n")
    written = _WRITTEN.search(heading)
    parts = (html.escape(one.strip(), quote=False) for one in (heading, words, reference))
    body = "".join(f"<p>{one}</p>" for one in parts)
    moment = written.group(1).replace(" ", "T") + "+00:00" if written else ""
    return {"hs_communication_body": body, "hs_timestamp": moment}


def _as_contact(
    party_id: int, party: Mapping[str, Any], notes: list[dict[str, Any]], communications: Mapping[str, Any]
) -> dict[str, Any]:
    on_it = [one for one in notes if one["resource"] == f"party.party,{party_id}"]
    shown = [str(one["id"]) for one in on_it if str(one["id"]) in communications]
    fates = [one["message"] for one in on_it if one["message"].startswith(_FATE)]
    channels = sorted({one["message"].partition(" · ")[0] for one in on_it if str(one["id"]) in shown})
    made = any(one["code"].startswith(MADE_PREFIX) for one in party["identifiers."])
    status, _, detail = (fates[-1].partition(": ")[2] if fates else "").partition("\n")
    return {
        "properties": {
            "firstname": party["name"], "onethread_projection": "true" if made else "false",
            "onethread_channels": ", ".join(channels), "onethread_reply_status": status,
            "onethread_reply_detail": " ".join(detail.rpartition("\nref ")[0].split()),
        },
        "communications": shown,
    }  # fmt: skip
