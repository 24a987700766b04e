"""The two SOAP calls that have no other form: merging contacts, and emptying the recycle bin. Pure.

Source: developer.salesforce.com/docs, SOAP API Developer Guide, ``merge()`` (up to 200 requests in one call, each with
one master and at most two victims; the victims' records are re-parented) and ``emptyRecycleBin()`` (200 ids), read
2026-11, documented. That an OAuth access token is taken as session id: documented there under "SessionHeader".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from defusedxml import ElementTree as SafeElementTree

from mappings.errors import UnavailableError

_SOAP = "{http://schemas.xmlsoap.org/soap/envelope/}"
_PARTNER = "{urn:partner.soap.sforce.com}"
MERGES_PER_CALL = 200
IDS_PER_CALL = 200


@dataclass(frozen=True, slots=True)
class SoapResult:
    """What came of one element of a call; `codes` are Salesforce's."""

    success: bool
    codes: tuple[str, ...] = ()


def merge_call(pairs: Sequence[tuple[str, str]], session_id: str) -> str:
    """The envelope that merges contacts: (master id, id to merge into it)."""
    requests = "".join(
        "<urn:request><urn:masterRecord>"
        '<ens:type xmlns:ens="urn:sobject.partner.soap.sforce.com">Contact</ens:type>'
        f'<ens:Id xmlns:ens="urn:sobject.partner.soap.sforce.com">{escape(master)}</ens:Id>'
        f"</urn:masterRecord><urn:recordToMergeIds>{escape(victim)}</urn:recordToMergeIds></urn:request>"
        for master, victim in pairs
    )
    return _envelope(f"<urn:merge>{requests}</urn:merge>", session_id)


def empty_bin_call(record_ids: Sequence[str], session_id: str) -> str:
    """The envelope that removes deleted records for good."""
    ids = "".join(f"<urn:ids>{escape(one)}</urn:ids>" for one in record_ids)
    return _envelope(f"<urn:emptyRecycleBin>{ids}</urn:emptyRecycleBin>", session_id)


def fault_code(text: str) -> str | None:
    """The code of a SOAP fault, without its prefix (``INVALID_SESSION_ID``); ``None`` when it is none."""
    code = _root(text).findtext(f"{_SOAP}Body/{_SOAP}Fault/faultcode")
    return code.rpartition(":")[2] if code else None


def soap_results(text: str, count: int) -> list[SoapResult]:
    """One result for each element of the call, in its order.

    Raises:
        UnavailableError: the answer has another number of results.
    """
    body = _root(text).find(f"{_SOAP}Body")
    found = [
        SoapResult(
            (result.findtext(f"{_PARTNER}success") or "") == "true",
            tuple(code for one in result.findall(f"{_PARTNER}errors/{_PARTNER}statusCode") if (code := one.text)),
        )
        for result in (body.iter(f"{_PARTNER}result") if body is not None else ())
    ]
    if len(found) != count:
        msg = "Salesforce: a SOAP call answered without a result for each part; trying again later"
        raise UnavailableError(msg)
    return found


def _envelope(body: str, session_id: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:urn="urn:partner.soap.sforce.com">'
        f"<soapenv:Header><urn:SessionHeader><urn:sessionId>{escape(session_id)}</urn:sessionId></urn:SessionHeader>"
        f"</soapenv:Header><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )


def _root(text: str) -> Any:
    try:
        return SafeElementTree.fromstring(text)
    except (SafeElementTree.ParseError, ValueError):
        msg = "Salesforce: a SOAP call answered no XML; trying again later"
        raise UnavailableError(msg) from None
