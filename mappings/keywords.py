"""The words by which a customer says "no more advertising" or "yes again", when they are all of a message.

A word inside a sentence says nothing ("when will it stop raining?"). A wrong "no" costs an advertisement, a missed one
breaks the law in many countries, so single words that carriers treat as a "no" are one here too. For a "yes" it is the
other way round: only words that can mean nothing else.

Sources: English words in capitals below: CTIA Messaging Principles and Best Practices (2023-05) and
twilio.com/docs/messaging/features (opt-out keywords), documented for SMS, read 2026-11; assumed for other channels.
All other languages are assumed: the dictionary words that shops print under their advertisements.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from mappings.errors import SettingsError

Decision = Literal["opted_out", "opted_in"]


class Keyword(NamedTuple):
    """One row of the table.

    Attributes:
        decision: what the word says.
        language: two letters, for the reader of the table; every row is tried on every message.
        word: one or more words, compared without case, accents of typing (zero width), outer punctuation.
        on_buttons: whether a button with this label says the same. "Cancel" on a button cancels an order.
    """

    decision: Decision
    language: str
    word: str
    on_buttons: bool = True


_OUT: Decision = "opted_out"
_IN: Decision = "opted_in"

KEYWORDS: tuple[Keyword, ...] = (
    Keyword(_OUT, "en", "STOP"),
    Keyword(_OUT, "en", "STOPALL"),
    Keyword(_OUT, "en", "UNSUBSCRIBE"),
    Keyword(_OUT, "en", "CANCEL", on_buttons=False),
    Keyword(_OUT, "en", "END", on_buttons=False),
    Keyword(_OUT, "en", "QUIT", on_buttons=False),
    Keyword(_OUT, "en", "OPTOUT"),
    Keyword(_OUT, "en", "REVOKE", on_buttons=False),
    Keyword(_OUT, "en", "opt out"),
    Keyword(_OUT, "en", "stop promotions"),  # the label that WhatsApp Manager proposes for its opt-out button
    Keyword(_OUT, "en", "stop all"),
    Keyword(_OUT, "en", "no more messages"),
    Keyword(_IN, "en", "START"),
    Keyword(_IN, "en", "UNSTOP"),
    Keyword(_IN, "en", "subscribe"),
    Keyword(_IN, "en", "opt in"),
    # "YES" is a carriers' word as well; on a chat channel it answers a question, so it is not one here.
    Keyword(_OUT, "it", "ferma"),
    Keyword(_OUT, "it", "basta"),
    Keyword(_OUT, "it", "annulla iscrizione"),
    Keyword(_OUT, "it", "annulla", on_buttons=False),
    Keyword(_OUT, "it", "disiscrivimi"),
    Keyword(_OUT, "it", "disiscriviti"),
    Keyword(_OUT, "it", "cancellami"),
    Keyword(_OUT, "it", "interrompi promozioni"),
    Keyword(_IN, "it", "iscrivimi"),
    Keyword(_OUT, "de", "stopp"),
    Keyword(_OUT, "de", "abmelden"),
    Keyword(_OUT, "de", "abbestellen"),
    Keyword(_OUT, "de", "keine werbung"),
    Keyword(_OUT, "de", "keine werbung mehr"),
    Keyword(_IN, "de", "wieder anmelden"),
    Keyword(_OUT, "es", "alto"),
    Keyword(_OUT, "es", "parar"),
    Keyword(_OUT, "es", "baja"),
    Keyword(_OUT, "es", "darme de baja"),
    Keyword(_OUT, "es", "cancelar suscripción"),
    Keyword(_OUT, "es", "no más mensajes"),
    Keyword(_IN, "es", "suscribirme"),
    Keyword(_OUT, "fr", "arrêt"),
    Keyword(_OUT, "fr", "arret"),
    Keyword(_OUT, "fr", "arrêter"),
    Keyword(_OUT, "fr", "désabonner"),
    Keyword(_OUT, "fr", "me désabonner"),
    Keyword(_OUT, "fr", "se désabonner"),
    Keyword(_OUT, "fr", "désinscription"),
    Keyword(_IN, "fr", "m'abonner"),
    Keyword(_OUT, "pt", "pare"),
    Keyword(_OUT, "pt", "sair", on_buttons=False),
    Keyword(_OUT, "pt", "descadastrar"),
    Keyword(_OUT, "pt", "cancelar inscrição"),
    Keyword(_OUT, "pt", "cancelar assinatura"),
    Keyword(_OUT, "pt", "parar promoções"),
    Keyword(_IN, "pt", "me inscrever"),
    # Chinese, simplified and traditional. Not here: T, TD and R, which mainland shops ask for by SMS, for they are also
    # sizes and initials; and the bare word for "subscribe", which is a button of many a paid service.
    Keyword(_OUT, "zh", "退订"),  # the word under mainland advertisements ("回复退订")
    Keyword(_OUT, "zh", "退訂"),
    Keyword(_OUT, "zh", "取消订阅"),  # "unsubscribe"
    Keyword(_OUT, "zh", "取消訂閱"),
    Keyword(_OUT, "zh", "拒收"),  # "I refuse to receive" ("拒收请回复"), said of messages
    Keyword(_IN, "zh", "重新订阅"),  # "subscribe again": said to nobody but a sender of news
    Keyword(_IN, "zh", "重新訂閱"),
    Keyword(_OUT, "ja", "配信停止"),  # "stop delivery", the label of the link under Japanese newsletters
    Keyword(_OUT, "ja", "配信停止希望"),  # the same as a wish, as people type it
    Keyword(_OUT, "ja", "配信解除"),
    Keyword(_OUT, "ja", "購読解除"),  # "end the subscription"
    Keyword(_OUT, "ja", "停止", on_buttons=False),  # "stop", in Chinese as well; on a button it stops something else
    Keyword(_IN, "ja", "配信再開"),  # "resume delivery"
    # Thai, Indonesian and Vietnamese: the bare words for "cancel" are not here, they cancel orders.
    Keyword(_OUT, "th", "ยกเลิกการรับข่าวสาร"),  # "cancel receiving news"
    Keyword(_OUT, "th", "ยกเลิกรับข่าวสาร"),
    Keyword(_OUT, "th", "ไม่รับข่าวสาร"),  # "receive no news"
    Keyword(_OUT, "th", "หยุดส่งข้อความ"),  # "stop sending messages"
    Keyword(_IN, "th", "สมัครรับข่าวสาร"),  # "sign up for news"
    Keyword(_OUT, "id", "UNREG"),  # the word of Indonesian carriers' own services
    Keyword(_OUT, "id", "berhenti", on_buttons=False),  # "stop"; on a button it may end a dialogue
    Keyword(_OUT, "id", "berhenti berlangganan"),  # "unsubscribe"
    Keyword(_IN, "id", "berlangganan lagi"),  # "subscribe again"
    Keyword(_OUT, "vi", "hủy đăng ký"),  # "cancel the subscription", in both spellings and without marks
    Keyword(_OUT, "vi", "huỷ đăng ký"),
    Keyword(_OUT, "vi", "huy dang ky"),
    Keyword(_OUT, "vi", "ngừng nhận tin"),  # "stop receiving news"
    Keyword(_OUT, "vi", "ngung nhan tin"),
    Keyword(_IN, "vi", "đăng ký nhận tin"),  # "sign up for news"
)

_INVISIBLE = re.compile(r"[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_LONGEST = 60


class Keywords:
    """The table, ready for look-ups: whole messages only."""

    def __init__(self, rows: Iterable[Keyword] = KEYWORDS) -> None:
        rows = tuple(rows)
        self._typed: Mapping[str, Decision] = {_plain(row.word): row.decision for row in rows}
        self._on_buttons: Mapping[str, Decision] = {_plain(row.word): row.decision for row in rows if row.on_buttons}

    def decision_of_text(self, text: str | None) -> Decision | None:
        """What a typed message decides; ``None`` unless it is one of the words and nothing else."""
        return _look_up(self._typed, text)

    def decision_of_button(self, *labels: str | None) -> Decision | None:
        """What a pressed button decides, by its label or its payload."""
        return next((found for label in labels if (found := _look_up(self._on_buttons, label))), None)

    def decision_of_menu(self, label: str | None, payload: str | None) -> Decision | None:
        """What a button of a menu decides. START is the payload of many a "Get started": no "yes" by itself."""
        by_payload = self.decision_of_button(payload)
        return self.decision_of_button(label) or (by_payload if by_payload == "opted_out" else None)


def keywords_as_csv(rows: Iterable[Keyword] = KEYWORDS) -> str:
    """The table as a file to edit: ``decision,language,word,on_buttons``, with a header."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Keyword._fields)
    writer.writerows((row.decision, row.language, row.word, "yes" if row.on_buttons else "no") for row in rows)
    return file.getvalue()


def parse_keywords(text: str) -> Keywords:
    """The words of an edited file (see `keywords_as_csv`); raises `SettingsError` with the line that is wrong."""
    rows: list[Keyword] = []
    for number, row in enumerate(csv.reader(io.StringIO(text.removeprefix("\ufeff"))), start=1):
        if number == 1 or not row:
            continue
        if len(row) != len(Keyword._fields) or row[0] not in get_args(Decision) or row[3] not in {"yes", "no"}:
            msg = (
                f"keywords file, line {number}: expected {','.join(Keyword._fields)}, the first opted_out or opted_in, "
                "the last yes or no"
            )
            raise SettingsError(msg)
        if not _plain(row[2]):
            msg = f"keywords file, line {number}: the word is empty"
            raise SettingsError(msg)
        rows.append(Keyword(_OUT if row[0] == _OUT else _IN, row[1], row[2], row[3] == "yes"))
    return Keywords(rows)


def _look_up(table: Mapping[str, Decision], text: str | None) -> Decision | None:
    if text is None or len(text) > _LONGEST:
        return None
    return table.get(_plain(text))


def _plain(text: str) -> str:
    """Without case, invisible characters and whatever is no letter or digit at the ends; single spaces."""
    words = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold().split()
    plain = " ".join(words)
    start, end = 0, len(plain)
    while start < end and not plain[start].isalnum():
        start += 1
    while end > start and not plain[end - 1].isalnum():
        end -= 1
    return plain[start:end]


DEFAULT_KEYWORDS = Keywords()
