"""Meta's own SDK for its Graph API as a client: form bodies, appsecret_proof, cursors.

In: ``{"url", "token", "app_secret", "calls": [{"method", "path": [...], "params": {...}}]}``. Out: one ``{"ok": json}``
or ``{"code", "subcode", "type", "status"}`` for each call.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    FacebookSession.GRAPH = work["url"]
    api = FacebookAdsApi.init(
        app_id="1", app_secret=work["app_secret"], access_token=work["token"], api_version="v23.0", crash_log=False
    )
    results: list[dict[str, Any]] = []
    for one in work["calls"]:
        try:
            answer = api.call(one["method"], tuple(one["path"]), params=one.get("params", {}))
            results.append({"ok": answer.json(), "headers": dict(answer.headers())})
        except FacebookRequestError as error:
            results.append({
                "code": error.api_error_code(), "subcode": error.api_error_subcode(), "type": error.api_error_type(),
                "status": error.http_status(), "message": error.api_error_message(),
            })  # fmt: skip
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
