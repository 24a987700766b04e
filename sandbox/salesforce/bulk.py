"""Bulk API 2.0: ingest jobs (create, upload once, close, poll, results as CSV) and query jobs.

Source: developer.salesforce.com, Bulk API 2.0 and Bulk API Developer Guide, "Bulk API 2.0 Ingest" and "Query", and
"Bulk API and Bulk API 2.0 Limits and Allocations", second-hand, 2026-10 (documented): an empty cell is ignored,
``#N/A`` empties the field, a parent is a column ``Relationship__r.External_Id__c``. What makes a whole job fail, and
its words: observed in public issues of clients; that a cell of more than 32,000 characters does so is assumed.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Response

from sandbox.base import json_response
from sandbox.salesforce.call import Call, Table
from sandbox.salesforce.ids import make_id
from sandbox.salesforce.org import Org, Record
from sandbox.salesforce.query import QueryRunner
from sandbox.salesforce.refusals import Refusal, not_found
from sandbox.salesforce.schema import ObjectType

UPLOAD_LIMIT_BYTES = 100 * 1024 * 1024
CELL_LIMIT = 32_000
RECORD_LIMIT = 400_000
EMPTY = "#N/A"
_DELIMITERS = {"COMMA": ",", "TAB": "\t", "SEMICOLON": ";", "PIPE": "|", "CARET": "^", "BACKQUOTE": "`"}
_LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}
_INGEST = frozenset({"insert", "update", "upsert", "delete"})
_DONE = frozenset({"JobComplete", "Failed", "Aborted"})
Row = dict[str, str]


@dataclass(slots=True)
class Job:
    """One job with its rows and what became of them."""

    job_id: str
    call: Call
    operation: str
    object_name: str
    made_at: str
    key_name: str | None = None
    delimiter: str = "COMMA"
    line_ending: str = "LF"
    query: str | None = None
    state: str = "Open"
    error: str | None = None
    data: bytes | None = None
    polls_left: int = 0
    header: list[str] = field(default_factory=list)
    successful: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    unprocessed: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The job as its resource shows it."""
        kind = "query" if self.query else "ingest"
        told: dict[str, Any] = {
            "id": self.job_id, "operation": self.operation, "object": self.object_name,
            "createdById": self.call.caller.user.user_id, "createdDate": self.made_at, "systemModstamp": self.made_at,
            "state": self.state, "concurrencyMode": "Parallel", "contentType": "CSV",
            "apiVersion": float(self.call.version.lstrip("v")), "lineEnding": self.line_ending,
            "columnDelimiter": self.delimiter, "jobType": "V2Query" if self.query else "V2Ingest", "retries": 0,
            "totalProcessingTime": 1 if self.state in _DONE else 0,
            "numberRecordsProcessed": len(self.successful) + len(self.failed),
        }  # fmt: skip
        if kind == "ingest":
            told |= {
                "contentUrl": f"services/data/{self.call.version}/jobs/ingest/{self.job_id}/batches",
                "apiActiveProcessingTime": 0, "apexProcessingTime": 0, "numberRecordsFailed": len(self.failed),
            }  # fmt: skip
            if self.key_name:
                told["externalIdFieldName"] = self.key_name
        if self.error:
            told["errorMessage"] = self.error
        return told


class BulkJobs:
    """Handlers over one org.

    Args:
        org: the records.
        polls: how often a closed job is shown as being worked on before it is done.
    """

    def __init__(self, org: Org, *, polls: int = 0) -> None:
        self._org = org
        self.polls = polls
        self.jobs: dict[str, Job] = {}

    def routes(self) -> Table:
        """The routes below ``/services/data/<version>``."""
        one, query = "/jobs/ingest/<job_id>", "/jobs/query/<job_id>"
        return [
            ("POST", "/jobs/ingest", self._create),
            ("GET", "/jobs/ingest", self._list),
            ("GET", one, self._get),
            ("PATCH", one, self._set_state),
            ("DELETE", one, self._remove),
            ("PUT", f"{one}/batches", self._upload),
            ("GET", f"{one}/<results>", self._results),
            ("POST", "/jobs/query", self._create_query),
            ("GET", query, self._get),
            ("PATCH", query, self._set_state),
            ("DELETE", query, self._remove),
            ("GET", f"{query}/results", self._query_results),
        ]

    # -- ingest

    def _create(self, call: Call) -> Response:
        body = call.body()
        operation = body.get("operation")
        if operation not in _INGEST:
            raise Refusal("INVALIDJOB", f"Invalid operation: {operation}")
        kind = self._org.schema.find(str(body.get("object")))
        if kind is None or not self._org.may(call.caller.user, kind, "read"):
            raise Refusal("INVALIDENTITY", f"Unable to find object: {body.get('object')}")
        key_name = body.get("externalIdFieldName")
        if operation == "upsert":
            key = kind.find(str(key_name))
            if (
                key is None
                or not (key.external_id or key.type == "id")
                or not self._org.sees(call.caller.user, kind, key)
            ):
                message = (
                    f"InvalidJob : Field name provided, {key_name} does not match an External ID, Salesforce Id, or"
                )
                raise Refusal("INVALIDJOB", f"{message} indexed field for {kind.name}")
        delimiter, ending = body.get("columnDelimiter", "COMMA"), body.get("lineEnding", "LF")
        if delimiter not in _DELIMITERS or ending not in _LINE_ENDINGS or body.get("contentType", "CSV") != "CSV":
            raise Refusal("INVALIDJOB", "columnDelimiter, lineEnding or contentType is not one of the known ones")
        job = self._keep(call, str(operation), kind.name)
        job.key_name, job.delimiter, job.line_ending = key_name, delimiter, ending
        return json_response(job.as_json())

    def _keep(self, call: Call, operation: str, object_name: str) -> Job:
        job = Job(
            make_id("750", len(self.jobs) + 1), call, operation, object_name, self._org.now(), polls_left=self.polls
        )
        self.jobs[job.job_id] = job
        return job

    def _list(self, call: Call) -> Response:
        return json_response(
            {
                "done": True,
                "records": [one.as_json() for one in self.jobs.values() if one.call.caller.user is call.caller.user],
                "nextRecordsUrl": None,
            }
        )

    def _get(self, call: Call, job_id: str) -> Response:
        job = self._job(call, job_id)
        if job.state in {"UploadComplete", "InProgress"}:
            if job.polls_left > 0:
                job.polls_left -= 1
                job.state = "InProgress"
            else:
                self._work(job)
        return json_response(job.as_json())

    def _set_state(self, call: Call, job_id: str) -> Response:
        job, state = self._job(call, job_id), call.body().get("state")
        if job.state in _DONE or (state == "UploadComplete" and job.state != "Open"):
            raise Refusal("INVALIDJOBSTATE", f"Job state transition from {job.state} to {state} is not allowed")
        if state not in {"UploadComplete", "Aborted"}:
            raise Refusal("INVALIDJOBSTATE", f"Invalid job state: {state}")
        job.state = state
        if state == "Aborted":
            job.unprocessed = self._read(job) if job.data else []
        return json_response(job.as_json())

    def _remove(self, call: Call, job_id: str) -> Response:
        if self._job(call, job_id).state not in _DONE:
            raise Refusal("INVALIDJOBSTATE", "A job can be deleted only when it is complete, failed or aborted")
        del self.jobs[job_id]
        return Response(status=204)

    def _upload(self, call: Call, job_id: str) -> Response:
        job = self._job(call, job_id)
        if not call.request.headers.get("Content-Type", "").startswith("text/csv"):
            raise Refusal("INVALIDCONTENTTYPE", "The content type of job data must be text/csv", status=415)
        if job.state != "Open":
            raise Refusal("INVALIDJOBSTATE", f"Job is not open: {job.state}")
        if job.data is not None:
            message = (
                f"Found multiple contents for job: <{job_id}>, please 'Close' / 'Abort' / 'Delete' the current Job"
            )
            raise Refusal("CLIENT_INPUT_ERROR", f"{message} then create a new Job and PUT only once.")
        data = call.request.get_data()
        if len(data) > UPLOAD_LIMIT_BYTES:
            raise Refusal("LIMIT_EXCEEDED", f"Job data exceeds {UPLOAD_LIMIT_BYTES} bytes", status=413)
        job.data = data
        return Response(status=201)

    def _results(self, call: Call, job_id: str, results: str) -> Response:
        job = self._job(call, job_id)
        own = {
            "successfulresults": (["sf__Id", "sf__Created"], job.successful),
            "failedresults": (["sf__Id", "sf__Error"], job.failed),
            "unprocessedrecords": ([], job.unprocessed),
        }
        if results.lower() not in own:  # clients write it in both ways
            raise not_found()
        if job.state not in _DONE:
            raise Refusal("INVALIDJOBSTATE", f"Results are not there yet: {job.state}")
        columns, rows = own[results.lower()]
        return _csv_response([*columns, *job.header], rows, job)

    # -- work

    def _work(self, job: Job) -> None:
        if job.query is not None:
            job.state = "JobComplete"
            return
        try:
            rows = self._read(job)
        except _UnreadableJobError as error:
            job.state, job.error = "Failed", str(error)
            job.unprocessed = error.rows
            return
        kind = self._org.schema.get(job.object_name)
        keys = [row.get(job.key_name, "") for row in rows] if job.operation == "upsert" and job.key_name else []
        twice = {one for one, times in Counter(keys).items() if one and times > 1}
        for row in rows:
            try:
                if job.key_name and row.get(job.key_name) in twice:
                    raise Refusal("DUPLICATE_VALUE", f"Duplicate external id specified: {row[job.key_name]}")
                with self._org.transaction():
                    record_id, created = self._apply(job, kind, row)
                job.successful.append({"sf__Id": record_id, "sf__Created": str(created).lower(), **row})
            except Refusal as refusal:
                job.failed.append({"sf__Id": "", "sf__Error": refusal.line(), **row})
        self._org.release(job.call.caller)
        job.state = "JobComplete"

    def _apply(self, job: Job, kind: ObjectType, row: Row) -> tuple[str, bool]:
        caller, operation = job.call.caller, job.operation
        values: Record = {one: None if value == EMPTY else value for one, value in row.items() if value != ""}
        if operation == "insert":
            return self._org.create(caller, kind, values, csv=True), True
        if operation == "upsert" and job.key_name != "Id":
            key = self._org.key_field(caller.user, kind, str(job.key_name))
            value = values.pop(str(job.key_name), None)
            return self._org.upsert(caller, kind, key, value, values, csv=True)
        record = self._org.record(kind, str(values.pop("Id", "")))
        if operation == "delete":
            self._org.delete(caller, kind, record)
        else:
            self._org.update(caller, kind, record, values, csv=True)
        return str(record["Id"]), False

    def _read(self, job: Job) -> list[Row]:
        text = (job.data or b"").decode("utf-8-sig")
        ending = _LINE_ENDINGS[job.line_ending]
        first = text.partition("\n")[0]
        if text and first.endswith("\r") is not (ending == "\r\n"):
            raise _UnreadableJobError(
                "ClientInputError : LineEnding is invalid on user data. "
                f"Current LineEnding setting is {job.line_ending}",
                [],
            )
        lines = [one for one in csv.reader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[job.delimiter]) if one]
        if not lines:
            raise _UnreadableJobError("InvalidBatch : No data in the job", [])
        job.header = lines[0]
        rows = [dict(zip(job.header, one, strict=False)) for one in lines[1:]]
        kind = self._org.schema.get(job.object_name)
        for name in job.header:
            known = kind.relationship(name.partition(".")[0]) if "." in name else kind.find(name)
            if known is None or not self._org.sees(job.call.caller.user, kind, known):
                raise _UnreadableJobError(f"InvalidBatch : Field name not found : {name}", rows)
        if any(len(one) != len(job.header) for one in lines[1:]):
            raise _UnreadableJobError("InvalidBatch : The number of columns differs between rows", rows)
        if any(len(value) > CELL_LIMIT for row in rows for value in row.values()):
            message = f"InvalidBatch : Field exceeds the maximum length of {CELL_LIMIT} characters"
            raise _UnreadableJobError(message, rows)
        if any(sum(map(len, row.values())) > RECORD_LIMIT for row in rows):
            raise _UnreadableJobError(f"InvalidBatch : Record exceeds {RECORD_LIMIT} characters", rows)
        return rows

    def _job(self, call: Call, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.call.caller.user is not call.caller.user:
            raise not_found()
        return job

    # -- query jobs

    def _create_query(self, call: Call) -> Response:
        body = call.body()
        operation, query = body.get("operation"), body.get("query")
        if operation not in {"query", "queryAll"} or not isinstance(query, str):
            raise Refusal("INVALIDJOB", "A query job needs an operation (query, queryAll) and a query")
        parsed, _ = QueryRunner(self._org, call.caller.user, call.version).run(query)
        if parsed.count:
            raise Refusal("API_ERROR", "COUNT() is not supported in a query job")
        job = self._keep(call, operation, parsed.object_name)
        job.query, job.state, job.header = query, "UploadComplete", parsed.fields
        job.delimiter, job.line_ending = body.get("columnDelimiter", "COMMA"), body.get("lineEnding", "LF")
        return json_response(job.as_json())

    def _query_results(self, call: Call, job_id: str) -> Response:
        job = self._job(call, job_id)
        if job.query is None or job.state != "JobComplete":
            raise Refusal("INVALIDJOBSTATE", f"Results are not there yet: {job.state}")
        runner = QueryRunner(self._org, call.caller.user, call.version)
        _, found = runner.run(job.query, deleted=job.operation == "queryAll")
        start, most = call.number("locator", 0), call.number("maxRecords", 50_000)
        page = found[start : start + most]
        response = _csv_response(job.header, [_flat(job.header, one) for one in page], job)
        response.headers["Sforce-NumberOfRecords"] = str(len(page))
        response.headers["Sforce-Locator"] = str(start + most) if start + most < len(found) else "null"
        return response


class _UnreadableJobError(Exception):
    """The whole job fails; `rows` are those that were not done."""

    def __init__(self, message: str, rows: list[Row]) -> None:
        super().__init__(message)
        self.rows = rows


def _flat(header: list[str], record: Record) -> Row:
    row: Row = {}
    for path in header:
        value: Any = record
        for part in path.split("."):
            lowered = {name.lower(): one for name, one in value.items()} if isinstance(value, dict) else {}
            value = lowered.get(part.lower())
        row[path] = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return row


def _csv_response(columns: list[str], rows: list[Row], job: Job) -> Response:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, columns, delimiter=_DELIMITERS[job.delimiter], lineterminator=_LINE_ENDINGS[job.line_ending],
        quoting=csv.QUOTE_ALL, restval="", extrasaction="ignore",
    )  # fmt: skip
    writer.writeheader()
    writer.writerows(rows)
    return Response(text.getvalue(), content_type="text/csv; charset=UTF-8")
