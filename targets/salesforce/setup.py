"""Makes an org ready: checks the log-in, deploys what it lacks, opens it to the integration user, checks the fields.

Safe to run twice: it creates what is missing and changes nothing else; nothing is ever deleted. Page layouts of Contact
belong to the org and are left alone: the page says how an admin puts the related lists on them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import requests

from mappings.errors import CredentialsError, RejectedError, SettingsError, UnavailableError
from stores.database import Stores
from targets.salesforce.answers import errors_in, rejected
from targets.salesforce.api import SalesforceApi, in_queries
from targets.salesforce.fields import Fields
from targets.salesforce.metadata import Lacking, lacking, package_files, package_zip, plan_lines, wanted_objects
from targets.salesforce.model import AGENT, INTEGRATION
from targets.salesforce.settings import SalesforceTargetSettings

_LOG = logging.getLogger(__name__)
_LONGEST_DEPLOY_SECONDS = 1_800
_RIGHT = "the user needs the right Modify Metadata Through Metadata API Functions (or Modify All Data)"
# As texts: the client would write Python's True, which is no boolean of XML Schema.
_OPTIONS = {
    "allowMissingFiles": "false", "autoUpdatePackage": "false", "ignoreWarnings": "false", "performRetrieve": "false",
    "purgeOnDelete": "false", "rollbackOnError": "true",
}  # fmt: skip
_ENDED = frozenset({"Succeeded", "Failed", "Canceled", "SucceededPartial"})


def setup_salesforce(
    settings: SalesforceTargetSettings, stores: Stores, *, dry_run: bool = False, check_only: bool = False
) -> Iterator[str]:
    """Set the org up; one line for each thing found or done, as it happens.

    Args:
        settings: of the org.
        stores: shared pauses.
        dry_run: read only, and say what would be done.
        check_only: let the org validate the deploy, and change nothing.

    Raises:
        CredentialsError: logging in is refused, or the user may not do something that is needed.
        SettingsError: it is another org, or the field map does not fit it.
        RejectedError: the org refuses the deploy; names the components.
    """
    api = SalesforceApi(settings, stores)
    fields = Fields(api, settings)
    tasks = settings.mode == "tasks"
    described, org_id = api.described({name: name for name in wanted_objects(tasks=tasks)})
    if org_id != settings.org_id:
        msg = f"Salesforce: the app logs in to org {org_id}, the setting org_id says {settings.org_id}"
        raise SettingsError(msg)
    yield f"log-in: works, org {org_id}"
    there = {name: list(found) if found is not None else None for name, found in described.items()}
    lack = lacking(there, permission_sets=_has_permission_sets(api), tasks=tasks)
    if dry_run:
        yield from plan_lines(lack, done=False)
        return
    if not lack.nothing:
        yield from _deploy(api, settings, lack, check_only=True)
        if check_only:
            yield from plan_lines(lack, done=False)
            return
        yield from _deploy(api, settings, lack, check_only=False)
    yield from plan_lines(lack, done=True)
    if check_only:
        return
    yield _assign(api)
    fields.check()
    yield f"fields: {fields.map.where} fits the org"
    if settings.crm_merge:
        yield "warning: crm_merge is on; contacts that are merged in Salesforce cannot be taken apart again"
    if not tasks:
        yield "to do by hand: put the related lists Conversations and Messages on the page layouts of Contact, and give"
        yield f"agents the permission set {AGENT}"


def _has_permission_sets(api: SalesforceApi) -> bool:
    queries = in_queries("PermissionSet", ("Id", "Name"), "Name", (INTEGRATION, AGENT))
    (found,) = api.query_together(queries)
    return {one.get("Name") for one in found} >= {INTEGRATION, AGENT}


def _deploy(
    api: SalesforceApi, settings: SalesforceTargetSettings, lack: Lacking, *, check_only: bool
) -> Iterator[str]:
    """One deploy by the Metadata API, waited for.

    Source: developer.salesforce.com/docs, Metadata API Developer Guide, deploy() and checkDeployStatus(), read 2026-11,
    documented; the rights needed (Modify Metadata Through Metadata API Functions): observed in public issues.
    """
    from simple_salesforce.exceptions import SalesforceError

    client = api.new_client()
    package = package_zip(package_files(lack, settings.api_version))
    what = "validation" if check_only else "deploy"
    try:
        started = client.deploy(package, sandbox=True, checkOnly=str(check_only).lower(), **_OPTIONS)
        deploy_id = started.get("asyncId")
        if not deploy_id:
            raise CredentialsError(f"Salesforce: the {what} was not started; {_RIGHT}")
        state, details = _wait(client, deploy_id, settings)
    except SalesforceError as error:
        raise _deploy_error(what, error) from None
    except requests.RequestException as error:
        msg = f"Salesforce: the {what} gave no answer ({type(error).__name__}); run the set-up again"
        raise UnavailableError(msg) from None
    if state != "Succeeded":
        raise RejectedError(f"Salesforce: the {what} ended as {state or 'unknown'}{_problems(details)}")
    yield f"{what}: accepted by the org"


def _wait(client: Any, deploy_id: str, settings: SalesforceTargetSettings) -> tuple[str | None, Any]:
    deadline = time.monotonic() + _LONGEST_DEPLOY_SECONDS
    wait_seconds = settings.retry_wait_seconds
    while True:
        told = client.checkDeployStatus(deploy_id)
        if told["state"] in _ENDED or time.monotonic() > deadline:
            return told["state"], told["deployment_detail"]
        time.sleep(wait_seconds)
        wait_seconds = min(10.0, wait_seconds * 2)


def _problems(details: Any) -> str:
    """Which components were refused and why; Salesforce's words here are about metadata, never about people."""
    errors = details.get("errors") if isinstance(details, dict) else None
    told = [f"{one.get('file')}: {one.get('message')}" for one in (errors if isinstance(errors, list) else []) if one]
    return ": " + "; ".join(told[:20]) if told else ""


def _deploy_error(what: str, error: Any) -> Exception:
    """The error of a SOAP fault: a right that is missing, mostly."""
    text = str(getattr(error, "content", ""))
    code = next(
        (one for one in ("INSUFFICIENT_ACCESS", "INVALID_SESSION_ID", "UNKNOWN_EXCEPTION") if one in text), None
    )
    return CredentialsError(f"Salesforce: the {what} was refused ({code or error.status}); {_RIGHT}")


def _assign(api: SalesforceApi) -> str:
    """Give the integration user its permission set, if we can find out who that is and may do so."""
    by_hand = f"to do by hand: give the integration user the permission set {INTEGRATION}"
    told = api.call("GET", "/services/oauth2/userinfo")
    user_id = told.body.get("user_id") if told.ok and isinstance(told.body, dict) else None
    if not isinstance(user_id, str):
        return by_hand
    (sets,) = api.query_together(in_queries("PermissionSet", ("Id",), "Name", (INTEGRATION,)))
    if not sets:
        return by_hand
    set_id = str(sets[0]["Id"])
    columns = ("Id", "PermissionSetId")
    queries = in_queries("PermissionSetAssignment", columns, "AssigneeId", (user_id,))
    if any(str(one.get("PermissionSetId")) == set_id for part in api.query_together(queries) for one in part):
        return f"permission set {INTEGRATION}: the user has it"
    values = {"AssigneeId": user_id, "PermissionSetId": set_id}
    answer = api.call("POST", "sobjects/PermissionSetAssignment", json=values)
    if answer.ok:
        return f"permission set {INTEGRATION}: given to the user"
    _LOG.warning("%s", rejected("POST sobjects/PermissionSetAssignment", answer.status, errors_in(answer.body)))
    return by_hand
