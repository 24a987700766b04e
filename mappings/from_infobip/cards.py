"""Contact cards that customers share over Infobip's WhatsApp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mappings.contact_points import clean_name, normalize_email, normalize_phone, normalize_whatsapp_id
from mappings.fields import object_of, objects_of, optional_text_of
from mappings.from_infobip.content import Said
from mappings.from_infobip.event import InfobipContext
from mappings.ids import evidence_key
from mappings.records import Evidence, Handle, Message, Profile


def evidence_of_cards(said: Said, message: Message, context: InfobipContext, where: str) -> list[Evidence]:
    """Shared contact cards: their handles are *claimed* to be one person, who need not be the sender."""
    found: list[Evidence] = []
    for number, card in enumerate(said.cards):
        handles = _card_handles(card, context, where)
        shown = clean_name(optional_text_of(object_of(card, "name", where), "formatted_name", where))
        if handles:
            found.append(
                Evidence(
                    evidence_key=evidence_key(
                        message.channel, message.account, "contact_card", f"{message.message_key}#{number}"
                    ),
                    method="contact_card",
                    strength="claimed",
                    channel=message.channel,
                    account=message.account,
                    handles=handles,
                    observed_at=message.sent_at,
                    profile=Profile(name=shown) if shown else None,
                    raw_ref=context.raw_ref,
                )
            )
    return found


def _card_handles(card: Mapping[str, Any], context: InfobipContext, where: str) -> list[Handle]:
    found: list[Handle] = []
    for entry in objects_of(card, "phones", where)[:20]:
        wa_id, raw = (optional_text_of(entry, name, where) for name in ("wa_id", "phone"))
        phone = (wa_id and normalize_whatsapp_id(wa_id)) or (raw and normalize_phone(raw, context.default_region))
        if phone:
            found.append(Handle(kind="phone", value=phone))
    for entry in objects_of(card, "emails", where)[:20]:
        raw = optional_text_of(entry, "email", where)
        email = raw and normalize_email(raw)
        if email:
            found.append(Handle(kind="email", value=email))
    return list(dict.fromkeys(found))
