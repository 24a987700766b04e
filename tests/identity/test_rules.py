"""What the rules say of a handle by its value alone, and how a wrong file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from identity.rules import load_rules
from mappings.errors import SettingsError
from mappings.records import Handle
from tests.identity.worlds import email, messenger, phone


def rules_file(folder: Path, text: str) -> Path:
    file = folder / "rules.yml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("handle", "link"),
    [
        (email("ann"), "links"),
        (email("info"), "role"),
        (email("support+berlin"), "role"),
        (Handle(kind="email", value="root@localhost"), "invalid"),
        (Handle(kind="email", value="Ann@Mail.Example"), "invalid"),
        (phone(1), "links"),
        (Handle(kind="phone", value="12125550100"), "invalid"),
        (Handle(kind="phone", value="+0000000"), "invalid"),
        (messenger("42"), "links"),
        (Handle(kind="kind_of_another_package", value="42"), "links"),
    ],
)
def test_a_value_alone_says_whether_it_may_link(handle: Handle, link: str) -> None:
    assert load_rules().link_of(handle) == link


def test_role_mailboxes_can_be_added_and_removed(tmp_path: Path) -> None:
    rules = load_rules(rules_file(tmp_path, "version: 1\nrole_mailboxes: {add: [ann], remove: [info]}\n"))
    assert rules.link_of(email("ann")) == "role"
    assert rules.link_of(email("info")) == "links"


def test_blocked_values_and_patterns_do_not_link(tmp_path: Path) -> None:
    rules = load_rules(
        rules_file(tmp_path, 'version: 1\nblocked: {email: ["*@mail.example"], phone: ["+12125550101"]}\n')
    )
    assert rules.link_of(email("ann")) == "blocked"
    assert rules.link_of(phone(1)) == "blocked"
    assert rules.link_of(phone(2)) == "links"


def test_the_packaged_caps_are_those_documented() -> None:
    rules = load_rules()
    ids = ("whatsapp_user", "messenger_psid", "instagram_igsid", "telegram_user", "line_user", "viber_user", "x_user")
    others = {"slack_user": 10, "hubspot_contact": 1, "salesforce_contact": 1, "tryton_contact": 1}
    assert rules.of("phone").caps == {**dict.fromkeys(ids, 2), **others, "email": 2, "whatsapp_user": 1}
    assert rules.of("phone").recycled == {"whatsapp_user": 90}
    assert rules.of("email").caps == {**dict.fromkeys(ids, 3), **others, "phone": 3}
    assert rules.of("hubspot_contact").max_per_person == 1
    assert rules.max_handles_per_person == 60


def test_a_cap_is_exceeded_by_one_more_than_it() -> None:
    rules = load_rules()
    assert rules.cap_exceeded("phone", {("email", None): 2}) is None
    assert rules.cap_exceeded("phone", {("email", None): 3}) == "email"


def test_an_id_in_each_of_several_scopes_exceeds_no_cap() -> None:
    portals: dict[tuple[str, str | None], int] = {("hubspot_contact", "1"): 1, ("hubspot_contact", "2"): 1}
    assert load_rules().cap_exceeded("phone", portals) is None


def test_a_former_handle_follows_the_rules_of_its_kind() -> None:
    assert load_rules().of("former_phone") == load_rules().of("phone")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\n", "version"),
        ("version: 1\nmax_handles_per_persn: 5\n", "max_handles_per_persn"),
        ("version: 1\nkinds: {phone: {caps: {email: -1}}}\n", "kinds.phone.caps.email"),
        ("version: 1\nlinking_strengths: []\n", "linking_strengths"),
        ("version: [1\n", "line"),
        ("just words\n", "file"),
    ],
)
def test_a_wrong_file_is_refused_and_says_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_rules(rules_file(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_rules(tmp_path / "none.yml")


def test_the_digest_changes_with_the_rules_and_not_with_their_layout(tmp_path: Path) -> None:
    first = load_rules(rules_file(tmp_path, "version: 1\nrole_mailboxes: {add: [a, b]}\n")).digest()
    same = load_rules(rules_file(tmp_path, "role_mailboxes: {add: [b, a]}\n\nversion: 1\n")).digest()
    other = load_rules(rules_file(tmp_path, "version: 1\nrole_mailboxes: {add: [a, c]}\n")).digest()
    assert first == same
    assert first != other
