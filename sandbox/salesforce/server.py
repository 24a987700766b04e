"""The org on a loopback port with TLS: Salesforce has no plain HTTP, and its Python client cannot be told to use it."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from sandbox.base import SandboxServer
from sandbox.mail_certificate import make_certificate
from sandbox.salesforce.app import SalesforceApp


class SalesforceSandbox(SandboxServer):
    """A `SalesforceApp` at ``https://127.0.0.1:<port>``. Use as a context manager, or start and stop.

    `ca_bundle` is the certificate to trust; `environment` has it under the names that Python's requests and Node read.
    """

    app: SalesforceApp

    def __init__(self, app: SalesforceApp | None = None, port: int = 0) -> None:
        super().__init__(app or SalesforceApp(), port)
        self._folder = tempfile.TemporaryDirectory(prefix="onethread-salesforce-")
        self.ca_bundle, key = make_certificate(Path(self._folder.name))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.ca_bundle, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.ssl_context = context
        self.url = f"https://127.0.0.1:{self.port}"

    def use(self, app: SalesforceApp) -> SalesforceApp:
        """Another org at the same address: a new one takes no time, a new port half a second."""
        self.app = self._server.app = app
        return app

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to trust this org."""
        return {"REQUESTS_CA_BUNDLE": str(self.ca_bundle), "NODE_EXTRA_CA_CERTS": str(self.ca_bundle)}

    def session(self) -> requests.Session:
        """A session that trusts this org, and to which every ``*.salesforce.com`` is this org."""
        session = requests.Session()
        session.trust_env = False  # else REQUESTS_CA_BUNDLE of this process outranks `verify`
        session.verify = str(self.ca_bundle)
        session.mount("https://", ToStandIn(self.url))
        return session

    def stop(self) -> None:
        """Stop answering; free the port and the certificate's folder."""
        super().stop()
        self._folder.cleanup()


class ToStandIn(HTTPAdapter):
    """Sends what is meant for ``https://*.salesforce.com`` to a stand-in, which still sees the host that was meant."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._target = urlsplit(url)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send one request."""
        parts = urlsplit(str(request.url))
        if (parts.hostname or "").endswith(".salesforce.com"):
            request.headers["Host"] = parts.netloc
            request.url = parts._replace(scheme=self._target.scheme, netloc=self._target.netloc).geturl()
        return super().send(request, *arguments, **options)
