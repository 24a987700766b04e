"""Every path of HubSpot's API that we call, in each of its versions. Pure: words in, a path out.

HubSpot names versions by date in the path since 2026; ``v3`` (with v4 for associations) is supported until September
2027. Sources, read 2026-11: hubspot-api-client 12.0.0 (v3 and v4 paths) and hubspot-sdk 0.1.0a9 (2026-03 paths), both
made from HubSpot's API documents, documented; developers.hubspot.com/docs/api-reference/2026-03/conversations/
custom-channels/guide (custom channels), PublicApiSpecs/{Files,Auth} of github.com/HubSpot/
HubSpot-public-api-spec-collection @9989379 (files, tokens), documented. That ``2026-09`` has the same paths: documented
for objects, conversations and tokens, assumed for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

ApiVersion = Literal["v3", "2026-03", "2026-09"]


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of one API version; every id is escaped."""

    version: ApiVersion = "v3"

    def account_details(self) -> str:
        """What the token's account is."""
        return self._built("account-info", "details")

    def owners(self) -> str:
        """The account's users who own records."""
        return self._built("crm/owners", v3="crm/v3/owners")

    def objects(self, kind: str, *rest: str) -> str:
        """Records of an object type: the list, one by its id, or ``batch``, ``search``, ``merge`` and so on."""
        return self._built("crm/objects", kind, *rest, v3="crm/v3/objects")

    def properties(self, kind: str, *rest: str) -> str:
        """Property definitions of an object type, one by its name, or ``groups``."""
        return self._built("crm/properties", kind, *rest, v3="crm/v3/properties")

    def associations(self, kind: str, other: str, verb: str) -> str:
        """A batch of associations: ``create``, ``read``, ``archive``."""
        return self._built("crm/associations", kind, other, "batch", verb, v3="crm/v4/associations")

    def associated(self, kind: str, record_id: str, other: str) -> str:
        """What of another type is associated with one record."""
        return self._built("crm/objects", kind, record_id, "associations", other, v3="crm/v4/objects")

    def channels(self, *rest: str) -> str:
        """Custom channels: the list, one, its ``channel-accounts``, its ``messages``."""
        return self._built("conversations/custom-channels", *rest, v3="conversations/v3/custom-channels")

    def new_channel(self) -> str:
        """Where a custom channel is registered; of v3 the one path with the version at its end (documented)."""
        return self._built("conversations/custom-channels", v3="conversations/custom-channels/v3")

    def thread(self, thread_id: str) -> str:
        """A thread of the inbox."""
        return self._built("conversations/conversations", "threads", thread_id, v3="conversations/v3/conversations")

    def signed_url(self, file_id: str) -> str:
        """A link to a file, good for some hours."""
        return self._built("files", "files", file_id, "signed-url")

    def files(self, *rest: str) -> str:
        """Where files are uploaded, or one by its id, to be deleted (``gdpr-delete``).

        Of 2026-09 the API document has these paths for its beta only; observed in public code: it answers.
        """
        return self._built("files", "files", *rest)

    def token(self) -> str:
        """Where an OAuth app gets its access token; v1 of this one ends on 2027-02-16."""
        return f"/oauth/{self.version}/token"

    def _built(self, family: str, *parts: str, v3: str | None = None) -> str:
        root = (v3 or f"{family}/v3") if self.version == "v3" else f"{family}/{self.version}"
        return "/".join(["", root, *(quote(part, safe="") for part in parts)])
