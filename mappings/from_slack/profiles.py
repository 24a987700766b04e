"""A Slack user object as evidence: a name, and an e-mail address as strong as who vouches for it.

Slack has people confirm the address that they log in with, but the administrator of a workspace can set it for them
(SCIM, single sign-on), and anybody can open a workspace. So the address of a member or guest of *our* workspace is
verified: our administrator invited it. That of another organisation's people is what their administrator says:
``claimed``, which links nobody, unless the operator trusts that workspace. A phone number in a profile is typed by its
owner: ``claimed``.

Source: docs.slack.dev/reference/objects/user-object, /reference/methods/users.info (``email`` needs users:read.email;
people of other organisations may come without it), read 2026-11, documented; who can set an address: slack.com/help
(change a member's e-mail, SCIM), assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from mappings.contact_points import clean_name, normalize_email, normalize_phone
from mappings.fields import optional_object_of, optional_text_of, text_of
from mappings.ids import evidence_key
from mappings.records import Evidence, Handle, Profile, Strength

_WHERE = "Slack user"


def team_of_user(user: Mapping[str, Any]) -> str | None:
    """The workspace that a user object belongs to."""
    profile = user.get("profile")
    named = (user.get("team_id"), user.get("team"), profile.get("team") if isinstance(profile, dict) else None)
    return next((one for one in named if isinstance(one, str) and one), None)


def profile_of(source: Mapping[str, Any], where: str = _WHERE) -> Profile | None:
    """The name in a user object's ``profile`` or in the ``user_profile`` of a message."""
    name, shown = (optional_text_of(source, key, where) for key in ("real_name", "display_name"))
    profile = Profile(
        name=clean_name(name) or clean_name(shown),
        username=clean_name(shown) or clean_name(optional_text_of(source, "name", where)),
        picture_url=optional_text_of(source, "image_72", where) or optional_text_of(source, "image_192", where),
    )
    return profile if profile.name or profile.username else None


def evidence_from_slack_user(
    user: Mapping[str, Any],
    account: str,
    *,
    own_teams: Set[str],
    trusted_teams: Set[str],
    observed_at: datetime,
    raw_ref: str,
    default_region: str | None = None,
) -> list[Evidence]:
    """What Slack says of a person; nothing of a bot or of somebody who was deleted.

    `user`::

        {"id": "U0CUSTOMER", "team_id": "T0PARTNER", "name": "ada", "is_bot": false, "locale": "en-GB",
         "profile": {"real_name": "Ada Example", "display_name": "ada", "email": "ada@partner.example"}}

    Raises:
        MissingFieldError: the id is absent, or a field has the wrong type.
    """
    if user.get("is_bot") is True or user.get("deleted") is True:
        return []
    handle = Handle(kind="slack_user", scope=account, value=text_of(user, "id", _WHERE))
    details = optional_object_of(user, "profile", _WHERE) or {}
    found = []

    def tell(method: str, strength: Strength, handles: list[Handle], profile: Profile | None = None) -> None:
        told = "|".join(one.key for one in handles)
        found.append(
            Evidence(
                evidence_key=evidence_key("slack", account, method, told),
                method=method,
                strength=strength,
                channel="slack",
                account=account,
                handles=handles,
                observed_at=observed_at,
                profile=profile,
                raw_ref=raw_ref,
            )
        )

    profile = profile_of({"name": user.get("name"), "real_name": user.get("real_name"), **details})
    if profile is not None:
        locale = optional_text_of(user, "locale", _WHERE)
        tell("profile", "verified", [handle], profile.model_copy(update={"locale": locale}))
    email = normalize_email(optional_text_of(details, "email", _WHERE) or "")
    if email is not None:
        team = team_of_user(user)
        vouched = "*" in trusted_teams or (team is not None and team in own_teams | trusted_teams)
        tell("workspace_email", "verified" if vouched else "claimed", [handle, Handle(kind="email", value=email)])
    phone = normalize_phone(optional_text_of(details, "phone", _WHERE) or "", default_region)
    if phone is not None:
        tell("profile_phone", "claimed", [handle, Handle(kind="phone", value=phone)])
    return found
