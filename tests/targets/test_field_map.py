"""Which fact goes into which field: reading the file, and holding it against an account."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mappings.errors import SettingsError
from targets.field_map import DescribedField, Facts, check_field_map, cut, fitted, load_field_map, parse_field_map

FACTS: Facts = {"contact": {"key": "text", "name": "text", "seen": "datetime", "vip": "boolean"}}
NEEDED = {"contact": ("key",)}
GOOD = "version: 1\ncontact:\n  key: Key\n  name: {field: Name, owner: people}\n  seen: null\n"


def test_a_fact_goes_into_its_field_by_owner() -> None:
    rules = parse_field_map(GOOD, "fields.yml", FACTS, NEEDED)
    facts = {"key": "1", "name": "Ana", "seen": None}
    assert rules.fields("contact", facts) == {"Key": "1", "Name": "Ana"}
    assert rules.fields("contact", facts, owner="people") == {"Name": "Ana"}
    assert rules.find("contact", "seen") is None
    assert rules.names("contact", owner="onethread") == ["Key"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 2\n", "version"),
        ("version: 1\nperson: {}\n", "no object is called person"),
        (GOOD.replace("key: Key", "kay: Key"), "no fact is called kay"),
        ("version: 1\ncontact: {name: Name}\n", "key must have a field"),
        (GOOD.replace("Key\n", "Name\n"), "Name is the field of two facts"),
        (GOOD.replace("key: Key", "key: Key\n  key: Other"), "line 4"),
        (GOOD.replace("key: Key", "key: 'Id FROM User--'"), "contact"),
        (GOOD.replace("people", "everybody"), "owner"),
        ("version: [", "line"),
        ("- a\n", "fields.yml"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        parse_field_map(text, "fields.yml", FACTS, NEEDED)
    assert "fields.yml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_field_map(str(tmp_path / "none.yml"), tmp_path, FACTS, NEEDED)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (None, "does not exist"),
        (DescribedField("number"), "takes no text"),
        (DescribedField(None), "takes no text"),
        (DescribedField("text", key=True, updateable=False), "may not be written"),
        (DescribedField("text", key=True, createable=False), "may not be written"),
        (DescribedField("text"), "is not a unique external id"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field: DescribedField | None, words: str) -> None:
    rules = parse_field_map(GOOD, "fields.yml", FACTS, NEEDED)
    there = {"Name": DescribedField("text"), **({"Key": field} if field else {})}
    with pytest.raises(SettingsError, match=f"key -> Key {words}"):
        check_field_map(rules, {"contact": there}, FACTS, {"contact": "key"})


def test_a_map_that_fits_passes() -> None:
    rules = parse_field_map(GOOD, "fields.yml", FACTS, NEEDED)
    there = {"Name": DescribedField("text"), "Key": DescribedField("text", key=True)}
    check_field_map(rules, {"contact": there}, FACTS, {"contact": "key"})


def test_a_text_is_escaped_only_where_it_is_shown_as_html() -> None:
    text = "<b>{!User.Id}</b>\n& done"
    fields = {"Plain": DescribedField("text", 100), "Rich": DescribedField("text", 200, html=True)}
    values = fitted({"Plain": text, "Rich": text, "Unknown": text, "Empty": None}, fields)
    assert values["Plain"] == values["Unknown"] == text
    assert values["Rich"] == "&lt;b&gt;&#123;!User.Id&#125;&lt;/b&gt;<br>&amp; done"
    assert values["Empty"] is None


@given(st.text(max_size=50), st.integers(1, 40), st.booleans())
def test_a_text_never_exceeds_its_field(text: str, length: int, rich: bool) -> None:
    value = fitted({"F": text}, {"F": DescribedField("text", length, html=rich)})["F"]
    assert isinstance(value, str)
    assert len(value.encode("utf-16-le")) // 2 <= length
    if rich:
        assert "<" not in value.replace("<br>", "")


@given(st.text(max_size=50), st.integers(1, 40))
def test_a_cut_text_is_the_beginning_of_the_text(text: str, units: int) -> None:
    done = cut(text, units)
    assert done == text or text.startswith(done.removesuffix("…"))
