"""Delivery and seen reports of Infobip as receipts: of one shape for every channel, which they do not name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeGuard

from mappings.contact_points import clean_name
from mappings.errors import UnknownShapeError
from mappings.fields import object_of, optional_object_of, optional_text_of, reply_token_of, text_of
from mappings.from_infobip.codes import ERROR_GROUPS, FAILED_GROUPS, GROUP_NAMES, PENDING_ACCEPTED, STATUS_GROUPS
from mappings.from_infobip.event import InfobipContext, moment_of_infobip, parties_of_report, short_name
from mappings.records import Actor, Receipt, ReceiptStatus, Record


def report(result: Mapping[str, Any], context: InfobipContext) -> list[Record]:
    """A delivery report."""
    where = "Infobip report"
    told = object_of(result, "status", where)
    error = optional_object_of(result, "error", where) or {}
    group = _group_of(told, where)
    status: ReceiptStatus = STATUS_GROUPS[group]
    if group == 1 and told.get("id") == PENDING_ACCEPTED:
        status = "accepted"
    failed = status == "failed"
    code = next((str(one["id"]) for one in (error, told) if _is_whole(one.get("id")) and one["id"]), None)
    reason = optional_text_of(error, "description", where) if code == str(error.get("id")) else None
    error_group = error.get("groupId")
    actor: Actor = ERROR_GROUPS.get(error_group, "operator") if _is_whole(error_group) else "nobody"
    if actor == "nobody":
        actor = FAILED_GROUPS.get(group, "operator")
    moment = moment_of_infobip(result, "doneAt", where) or moment_of_infobip(result, "sentAt", where)
    more = {
        "code": code,
        "reason": clean_name(reason or optional_text_of(told, "description", where)),
        "actor": actor,
    }
    return [_receipt(result, status, moment, more if failed else {}, context, where)]


def _group_of(told: Mapping[str, Any], where: str) -> int:
    number = told.get("groupId")
    group = number if _is_whole(number) else GROUP_NAMES.get(str(told.get("groupName")).upper())
    if group is None or group not in STATUS_GROUPS:
        msg = f"{where}: status group {short_name(told.get('groupName') or number)} is not known"
        raise UnknownShapeError(msg)
    return group


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def seen(result: Mapping[str, Any], context: InfobipContext) -> list[Record]:
    """A seen report."""
    where = "Infobip seen report"
    return [_receipt(result, "read", moment_of_infobip(result, "seenAt", where), {}, context, where)]


def _receipt(
    result: Mapping[str, Any],
    status: ReceiptStatus,
    moment: datetime | None,
    more: Mapping[str, Any],
    context: InfobipContext,
    where: str,
) -> Receipt:
    parties = parties_of_report(result, context, where)
    return Receipt(
        subject_key=parties.message_key(text_of(result, "messageId", where)),
        subject_kind="message",
        status=status,
        channel=parties.channel,
        account=parties.account,
        conversation_key=parties.conversation_key(),
        occurred_at=moment or context.received_at,
        reply_token=reply_token_of(result.get("callbackData")),
        raw_ref=context.raw_ref,
        **more,
    )
