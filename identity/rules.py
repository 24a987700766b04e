"""The rules of who is who, as a validated model of ``rules.yml``, and what they say of one handle.

The partition into persons is a pure function of evidence and these rules; see README.md in this folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mappings.contact_points import ROLE_MAILBOXES, is_role_mailbox, normalize_email, normalize_phone
from mappings.errors import SettingsError
from mappings.records import Handle, Strength
from stores.graph import FORMER

PACKAGED_RULES = Path(__file__).with_name("rules.yml")

Link = Literal["links", "shared", "role", "blocked", "invalid"]
"""What a handle may do: ``links``; ``shared`` is found by counting; the others are said by the value alone."""


class _RulesPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KindRules(_RulesPart):
    """The rules of one kind of handle."""

    anchor_rank: NonNegativeInt = 0
    caps: dict[str, NonNegativeInt] = Field(default_factory=dict)
    max_per_person: int | None = Field(None, ge=1)
    recycled: dict[str, NonNegativeInt] = Field(default_factory=dict)


class RoleMailboxes(_RulesPart):
    """Local parts added to or taken from the built-in list of role mailboxes."""

    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()


class Rules(_RulesPart):
    """All the rules. Frozen: one run has one set of rules."""

    version: Literal[1]
    linking_strengths: tuple[Strength, ...] = Field(("verified", "crm"), min_length=1)
    max_handles_per_person: int = Field(60, ge=1)
    max_handles_per_record: int = Field(16, ge=2)
    role_mailboxes: RoleMailboxes = RoleMailboxes()
    blocked: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    kinds: dict[str, KindRules] = Field(default_factory=dict)

    def of(self, kind: str) -> KindRules:
        """The rules of that kind, of a former one too; those of a platform's own id when none are written."""
        return self.kinds.get(kind) or self.kinds.get(kind.removeprefix(FORMER), _PLATFORM_ID)

    @cached_property
    def limited_kinds(self) -> frozenset[str]:
        """The kinds of which a person has a limited number."""
        return frozenset(kind for kind, rules in self.kinds.items() if rules.max_per_person is not None)

    @cached_property
    def telling_kinds(self) -> frozenset[str]:
        """The kinds of ids that can show that a handle changed hands."""
        return frozenset(one for rules in self.kinds.values() for one in rules.recycled)

    def link_of(self, handle: Handle) -> Link:
        """What the value alone says of `handle`: it links, or why not. ``shared`` takes counting, not looking."""
        kind, value = handle.kind, handle.value
        patterns = self.blocked.get(kind)
        if patterns and any(fnmatchcase(value, pattern) for pattern in patterns):
            return "blocked"
        if kind == "email":
            if normalize_email(value) != value:
                return "invalid"
            return "role" if self._is_role_mailbox(value) else "links"
        if kind == "phone" and normalize_phone(value) != value:
            return "invalid"
        return "links"

    def cap_exceeded(self, kind: str, neighbours: Mapping[tuple[str, str | None], int]) -> str | None:
        """The neighbour kind of which a handle of `kind` has too many; ``None`` when it is within its caps.

        Args:
            kind: of the handle.
            neighbours: distinct neighbours by kind and scope; somebody may have an id in each of several scopes.
        """
        caps = self.of(kind).caps
        return min((other for (other, _), count in neighbours.items() if count > caps.get(other, count)), default=None)

    def digest(self) -> str:
        """The same for the same rules; a stored graph knows by it whether the rules have changed."""
        content = {**self.model_dump(mode="json"), "built_in_role_mailboxes": sorted(ROLE_MAILBOXES)}
        for side in ("add", "remove"):
            content["role_mailboxes"][side] = sorted(content["role_mailboxes"][side])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _is_role_mailbox(self, email: str) -> bool:
        local = email.partition("@")[0].partition("+")[0]
        if local in self.role_mailboxes.remove:
            return False
        return local in self.role_mailboxes.add or is_role_mailbox(email)


_PLATFORM_ID = KindRules()


def load_rules(path: str | Path | None = None) -> Rules:
    """The rules in the file at `path`; the packaged ones when it is ``None``.

    Raises:
        SettingsError: the file is missing, not YAML, or not a set of rules; says where.
    """
    file = Path(path) if path is not None else PACKAGED_RULES
    try:
        content: Any = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"rules_file {file} cannot be read: {error.strerror}"
        raise SettingsError(msg) from None
    except MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        msg = f"rules_file {file} is not YAML{where}: {error.problem}"
        raise SettingsError(msg) from None
    except (YAMLError, UnicodeDecodeError) as error:
        msg = f"rules_file {file} is not YAML ({type(error).__name__})"
        raise SettingsError(msg) from None
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors(include_input=False)
        )
        msg = f"rules_file {file}: {wrong}"
        raise SettingsError(msg) from None
