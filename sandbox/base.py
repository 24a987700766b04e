"""What every stand-in server shares: routes, a clock that tests can move, a journal of requests, faults on demand.

A stand-in keeps state, enforces the documented rules of its platform and can be asked for its state under
``/_sandbox/``, which is how the demo counts what really happened. Each rule cites its fact in `Rule`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing import Rule as Route
from werkzeug.wrappers import Request, Response

Handler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a stand-in enforces, with where it is written down and which independent judge confirms it.

    `kind` is documented, observed or assumed. `judge` names the independent part that shows it (a vendor's SDK, an
    official API document), or is ``None``: then the rule is only our reading, and a test lists it as such.
    """

    name: str
    source: str
    kind: str
    judge: str | None = None


class Clock:
    """The stand-in's time: real time plus what tests added."""

    def __init__(self) -> None:
        self._ahead_seconds = 0.0

    def now(self) -> datetime:
        """Aware UTC now."""
        return datetime.fromtimestamp(self.epoch(), UTC)

    def epoch(self) -> float:
        """Seconds since 1970."""
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        self._ahead_seconds += seconds


@dataclass(slots=True)
class Fault:
    """What to do to the next requests that match: answer `status`, after or without doing the work, or hang up.

    `when`: ``before`` (refuse, nothing happens), ``after`` (do the work, then lie about it), ``hang`` (do the work,
    then answer only after `delay_seconds`, which a client takes for a timeout).
    """

    path: str
    status: int = 500
    times: int = 1
    when: str = "before"
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    method: str | None = None


class SandboxApp:
    """A WSGI application with a route table. Subclasses list `routes` and keep their state under `lock`."""

    name = "sandbox"
    rules: tuple[Rule, ...] = ()

    def __init__(self) -> None:
        self.clock = Clock()
        self.lock = threading.RLock()
        self.journal: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        own = [
            Route("/_sandbox/state", endpoint=self._get_state, methods=["GET"]),
            Route("/_sandbox/journal", endpoint=self._get_journal, methods=["GET"]),
            Route("/_sandbox/advance", endpoint=self._post_advance, methods=["POST"]),
            Route("/_sandbox/faults", endpoint=self._post_fault, methods=["POST"]),
        ]
        self._map = Map([*own, *self.routes()], strict_slashes=False, merge_slashes=False)

    def routes(self) -> Iterable[Route]:
        """The platform's own routes: `werkzeug.routing.Rule` with the handler as endpoint."""
        return ()

    def state(self) -> dict[str, Any]:
        """What the platform holds now, as JSON: the demo and the tests count from it."""
        return {}

    def refusal(self, error: HTTPException) -> Response:
        """How this platform words an HTTP error of the router (404, 405); subclasses use the vendor's shape."""
        return json_response({"error": error.name}, error.code or 500)

    def guard(self, request: Request) -> Response | None:
        """Checked before any platform route: authentication, rate limits. A response ends the request."""
        del request
        return None

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """The WSGI entry."""
        request = Request(environ)
        response = self._answer(request)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        entry: dict[str, Any] = {
            "at": self.clock.now().isoformat(), "method": request.method, "path": request.path,
            "query": request.query_string.decode("latin-1"), "body": request.get_data(as_text=True),
        }  # fmt: skip
        try:
            handler, arguments = self._map.bind_to_environ(request.environ).match()
        except HTTPException as error:
            response = self.refusal(error)
        else:
            if request.path.startswith("/_sandbox/"):
                return handler(request, **arguments)  # type: ignore[no-any-return]
            response = self._with_faults(request, handler, arguments)
        entry["status"] = response.status_code
        with self.lock:
            self.journal.append(entry)
        return response

    def _with_faults(self, request: Request, handler: Handler, arguments: Any) -> Response:
        with self.lock:
            fault = next((one for one in self.faults if self._matches(one, request)), None)
            if fault is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
        if fault is not None and fault.when == "before":
            return json_response(fault.body or {}, fault.status, fault.headers)
        with self.lock:
            response = self.guard(request) or handler(request, **arguments)
        if fault is not None and fault.when == "hang":
            time.sleep(fault.delay_seconds)
        elif fault is not None:
            return json_response(fault.body or {}, fault.status, fault.headers)
        return response

    @staticmethod
    def _matches(fault: Fault, request: Request) -> bool:
        return fault.path in request.path and fault.method in {None, request.method}

    def _get_state(self, request: Request) -> Response:
        del request
        with self.lock:
            return json_response(self.state())

    def _get_journal(self, request: Request) -> Response:
        del request
        with self.lock:
            return json_response(self.journal)

    def _post_advance(self, request: Request) -> Response:
        self.clock.advance(float(request.get_json()["seconds"]))
        return json_response({"now": self.clock.now().isoformat()})

    def _post_fault(self, request: Request) -> Response:
        with self.lock:
            self.faults.append(Fault(**request.get_json()))
        return json_response({})


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as a JSON answer."""
    return Response(
        json.dumps(value, ensure_ascii=False), status=status, headers=headers, content_type="application/json"
    )


class SandboxServer:
    """A `SandboxApp` on a loopback port, in threads of this process. Use as a context manager, or start and stop."""

    def __init__(self, app: SandboxApp, port: int = 0) -> None:
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # the journal has every request
        self.app = app
        self._server = make_server("127.0.0.1", port, app, threaded=True)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> SandboxServer:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> SandboxServer:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()
