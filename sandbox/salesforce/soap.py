"""SOAP: envelopes, faults, and the partner API's merge().

Source: developer.salesforce.com, SOAP API Developer Guide, "merge()" (read 2026-11) and "SessionHeader" (second-hand,
2026-10; documented): up to 200 requests a call, each one master and at most two others, each a transaction of its
own; an external id cannot name a record. That re-parented children get a new SystemModstamp is assumed.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from defusedxml.ElementTree import fromstring
from werkzeug.wrappers import Response

from sandbox.salesforce.ids import read_id
from sandbox.salesforce.org import Caller, Org, Record
from sandbox.salesforce.refusals import Refusal
from sandbox.salesforce.schema import ObjectType

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
PARTNER = "urn:partner.soap.sforce.com"
MERGES_LIMIT = 200
VICTIMS_LIMIT = 2
_OBJECTS = ' xmlns:sf="urn:sobject.partner.soap.sforce.com"'
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def local(element: Any) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Any, name: str) -> list[Any]:
    """The children of this name."""
    return [one for one in element if local(one) == name]


def child_text(element: Any, name: str) -> str | None:
    """The text of the first child of this name."""
    found = children(element, name)
    return found[0].text if found else None


def read_envelope(data: bytes) -> tuple[str | None, Any, dict[str, Any]]:
    """The session id, the operation's element, and the headers by name.

    Raises:
        Refusal: it is no SOAP envelope.
    """
    try:
        root = fromstring(data)
    except Exception as error:  # the parser has several error classes, of two libraries
        raise Refusal("soapenv:Client", "The request is not well-formed XML", status=500) from error
    bodies = children(root, "Body")
    if root.tag != f"{{{ENVELOPE}}}Envelope" or len(bodies) != 1 or len(bodies[0]) != 1:
        raise Refusal("soapenv:Client", "The request is not a SOAP envelope with one operation", status=500)
    headers = {local(one): one for part in children(root, "Header") for one in part}
    session = headers.get("SessionHeader")
    return (child_text(session, "sessionId") if session is not None else None), bodies[0][0], headers


def answer(namespace: str, operation: str, results: str) -> Response:
    """A good answer; `results` is the inner XML."""
    declared = f' xmlns="{namespace}"{_OBJECTS if namespace == PARTNER else ""}'
    return _envelope(f"<{operation}Response>{results}</{operation}Response>", 200, declared)


def fault(refusal: Refusal, namespace: str) -> Response:
    """A fault, which is always HTTP 500."""
    code = refusal.error_code
    sf = "urn:fault.partner.soap.sforce.com" if namespace == PARTNER else namespace
    named = code if ":" in code else f"sf:{code}"
    exception = (
        '<detail><sf:UnexpectedErrorFault xsi:type="sf:UnexpectedErrorFault">'
        f"<sf:exceptionCode>{escape(code)}</sf:exceptionCode>"
        f"<sf:exceptionMessage>{escape(refusal.message)}</sf:exceptionMessage></sf:UnexpectedErrorFault></detail>"
    )
    detail = exception if namespace == PARTNER and named != code else ""
    inner = (
        f'<soapenv:Fault xmlns:sf="{sf}"><faultcode>{escape(named)}</faultcode>'
        f"<faultstring>{escape(f'{code}: {refusal.message}')}</faultstring>{detail}</soapenv:Fault>"
    )
    return _envelope(inner, 500)


def element(name: str, value: Any) -> str:
    """One XML element; ``None`` is left out."""
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else escape(str(value))
    return f"<{name}>{text}</{name}>"


def _envelope(inner: str, status: int, declared: str = "") -> Response:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<soapenv:Envelope xmlns:soapenv="{ENVELOPE}"{declared}'
        f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        f"<soapenv:Body>{inner}</soapenv:Body></soapenv:Envelope>"
    )
    return Response(text, status=status, content_type="text/xml;charset=UTF-8")


class Merges:
    """merge() over one org."""

    def __init__(self, org: Org) -> None:
        self._org = org

    def run(self, caller: Caller, operation: Any) -> Response:
        """All requests of a call, each with a result of its own."""
        requests = children(operation, "request")
        if not requests or len(requests) < len(operation):
            raise Refusal("soapenv:Client", "merge takes one or more elements named request", status=500)
        if len(requests) > MERGES_LIMIT:
            raise Refusal("EXCEEDED_ID_LIMIT", f"record limit reached. cannot submit more than {MERGES_LIMIT} records "
                          "into this call", status=500)  # fmt: skip
        return answer(PARTNER, "merge", "".join(self._one(caller, one) for one in requests))

    def empty_bin(self, caller: Caller, operation: Any) -> Response:
        """emptyRecycleBin(): records that are in the recycle bin are gone for good; up to 200 ids a call."""
        texts = [one.text or "" for one in children(operation, "ids")]
        if not texts or len(texts) > MERGES_LIMIT:
            raise Refusal("EXCEEDED_ID_LIMIT", f"emptyRecycleBin takes 1 to {MERGES_LIMIT} ids", status=500)
        results = []
        for text in texts:
            try:
                self._org.purge(caller, text)
                results.append(f"<result>{element('id', text)}<success>true</success></result>")
            except Refusal as refusal:
                error = element("message", refusal.message) + element("statusCode", refusal.error_code)
                told = f"<errors>{error}</errors>{element('id', text)}<success>false</success>"
                results.append(f"<result>{told}</result>")
        return answer(PARTNER, "emptyRecycleBin", "".join(results))

    def _one(self, caller: Caller, request: Any) -> str:
        try:
            with self._org.transaction():
                master_id, victim_ids, moved = self._merge(caller, request)
        except Refusal as refusal:
            fields = "".join(element("fields", one) for one in refusal.fields or ())
            error = f"{fields}{element('message', refusal.message)}{element('statusCode', refusal.error_code)}"
            return f'<result><errors>{error}</errors><id xsi:nil="true"/><success>false</success></result>'
        merged = "".join(element("mergedRecordIds", one) for one in victim_ids)
        updated = "".join(element("updatedRelatedIds", one) for one in moved)
        return f"<result>{element('id', master_id)}{merged}<success>true</success>{updated}</result>"

    def _merge(self, caller: Caller, request: Any) -> tuple[str, list[str], list[str]]:
        masters = children(request, "masterRecord")
        if len(masters) != 1:
            raise Refusal("INVALID_ARGUMENT_TYPE", "a merge request needs one masterRecord", fields=())
        kind, master_text, row = self._master(masters[0])
        texts = [one.text or "" for one in children(request, "recordToMergeIds")]
        if not 1 <= len(texts) <= VICTIMS_LIMIT:
            message = f"a merge request takes 1 to {VICTIMS_LIMIT} records to merge, not {len(texts)}"
            raise Refusal("INVALID_MERGE_RECORD", message, fields=())
        master = self._record(kind, master_text)
        victims = [self._record(kind, one) for one in texts]
        ids = [one["Id"] for one in victims]
        if master["Id"] in ids or len(set(ids)) < len(ids):
            raise Refusal("INVALID_CROSS_REFERENCE_KEY", "a record cannot be merged with itself", fields=())
        return master["Id"], ids, self._org.merge(caller, kind, master, victims, row)

    def _master(self, master: Any) -> tuple[ObjectType, str, Record]:
        kind = self._org.schema.find(child_text(master, "type") or "")
        if kind is None or not kind.mergeable:
            message = f"entity type {child_text(master, 'type')} does not support merge"
            raise Refusal("INVALID_TYPE", message, fields=())
        row: Record = {}
        for one in master:
            name = local(one)
            if name == "fieldsToNull" and one.text:
                row[one.text] = None
            elif name not in {"type", "Id", "fieldsToNull"}:
                row[name] = None if one.get(_NIL) == "true" else one.text
        return kind, (child_text(master, "Id") or "").strip(), row

    def _record(self, kind: ObjectType, text: str) -> Record:
        try:
            return self._org.record(kind, text)
        except Refusal as refusal:
            if refusal.error_code == "NOT_FOUND" or (refusal.error_code == "MALFORMED_ID" and read_id(text)):
                raise Refusal("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=()) from refusal
            raise
