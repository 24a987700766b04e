"""Infobip's own library as a client of a server that is not Infobip.

In: ``{"url", "api_key", "calls": [{"call", "arguments"}]}``. Out, for each call: ``{"ok": ...}`` with times as the
library has understood them, or ``{"status", "code"}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from infobip_api_client import ApiClient, Configuration
from infobip_api_client.api.sms_api import SmsApi
from infobip_api_client.exceptions import ApiException
from infobip_api_client.models import SmsRequest


def call(api: SmsApi, name: str, arguments: dict[str, Any]) -> Any:
    """One call."""
    match name:
        case "inbox":
            return api.get_inbound_sms_messages(**arguments).model_dump(mode="json")
        case "reports":
            return api.get_outbound_sms_message_delivery_reports(**arguments).model_dump(mode="json")
        case "logs":
            return api.get_outbound_sms_message_logs(**arguments).model_dump(mode="json")
        case _:
            return api.send_sms_messages(sms_request=SmsRequest.from_dict(arguments)).model_dump(mode="json")


def main() -> None:
    """Read, call, write."""
    work = json.load(sys.stdin)
    configuration = Configuration(host=work["url"], api_key={"APIKeyHeader": work["api_key"]},
                                  api_key_prefix={"APIKeyHeader": "App"})  # fmt: skip
    results: list[dict[str, Any]] = []
    with ApiClient(configuration) as client:
        api = SmsApi(client)
        for one in work["calls"]:
            try:
                results.append({"ok": call(api, one["call"], one.get("arguments", {}))})
            except ApiException as error:
                told = json.loads(error.body or "{}").get("requestError", {}).get("serviceException", {})
                results.append({"status": error.status, "code": told.get("messageId")})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
