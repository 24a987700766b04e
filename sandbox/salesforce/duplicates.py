"""Duplicate rules: when a new or changed record looks like one that is there.

Source: developer.salesforce.com, REST API Developer Guide, "Duplicate Rule Header", second-hand, 2026-10 (documented):
``allowSave=true`` saves past an alert; a rule whose action is to block still refuses. The matching is ours: equal
values in one of the listed groups of fields, upper and lower case alike, where the org's own matching is fuzzy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.salesforce.refusals import Refusal


@dataclass(frozen=True, slots=True)
class DuplicateRule:
    """One active rule. `groups`: sets of fields that are all filled and all equal in a match."""

    name: str
    object_name: str
    groups: tuple[tuple[str, ...], ...]
    blocks: bool = False

    def keys(self, values: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
        """What two records that look like one have in common: the group, and its values in lower case."""
        for group in self.groups:
            if all(values.get(one) for one in group):
                yield (self.name, *group), tuple(str(values[one]).lower() for one in group)

    def touched(self, changed: set[str]) -> bool:
        """Whether a change of these fields makes the rule look again."""
        return any(one in changed for group in self.groups for one in group)


@dataclass(frozen=True, slots=True)
class DuplicateHeader:
    """What a call says in ``Sforce-Duplicate-Rule-Header``."""

    allow_save: bool = False
    include_details: bool = False

    @classmethod
    def read(cls, text: str) -> DuplicateHeader:
        """The header's value: ``allowSave=true; includeRecordDetails=true; runAsCurrentUser=true``, `;` or `,`."""
        parts = [one.partition("=") for one in text.replace(",", ";").split(";")]
        told = {name.strip().lower(): value.strip().lower() == "true" for name, _, value in parts}
        return cls(told.get("allowsave", False), told.get("includerecorddetails", False))


STANDARD_CONTACT_RULE = DuplicateRule(
    "Standard_Contact_Duplicate_Rule",
    "Contact",
    (("FirstName", "LastName", "Email"), ("FirstName", "LastName", "Phone")),
)


def duplicates_detected(rule: DuplicateRule, found: list[dict[str, Any]], header: DuplicateHeader) -> Refusal:
    """The refusal that names the records `found`, which are in the shape of a REST answer."""
    records = found if header.include_details else [{"attributes": one["attributes"], "Id": one["Id"]} for one in found]
    message = (
        "You're creating a duplicate record. We recommend you use an existing record instead."
        if rule.blocks
        else ("Use one of these records?")
    )
    matches = [
        {"additionalInformation": [], "fieldDiffs": [], "matchConfidence": 100.0, "record": one} for one in records
    ]
    result = {
        "allowSave": not rule.blocks, "duplicateRule": rule.name, "duplicateRuleEntityType": rule.object_name,
        "errorMessage": message,
        "matchResults": [{
            "entityType": rule.object_name, "errors": [], "matchEngine": "FuzzyMatchEngine", "matchRecords": matches,
            "rule": rule.name.replace("Duplicate_Rule", "Match_Rule_v1_1"), "size": len(matches), "success": True,
        }],
    }  # fmt: skip
    return Refusal("DUPLICATES_DETECTED", message, more={"duplicateResult": result})
