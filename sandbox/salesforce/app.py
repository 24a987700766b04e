"""The stand-in's HTTP side: versions, sessions, limits, and which resource answers what."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

from sandbox.base import SandboxApp, json_response
from sandbox.salesforce.access import LOGIN_HOSTS, OAuthRefusal, Sessions, User
from sandbox.salesforce.batches import Collections
from sandbox.salesforce.bulk import BulkJobs
from sandbox.salesforce.call import Call, Handler
from sandbox.salesforce.composite import Composite
from sandbox.salesforce.deploys import Deploys
from sandbox.salesforce.duplicates import STANDARD_CONTACT_RULE, DuplicateHeader, DuplicateRule
from sandbox.salesforce.ids import make_id
from sandbox.salesforce.limits import Quota
from sandbox.salesforce.metadata_files import METADATA
from sandbox.salesforce.org import Caller, Org
from sandbox.salesforce.people import CONVERSATION, MESSAGE, People, run_handle
from sandbox.salesforce.refusals import Refusal, not_found
from sandbox.salesforce.rest import PAGE_ROWS, RestResources
from sandbox.salesforce.rules import RULES
from sandbox.salesforce.soap import PARTNER, Merges, answer, element, fault, local, read_envelope
from sandbox.salesforce.standard import standard_schema

OLDEST_VERSION, NEWEST_VERSION = 31, 68  # Summer '25 retired 21 to 30; Winter '27 is 68 (documented)
URI_LIMIT_BYTES = 16_384
MY_DOMAIN = "onethread-dev-ed.my.salesforce.com"
INTEGRATION = "integration@shop.example"
_USERS = (
    (INTEGRATION, "Integration User", False),
    ("admin@shop.example", "Alma Admin", True),
    ("ada.agent@shop.example", "Ada Agent", True),
    ("ben.agent@shop.example", "Ben Agent", True),
)
_VERSION = re.compile(r"v(\d\d)\.0")


class SalesforceApp(People, SandboxApp):
    """One Salesforce org.

    Args:
        consumer_key: key of its External Client App.
        consumer_secret: its secret, for the client credentials flow; the integration user is run as.
        certificate: PEM of the certificate with which assertions of the JWT bearer flow are checked.
        may_deploy: whether the integration user may deploy metadata and assign permission sets.
        daily_limit: API calls in 24 hours.
        session_seconds: a token dies when it was not used for so long.
        page_rows: the most rows in a page of a query.
        bulk_polls: how often a closed Bulk job is shown as in progress.
        deploy_polls: how often a deploy is shown as in progress.
        duplicate_rules: the active ones; a new org alerts on Contacts of the same name with the same e-mail or phone.
    """

    name = "salesforce"
    rules = RULES

    def __init__(
        self,
        *,
        consumer_key: str = "sandbox-consumer-key",
        consumer_secret: str = "sandbox-consumer-secret",  # noqa: S107  # a stand-in's secret protects nothing
        certificate: bytes | None = None,
        may_deploy: bool = True,
        daily_limit: int = 100_000,
        session_seconds: float = 7_200.0,
        page_rows: int = PAGE_ROWS,
        bulk_polls: int = 0,
        deploy_polls: int = 0,
        duplicate_rules: Iterable[DuplicateRule] = (STANDARD_CONTACT_RULE,),
    ) -> None:
        self._inner = Map(strict_slashes=False, merge_slashes=False)
        super().__init__()
        self.consumer_key, self.consumer_secret = consumer_key, consumer_secret
        self.org = Org(standard_schema(), self.clock, duplicate_rules=duplicate_rules)
        self.quota = Quota(daily_limit)
        self.sessions = Sessions(
            self.clock, consumer_key=consumer_key, consumer_secret=consumer_secret, lifetime_seconds=session_seconds
        )
        if certificate is not None:
            self.register_certificate(certificate)
        self.users: dict[str, User] = {}
        self.deploys = Deploys(self.org, polls=deploy_polls)
        self.waiting = threading.Semaphore(0)
        self._merges = Merges(self.org)
        self._slow_seconds = 0.0
        self._released = threading.Event()
        self._calling = threading.local()
        self._calls: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._make_people(may_deploy=may_deploy)
        self.rest = RestResources(self.org, self.quota, page_rows=page_rows)
        self.bulk = BulkJobs(self.org, polls=bulk_polls)
        resources = (self.rest, Collections(self.org), Composite(self.org, self._dispatch), self.bulk)
        for one in resources:
            for method, path, handler in one.routes():
                full = f"/services/data/<version>{path.rstrip('/')}"
                self._map.add(Route(full, endpoint=self._answering(method, path, handler), methods=[method]))
                self._inner.add(Route(full, endpoint=handler, methods=[method]))

    def routes(self) -> Iterable[Route]:
        """What is not below ``/services/data/<version>``; those routes need the org and follow in the constructor."""
        table: list[tuple[str, str, Callable[..., Response]]] = [
            ("GET", "/services/data", self._versions),
            ("POST", "/services/oauth2/token", self._token),
            ("POST", "/services/oauth2/revoke", self._revoke),
            ("GET", "/services/oauth2/userinfo", self._user_info),
            ("POST", "/services/Soap/u/<version>", self._partner),
            ("POST", "/services/Soap/u/<version>/<path:_rest>", self._partner),
            ("POST", "/services/Soap/m/<version>", self._metadata),
            ("POST", "/services/Soap/m/<version>/<path:_rest>", self._metadata),
            ("POST", "/_sandbox/<handle>", self._handle),
        ]
        return [Route(path, endpoint=handler, methods=[method]) for method, path, handler in table]

    @property
    def session_id(self) -> str:
        """A new access token of the integration user, as a login would give it."""
        with self.lock:
            return self.sessions.open(self.users[INTEGRATION])

    def register_certificate(self, certificate: bytes | Path) -> None:
        """Upload a certificate (PEM) to the External Client App, for the JWT bearer flow."""
        data = certificate.read_bytes() if isinstance(certificate, Path) else certificate
        self.sessions.certificates.append(x509.load_pem_x509_certificate(data))

    def state(self) -> dict[str, Any]:
        """Records by kind (contacts, conversations, messages, ...), deleted and merged ids, calls by kind, refusals."""
        kinds = {
            "contacts": "Contact", "conversations": CONVERSATION, "messages": MESSAGE, "leads": "Lead",
            "accounts": "Account", "tasks": "Task", "files": "ContentVersion", "links": "ContentDocumentLink",
        }  # fmt: skip
        tables = {shown: {one["Id"]: _present(one) for one in self.org.live(name)} for shown, name in kinds.items()}
        gone = [one for name in self.org.schema.types for one in self.org.table(name).values() if one["IsDeleted"]]
        return {
            **tables,
            "custom": {
                name: {one["Id"]: _present(one) for one in self.org.live(name)}
                for name, kind in self.org.schema.types.items() if kind.custom
            },
            "deleted": [one["Id"] for one in gone],
            "merged": {one["Id"]: one["MasterRecordId"] for one in gone if one.get("MasterRecordId")},
            "permission_sets": sorted(self.org.permission_sets),
            "jobs": {one.job_id: one.state for one in self.bulk.jobs.values()},
            "api_calls": self.quota.used(self.clock.epoch()),
            "calls": dict(self._calls),
            "refused": dict(self._refused),
        }  # fmt: skip

    def refusal(self, error: HTTPException) -> Response:
        """A path or method that Salesforce does not have, in its words."""
        if error.code == 405:
            message = "HTTP Method not allowed. Allowed are those of the resource's page"
            return self._refused_answer(Refusal("METHOD_NOT_ALLOWED", message, status=405))
        return self._refused_answer(not_found())

    def _answer(self, request: Request) -> Response:
        self._calling.caller = None
        try:
            response = super()._answer(request)
            if self._slow_seconds and request.method != "GET" and request.path.startswith("/services/data/"):
                self.waiting.release()
                self._released.wait(self._slow_seconds)
            return response
        finally:
            caller = self._calling.caller
            if caller is not None:
                with self.lock:
                    self.org.release(caller)

    def _make_people(self, *, may_deploy: bool) -> None:
        for place, (username, name, everything) in enumerate(_USERS, 1):
            user_id = make_id("005", place)
            self.users[username] = User(user_id, username, name, everything, may_deploy or everything)
        admin = self.users["admin@shop.example"]
        for user in self.users.values():
            first, _, last = user.name.partition(" ")
            self.org.make("User", admin, Id=user.user_id, Username=user.username, FirstName=first, LastName=last,
                          Name=user.name, Email=user.username, Alias=last[:8], IsActive=True,
                          UserType="Standard")  # fmt: skip
        self.org_id = self.org.make("Organization", admin, Name="Onethread Shop", IsSandbox=True, InstanceName="EU99",
                                    OrganizationType="Developer Edition")  # fmt: skip

    # -- OAuth

    def _token(self, request: Request) -> Response:
        self._calls["POST /services/oauth2/token"] += 1
        try:
            user = self.sessions.granted(request, self.users, self.users[INTEGRATION])
        except OAuthRefusal as refusal:
            self._refused[str(refusal.code)] += 1
            return json_response(
                {"error": refusal.error_code, "error_description": refusal.message}, refusal.code or 400
            )
        base = f"https://{MY_DOMAIN}" if request.host in LOGIN_HOSTS else request.host_url.rstrip("/")
        issued = str(int(self.clock.epoch() * 1000))
        return json_response({
            "access_token": self.sessions.open(user), "scope": "api", "instance_url": base, "token_type": "Bearer",
            "id": f"https://login.salesforce.com/id/{self.org_id}/{user.user_id}", "issued_at": issued,
            "signature": "c2FuZGJveA==", "api_instance_url": base,
        })  # fmt: skip

    def _revoke(self, request: Request) -> Response:
        self.sessions.close(request.form.get("token", ""))
        return Response(status=200)

    def _user_info(self, request: Request) -> Response:
        try:
            user = self._user(request)
        except Refusal:
            return json_response({"error": "Bad_OAuth_Token"}, 403)
        return json_response({
            "sub": f"https://login.salesforce.com/id/{self.org_id}/{user.user_id}", "user_id": user.user_id,
            "organization_id": self.org_id, "preferred_username": user.username, "name": user.name,
            "email": user.username, "active": True,
        })  # fmt: skip

    def _user(self, request: Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self.sessions.user(token.strip()) if scheme.lower() in {"bearer", "oauth"} else None
        if user is None:
            raise Refusal("INVALID_SESSION_ID", "Session expired or invalid", status=401)
        return user

    # -- REST

    def _versions(self, request: Request) -> Response:
        del request
        return json_response([
            {"label": f"API {one}.0", "url": f"/services/data/v{one}.0", "version": f"{one}.0"}
            for one in range(OLDEST_VERSION, NEWEST_VERSION + 1)
        ])  # fmt: skip

    def _answering(self, method: str, path: str, handler: Handler) -> Callable[..., Response]:
        """`handler` behind the version, the session and the quota, with refusals turned into answers."""

        def answering(request: Request, version: str, **arguments: str) -> Response:
            shown = path
            for name in ("type_name", "results"):
                shown = shown.replace(f"<{name}>", arguments.get(name, ""))
            self._calls[f"{method} {shown}"] += 1
            try:
                call = self._call(request, version)
                response = handler(call, **arguments)
            except Refusal as refusal:
                response = self._refused_answer(refusal)
            response.headers.pop("X-Rows-Failed", None)
            response.headers["Sforce-Limit-Info"] = self.quota.header(self.clock.epoch())
            return response

        return answering

    def _call(self, request: Request, version: str) -> Call:
        if len(request.full_path.encode()) > URI_LIMIT_BYTES:
            raise Refusal("URI_TOO_LONG", "URI Too Long", status=414)
        self._check_version(version.removeprefix("v") if _VERSION.fullmatch(version) else "")
        user = self._user(request)
        self.quota.take(self.clock.epoch())
        self._calling.caller = Caller(
            user, DuplicateHeader.read(request.headers.get("Sforce-Duplicate-Rule-Header", ""))
        )
        return Call(request, self._calling.caller, version)

    @staticmethod
    def _check_version(text: str, *, status: int = 410) -> None:
        number = int(text.partition(".")[0]) if re.fullmatch(r"\d\d\.0", text) else NEWEST_VERSION + 1
        if number < OLDEST_VERSION:
            raise Refusal("UNSUPPORTED_API_VERSION", f"API version {text} is retired", status=status)
        if number > NEWEST_VERSION:
            raise not_found()

    def _dispatch(self, request: Request, call: Call) -> Response:
        """One subrequest of a Composite."""
        try:
            handler, arguments = self._inner.bind_to_environ(request.environ).match()
            rest = {name: value for name, value in arguments.items() if name != "version"}
            header = request.headers.get("Sforce-Duplicate-Rule-Header")
            caller = Caller(call.caller.user, DuplicateHeader.read(header or ""), call.caller.key)
            return handler(Call(request, caller, arguments["version"], call.all_or_none), **rest)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return json_response(refusal.body(), refusal.code or 500)
        except HTTPException as error:
            return self.refusal(error)

    def _refused_answer(self, refusal: Refusal) -> Response:
        self._refused[f"{refusal.code} {refusal.error_code}"] += 1
        return json_response(refusal.body(), refusal.code or 500)

    # -- SOAP

    def _partner(self, request: Request, version: str, _rest: str = "") -> Response:
        def run(user: User, operation: Any, headers: dict[str, Any]) -> Response:
            name = local(operation)
            if name == "getServerTimestamp":
                stamped = element("timestamp", self.org.now().replace("+0000", "Z"))
                return answer(PARTNER, name, f"<result>{stamped}</result>")
            if name == "emptyRecycleBin":
                return self._merges.empty_bin(Caller(user), operation)
            if name != "merge":
                raise Refusal("soapenv:Client", f"No operation available for request {operation.tag}", status=500)
            allowed = headers.get("DuplicateRuleHeader")
            save = allowed is not None and any(local(one) == "allowSave" and one.text == "true" for one in allowed)
            self._calling.caller = Caller(user, DuplicateHeader(allow_save=save))
            return self._merges.run(self._calling.caller, operation)

        return self._soap(request, version, PARTNER, run)

    def _metadata(self, request: Request, version: str, _rest: str = "") -> Response:
        def run(user: User, operation: Any, headers: dict[str, Any]) -> Response:
            del headers
            name = local(operation)
            if name == "deploy":
                return self.deploys.run(user, operation)
            if name == "checkDeployStatus":
                return self.deploys.status(operation)
            raise Refusal("soapenv:Client", f"No operation available for request {operation.tag}", status=500)

        return self._soap(request, version, METADATA, run)

    def _soap(self, request: Request, version: str, namespace: str, run: Callable[..., Response]) -> Response:
        try:
            self._check_version(version, status=500)
            if not request.mimetype.startswith("text/xml") or "SOAPAction" not in request.headers:
                raise Refusal("soapenv:Client", "SOAP needs Content-Type text/xml and a SOAPAction header", status=500)
            session_id, operation, headers = read_envelope(request.get_data())
            self._calls[f"SOAP {local(operation)}"] += 1
            if local(operation) == "login":
                message = "login() is not available for this user: use OAuth"
                raise Refusal("INVALID_OPERATION", message, status=500)
            if not str(operation.tag).startswith(f"{{{namespace}}}"):
                raise Refusal("soapenv:Client", f"No operation available for request {operation.tag}", status=500)
            user = self.sessions.user(session_id or "")
            if user is None:
                message = "Invalid Session ID found in SessionHeader: Illegal Session"
                raise Refusal("INVALID_SESSION_ID", message, status=500)
            self.quota.take(self.clock.epoch())
            return run(user, operation, headers)
        except Refusal as refusal:
            self._refused[f"500 {refusal.error_code}"] += 1
            return fault(refusal, namespace)

    # -- people

    def _handle(self, request: Request, handle: str) -> Response:
        try:
            found = run_handle(self, handle, request.get_json(force=True, silent=True) or {})
        except Refusal as refusal:
            return json_response(refusal.body(), refusal.code or 500)
        return json_response({"result": found})


def _present(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if value is not None and name != "VersionData"}
