"""Messages by Bulk API 2.0, where there are many: a job instead of a call for each 1,000 rows.

Source: developer.salesforce.com/docs, Bulk API 2.0 Developer Guide, read 2026-11, documented: 32,000 characters in a
field, so longer bodies go by REST; a blank cell leaves a field alone and ``#N/A`` empties it; results come as three
lists (successful, failed, unprocessed), and a row that is in none of them was not written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import requests

from mappings.errors import CredentialsError, UnavailableError
from mappings.to_salesforce import MESSAGE, TASK, Fact
from targets.salesforce.answers import Refused, Row, Written, refusal

if TYPE_CHECKING:
    from targets.salesforce.connection import Connection
    from targets.salesforce.settings import SalesforceTargetSettings

LONGEST_FIELD = 32_000
_ROWS_PER_JOB = 10_000
_NULL = "#N/A"


def goes_by_bulk(rows: Sequence[Row], threshold: int) -> tuple[list[Row], list[Row]]:
    """Which rows go by Bulk, and which by REST: new messages that fit, if there are enough of them."""
    fit = [row for row in rows if row.kind in {MESSAGE, TASK} and row.record_id is None and _fits(row)]
    if len(fit) < threshold:
        return [], list(rows)
    chosen = {row.key for row in fit}
    return fit, [row for row in rows if row.key not in chosen]


def bulk_upsert(
    connection: Connection, settings: SalesforceTargetSettings, rows: Sequence[Row]
) -> tuple[Written, list[Row]]:
    """Upsert rows of one object; what came of them, and those that the org did not get to.

    Rows are sorted by parent, so that parallel batches of a job lock each other least.
    """
    written, unprocessed = Written(), []
    ordered = sorted(rows, key=lambda row: row.group)
    for start in range(0, len(ordered), _ROWS_PER_JOB):
        part, left = _one_job(connection, settings, ordered[start : start + _ROWS_PER_JOB])
        written.add(part)
        unprocessed += left
    return written, unprocessed


def _one_job(
    connection: Connection, settings: SalesforceTargetSettings, rows: Sequence[Row]
) -> tuple[Written, list[Row]]:
    from simple_salesforce.exceptions import SalesforceError, SalesforceExpiredSession

    for last in (False, True):
        try:
            handler = getattr(connection.client.bulk2, rows[0].kind)
            (job,) = handler.upsert(
                records=[_cells(row) for row in rows],
                external_id_field=rows[0].external_field,
                batch_size=_ROWS_PER_JOB,
                wait=settings.bulk_poll_seconds,
            )
            job_id = job["job_id"]
            successful = handler.get_successful_records(job_id)
            failed = handler.get_failed_records(job_id)
            connection.calls += 8  # create, upload, close, at least two looks, three results; more looks while it runs
            return sort_out(rows, successful, failed)
        except SalesforceExpiredSession:
            # This part of the client never logs in again; an upsert can be made again as a whole.
            if last:
                msg = "Salesforce: bulk job: the session was refused twice, check the External Client App"
                raise CredentialsError(msg) from None
            connection.forget_session()
        except (SalesforceError, requests.RequestException) as error:
            connection.stop_at_day_limit(getattr(error, "status", 0), getattr(error, "content", None))
            msg = f"Salesforce: bulk job of {rows[0].kind} did not end well ({type(error).__name__}); run again later"
            raise UnavailableError(msg) from None
    raise UnavailableError("Salesforce: bulk job gave no answer")


def sort_out(rows: Sequence[Row], successful: str, failed: str) -> tuple[Written, list[Row]]:
    """What became of each row by the two lists of results (CSV); rows that are in neither were not got to."""
    by_key = {str(row.values.get(row.external_field or "")): row for row in rows}
    written = Written()
    name = rows[0].external_field or ""
    for result in _records(successful):
        row = by_key.get(result.get(name, ""))
        if row is not None and result.get("sf__Id"):
            written.ids[row.key] = result["sf__Id"]
            if result.get("sf__Created") == "true":
                written.created.add(row.key)
    for result in _records(failed):
        row = by_key.get(result.get(name, ""))
        if row is not None and row.key not in written.ids:
            written.refused[row.key] = _refused(row, result.get("sf__Error", ""))
    left = [row for row in rows if row.key not in written.ids and row.key not in written.refused]
    return written, left


def _refused(row: Row, error: str) -> Refused:
    """``CODE:words:field field --``; the words repeat values and are left out."""
    code, _, rest = error.partition(":")
    words, _, names = rest.rpartition(":")
    fields = names.removesuffix("--").split()
    return refusal(f"bulk upsert {row.kind}", 200, [{"statusCode": code, "message": words, "fields": fields}])


def _records(text: str) -> Iterator[dict[str, str]]:
    return iter(csv.DictReader(io.StringIO(text)))


def _cells(row: Row) -> dict[str, Any]:
    """The cells of a row; a column that only other rows have stays blank."""
    cells = {name: _cell(value) for name, value in row.values.items()}
    for relationship, (name, value) in row.parents.items():
        cells[f"{relationship}.{name}"] = value
    return cells


def _cell(value: Fact) -> str:
    if value is None or value == "":
        return _NULL
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fits(row: Row) -> bool:
    return all(len(value) <= LONGEST_FIELD for value in row.values.values() if isinstance(value, str))
