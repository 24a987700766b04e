"""Opt-out and opt-in words: the table, whole messages only, and a list of one's own."""

from __future__ import annotations

import pytest

from mappings.errors import SettingsError
from mappings.keywords import DEFAULT_KEYWORDS, KEYWORDS, Keyword, keywords_as_csv, parse_keywords


@pytest.mark.parametrize("row", KEYWORDS, ids=lambda row: f"{row.language} {row.word}")
def test_every_word_of_the_table_decides_when_it_stands_alone(row: Keyword) -> None:
    for text in (row.word, row.word.upper(), f"  {row.word}! ", f"\u200b{row.word}\ufeff", f"« {row.word} »"):
        assert DEFAULT_KEYWORDS.decision_of_text(text) == row.decision


@pytest.mark.parametrize("row", KEYWORDS, ids=lambda row: f"{row.language} {row.word}")
def test_no_word_of_the_table_decides_within_a_sentence(row: Keyword) -> None:
    for text in (f"{row.word} that", f"please {row.word}", f"x{row.word}", f"{row.word} {row.word} {row.word}"):
        assert DEFAULT_KEYWORDS.decision_of_text(text) is None


@pytest.mark.parametrize("row", KEYWORDS, ids=lambda row: f"{row.language} {row.word}")
def test_a_button_decides_only_where_the_table_says_so(row: Keyword) -> None:
    assert DEFAULT_KEYWORDS.decision_of_button(row.word) == (row.decision if row.on_buttons else None)


def test_a_buttons_payload_decides_when_its_label_does_not() -> None:
    assert DEFAULT_KEYWORDS.decision_of_button("No more of this", "UNSUBSCRIBE") == "opted_out"
    assert DEFAULT_KEYWORDS.decision_of_button(None, None) is None


def test_no_word_decides_both_ways() -> None:
    assert len({row.word.casefold() for row in KEYWORDS}) == len(KEYWORDS)


@pytest.mark.parametrize("language", ["en", "it", "de", "es", "fr", "pt"])
def test_every_language_has_words_for_both_decisions(language: str) -> None:
    assert {row.decision for row in KEYWORDS if row.language == language} == {"opted_out", "opted_in"}


@pytest.mark.parametrize("text", [None, "", " ", "!!!", "\u200b", "stop" * 1000, "🛑"])
def test_what_is_no_word_decides_nothing(text: str | None) -> None:
    assert DEFAULT_KEYWORDS.decision_of_text(text) is None


def test_a_written_table_reads_back_the_same() -> None:
    again = parse_keywords("\ufeff" + keywords_as_csv())
    for row in KEYWORDS:
        assert again.decision_of_text(row.word) == row.decision
        assert again.decision_of_button(row.word) == DEFAULT_KEYWORDS.decision_of_button(row.word)


@pytest.mark.parametrize(
    "line", ["opted_away,en,stop,yes", "opted_out,en,stop", "opted_out,en,stop,maybe", "opted_out,en,!!,yes"]
)
def test_a_wrong_line_is_named(line: str) -> None:
    with pytest.raises(SettingsError, match="line 2"):
        parse_keywords(f"decision,language,word,on_buttons\n{line}\n")


def test_a_menus_start_is_no_yes_unless_its_label_says_so() -> None:
    assert DEFAULT_KEYWORDS.decision_of_menu("Get started", "START") is None
    assert DEFAULT_KEYWORDS.decision_of_menu("Start", "GET_STARTED") == "opted_in"
    assert DEFAULT_KEYWORDS.decision_of_menu("No more", "STOP") == "opted_out"
