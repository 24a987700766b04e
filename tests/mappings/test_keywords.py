"""Opt-out and opt-in words: the table, whole messages only, and a list of one's own."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mappings.errors import SettingsError
from mappings.keywords import DEFAULT_KEYWORDS, KEYWORDS, Keyword, keywords_as_csv, parse_keywords


def said(text: str) -> str:
    """A text of letters and spaces without case and without what is no letter at its ends."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    letters = [index for index, one in enumerate(plain) if one.isalnum()]
    return plain[letters[0] : letters[-1] + 1]


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


@pytest.mark.parametrize("language", ["en", "it", "de", "es", "fr", "pt", "zh", "ja", "th", "id", "vi"])
def test_every_language_has_words_for_both_decisions(language: str) -> None:
    assert {row.decision for row in KEYWORDS if row.language == language} == {"opted_out", "opted_in"}


PLAIN_WORDS = {said(row.word) for row in KEYWORDS}


LETTERS = st.text(st.characters(categories=["L", "N", "Zs"]), max_size=12)


@given(row=st.sampled_from(KEYWORDS), before=LETTERS, after=LETTERS)
def test_nothing_that_says_more_than_the_word_decides(row: Keyword, before: str, after: str) -> None:
    text = before + row.word + after
    assume(said(text) not in PLAIN_WORDS)
    assert DEFAULT_KEYWORDS.decision_of_text(text) is None
    assert DEFAULT_KEYWORDS.decision_of_button(text) is None


@pytest.mark.parametrize(
    "sentence",
    [
        "我想退订明天的房间", "這個訂單可以退訂嗎", "怎么取消订阅会员?", "快递被拒收了", "我想重新订阅杂志",
        "請問如何取消訂閱付費方案", "我想重新訂閱雜誌", "配信停止になった動画はいつ見られますか", "配信解除の方法は?",
        "配信停止希望者は何人ですか", "機械が停止しました", "配信再開はいつですか", "購読解除したのに請求されました",
        "ยกเลิกคำสั่งซื้อ", "ยกเลิก", "ฉันไม่รับข่าวสารนี้จากใคร", "ทำไมระบบหยุดส่งข้อความถึงลูกค้า", "สมัครรับข่าวสารแล้วแต่ไม่ได้คูปอง",
        "ยกเลิกการรับข่าวสารแล้วยังได้อยู่", "ยกเลิกรับข่าวสารยังไง", "kapan hujan berhenti?", "mesinnya berhenti", "batal",
        "UNREG itu apa?", "bagaimana cara berhenti berlangganan majalah", "saya mau berlangganan lagi majalahnya",
        "hủy", "tôi muốn hủy đăng ký khóa học", "huỷ đăng ký lớp học", "toi muon huy dang ky lop hoc", "TC",
        "khi nào ngừng nhận tin tuyển dụng?", "ngung nhan tin tuyen dung", "đăng ký nhận tin ở đâu?",
    ],
)  # fmt: skip
def test_an_ordinary_sentence_decides_nothing(sentence: str) -> None:
    assert DEFAULT_KEYWORDS.decision_of_text(sentence) is None


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
