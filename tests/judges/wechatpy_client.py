"""wechatpy as a client: runs the calls given on stdin against a server, writes what came of each.

In: ``{"work": bool, "url", "id", "secret", "token"?, "calls": [{"call": "user.get", "arguments"?, "keywords"?}]}``.
Without a token wechatpy asks for one itself (WeCom). Out, for each call: ``{"ok": json}``, ``{"bytes": length,
"type"}`` or ``{"code", "message"}``.
"""

from __future__ import annotations

import json
import sys
from operator import attrgetter
from typing import Any

import requests
from wechatpy import WeChatClient
from wechatpy.exceptions import WeChatClientException
from wechatpy.work import WeChatClient as WorkClient


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    base = f"{work['url']}/cgi-bin/"

    class Client(WorkClient if work["work"] else WeChatClient):  # type: ignore[misc]
        """With another address; the one for tokens is written out in wechatpy."""

        API_BASE_URL = base

        def fetch_access_token(self) -> Any:
            """As wechatpy does it, at our address."""
            return self._fetch_access_token(
                url=f"{base}gettoken", params={"corpid": self.corp_id, "corpsecret": self.secret}
            )

    client = Client(work["id"], work["secret"], access_token=work.get("token"), auto_retry=False)
    results: list[dict[str, Any]] = []
    for one in work["calls"]:
        try:
            answer = attrgetter(one["call"])(client)(*one.get("arguments", ()), **one.get("keywords", {}))
        except WeChatClientException as error:
            results.append({"code": error.errcode, "message": error.errmsg})
            continue
        if isinstance(answer, requests.Response):
            results.append({"bytes": len(answer.content), "type": answer.headers.get("Content-Type")})
        else:
            results.append({"ok": answer})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
