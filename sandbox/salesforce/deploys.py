"""Metadata API: deploy() and checkDeployStatus(), file based.

Source: developer.salesforce.com, Metadata API Developer Guide, "deploy()", "checkDeployStatus()" and "DeployResult",
second-hand, 2026-10 (documented): asynchronous; `checkOnly` changes nothing; with `rollbackOnError` one failure
undoes all. The shapes are those of the ``metadata.wsdl`` in simple-salesforce, which its tests hold against the
answers.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from werkzeug.wrappers import Response

from sandbox.salesforce.access import User
from sandbox.salesforce.ids import make_id
from sandbox.salesforce.metadata_files import (
    FOLDERS,
    INSIDE_OBJECTS,
    METADATA,
    Component,
    DeployError,
    parts,
    read_package,
    text,
)
from sandbox.salesforce.metadata_rules import ProblemError, SchemaChange
from sandbox.salesforce.org import Org
from sandbox.salesforce.refusals import Refusal
from sandbox.salesforce.schema import ObjectType
from sandbox.salesforce.soap import answer, child_text, children, element

_OPTIONS = frozenset({"allowMissingFiles", "autoUpdatePackage", "checkOnly", "ignoreWarnings", "performRetrieve",
                      "purgeOnDelete", "rollbackOnError", "runTests", "singlePackage", "testLevel"})  # fmt: skip


@dataclass(slots=True)
class Message:
    """What became of one component."""

    type_name: str
    full_name: str
    path: str
    problem: str | None = None
    created: bool = False


@dataclass(slots=True)
class Deploy:
    """One deploy."""

    deploy_id: str
    user: User
    made_at: str
    check_only: bool
    rollback: bool
    polls_left: int
    messages: list[Message] = field(default_factory=list)
    error: str | None = None

    @property
    def failures(self) -> list[Message]:
        """The components that could not be deployed."""
        return [one for one in self.messages if one.problem]

    @property
    def status(self) -> str:
        """How it stands, or how it ended."""
        if self.polls_left > 0:
            return "InProgress"
        if self.error or (self.failures and self.rollback):
            return "Failed"
        return "SucceededPartial" if self.failures else "Succeeded"


class Deploys:
    """deploy() over one org.

    Args:
        org: what is changed.
        polls: how often a deploy is shown as being worked on.
    """

    def __init__(self, org: Org, *, polls: int = 0) -> None:
        self._org = org
        self.polls = polls
        self._deploys: dict[str, Deploy] = {}

    def run(self, user: User, operation: Any) -> Response:
        """Start a deploy; it is done at once, and told when it is asked for.

        Raises:
            Refusal: no right, or a request that does not fit.
        """
        if not (user.may_deploy or user.everything):
            message = "use of the Metadata API requires a user with the ModifyAllData or ModifyMetadata permissions"
            raise Refusal("INSUFFICIENT_ACCESS", message, status=500)
        options = next(iter(children(operation, "DeployOptions")), None)
        unknown = {str(one.tag).rpartition("}")[2] for one in options} - _OPTIONS if options is not None else set()
        if options is None or unknown:
            raise Refusal("INVALID_OPERATION", f"DeployOptions are missing or not known: {sorted(unknown)}", status=500)
        told = {one: (child_text(options, one) or "").lower() == "true" for one in _OPTIONS}
        deploy = Deploy(make_id("0Af", len(self._deploys) + 1), user, self._org.now(), told["checkOnly"],
                        told["rollbackOnError"], self.polls)  # fmt: skip
        try:
            data = base64.b64decode(child_text(operation, "ZipFile") or "", validate=True)
            self.install(data, deploy, single=told["singlePackage"])
        except (DeployError, binascii.Error) as error:
            deploy.error = str(error)
        self._deploys[deploy.deploy_id] = deploy
        result = f"<done>false</done>{element('id', deploy.deploy_id)}<state>Queued</state>"
        return answer(METADATA, "deploy", f"<result>{result}</result>")

    def status(self, operation: Any) -> Response:
        """How a deploy stands.

        Raises:
            Refusal: there is no such deploy.
        """
        deploy = self._deploys.get(child_text(operation, "asyncProcessId") or "")
        if deploy is None:
            raise Refusal("INVALID_CROSS_REFERENCE_KEY", "No deploy with this id", status=500)
        details = (child_text(operation, "includeDetails") or "").lower() == "true"
        shown = _result(deploy, details=details)
        deploy.polls_left = max(0, deploy.polls_left - 1)
        return answer(METADATA, "checkDeployStatus", f"<result>{shown}</result>")

    def install(self, data: bytes, deploy: Deploy, *, single: bool = True) -> None:
        """Apply a package to the org's schema, as far as the deploy's options allow.

        Raises:
            DeployError: it cannot be read.
        """
        named, components = read_package(data, single=single)
        custom = sum(one.custom for one in self._org.schema.types.values())
        change = SchemaChange(self._org.schema, self._org.permission_sets, custom)
        deploy.messages = _complete(named, components)
        blocked = {one.path for one in deploy.messages}
        steps = sorted((one for one in components if one.path not in blocked), key=lambda one: _order(one.type_name))
        for one in steps:
            self._attempt(deploy, one, partial(_first_step, change, one))
        for one in [step for step in steps if step.type_name == "CustomObject"]:
            self._inside(deploy, change, one)
        for one in [step for step in steps if step.type_name == "Layout"]:
            self._attempt(deploy, one, partial(change.check_layout, one))
        for one in [step for step in steps if step.type_name == "PermissionSet"]:
            self._attempt(deploy, one, partial(change.add_permission_set, one))
        if not deploy.check_only and not (deploy.rollback and deploy.failures):
            self._use(change, deploy.user)

    def _attempt(self, deploy: Deploy, component: Component, act: Any) -> None:
        try:
            created = act()
        except ProblemError as error:
            deploy.messages.append(Message(component.type_name, component.full_name, component.path, str(error)))
        else:
            if created is not None or component.type_name == "Layout":
                deploy.messages.append(
                    Message(component.type_name, component.full_name, component.path, created=bool(created))
                )

    def _inside(self, deploy: Deploy, change: SchemaChange, component: Component) -> None:
        kind = change.find(component.full_name)
        if kind is None:
            return
        for type_name, place in INSIDE_OBJECTS.items():
            for one in parts(component.root, place):
                part = Component(type_name, f"{component.full_name}.{text(one, 'fullName')}", component.path, one)
                self._attempt(deploy, part, partial(_inner_step, change, kind, place, one))

    def _use(self, change: SchemaChange, user: User) -> None:
        self._org.use(change.schema)
        old = self._org.permission_sets
        self._org.permission_sets = change.permission_sets
        for name, made in change.permission_sets.items():
            if name not in old:
                self._org.make("PermissionSet", user, Name=name, Label=made.label, IsOwnedByProfile=False)


def _order(type_name: str) -> int:
    kinds = [one for one, _ in FOLDERS.values()]
    return kinds.index(type_name)


def _first_step(change: SchemaChange, component: Component) -> bool | None:
    if component.type_name == "CustomObject":
        return change.add_object(component)
    return None if component.type_name in {"PermissionSet", "Layout"} else False


def _inner_step(change: SchemaChange, kind: ObjectType, place: str, element: Any) -> bool:
    if place == "fields":
        return change.add_field(kind, element)
    if place == "listViews":
        change.check_columns(kind, element, "columns", "filters")
    if place == "compactLayouts":
        change.check_columns(kind, element, "fields")
    return False


def _complete(named: dict[str, list[str]], components: list[Component]) -> list[Message]:
    """What does not fit the schema, what package.xml names and the zip lacks, and the other way round."""
    messages = [Message(one.type_name, one.full_name, one.path, one.problem) for one in components if one.problem]
    there = {(one.type_name, one.full_name) for one in components}
    for one in components:
        if one.type_name != "CustomObject" or one.root is None:
            continue
        for type_name, place in INSIDE_OBJECTS.items():
            there |= {(type_name, f"{one.full_name}.{text(part, 'fullName')}") for part in parts(one.root, place)}
    for type_name, members in named.items():
        for member in members:
            if member != "*" and (type_name, member) not in there:
                problem = (
                    f"Entity of type {type_name} named {member} was named in package.xml, but was not found in zipped"
                )
                messages.append(Message(type_name, member, "package.xml", f"{problem} directory"))
    for one in components:
        listed = named.get(one.type_name, [])
        parts_named = any(
            member.startswith(f"{one.full_name}.") for kind in INSIDE_OBJECTS for member in named.get(kind, [])
        )
        if one.type_name and one.full_name not in listed and "*" not in listed and not parts_named:
            problem = f"{one.path}: the file is in the zip but not in package.xml"
            messages.append(Message(one.type_name, one.full_name, one.path, problem))
    return messages


def _result(deploy: Deploy, *, details: bool) -> str:
    done = deploy.polls_left == 0
    failed, good = deploy.failures, [one for one in deploy.messages if not one.problem]
    inner = "".join(_message(deploy, one) for one in (*failed, *good)) if details and done else ""
    numbers = element("numFailures", 0) + element("numTestsRun", 0) + element("totalTime", 0.0)
    tests = f"<runTestResult>{numbers}</runTestResult>"
    shown: list[tuple[str, Any]] = [
        ("checkOnly", deploy.check_only), ("completedDate", _iso(deploy.made_at) if done else None),
        ("createdBy", deploy.user.user_id), ("createdByName", deploy.user.name), ("createdDate", _iso(deploy.made_at)),
    ]  # fmt: skip
    rest: list[tuple[str, Any]] = [
        ("done", done), ("errorMessage", deploy.error),
        ("errorStatusCode", "UNKNOWN_EXCEPTION" if deploy.error else None),
        ("id", deploy.deploy_id), ("ignoreWarnings", False), ("lastModifiedDate", _iso(deploy.made_at)),
        ("numberComponentErrors", len(failed) if done else 0), ("numberComponentsDeployed", len(good) if done else 0),
        ("numberComponentsTotal", len(deploy.messages)), ("numberTestErrors", 0), ("numberTestsCompleted", 0),
        ("numberTestsTotal", 0), ("rollbackOnError", deploy.rollback), ("runTestsEnabled", False),
        ("startDate", _iso(deploy.made_at)), ("status", deploy.status),
        ("success", deploy.status == "Succeeded"),
    ]  # fmt: skip
    return (
        "".join(element(name, value) for name, value in shown) + f"<details>{inner}{tests}</details>"
        + "".join(element(name, value) for name, value in rest)
    )  # fmt: skip


def _message(deploy: Deploy, one: Message) -> str:
    place = "componentFailures" if one.problem else "componentSuccesses"
    shown: list[tuple[str, Any]] = [
        ("changed", not one.problem), ("componentType", one.type_name), ("created", one.created),
        ("createdDate", _iso(deploy.made_at)), ("deleted", False), ("fileName", one.path), ("fullName", one.full_name),
        ("problem", one.problem), ("problemType", "Error" if one.problem else None), ("success", not one.problem),
    ]  # fmt: skip
    return f"<{place}>{''.join(element(name, value) for name, value in shown)}</{place}>"


def _iso(stamped: str) -> str:
    return stamped.replace("+0000", "Z")
