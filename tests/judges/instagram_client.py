"""Meta's own SDK as a reader of conversations: its typed objects, its field names, its cursors.

In: ``{"url", "token", "app_secret", "page", "platform", "fields", "limit"}``. Out: ``{"threads": [...], "parameters":
[...]}``: every conversation that the SDK's cursor gives, and the names that the SDK knows for the call.
"""

from __future__ import annotations

import json
import sys

from facebook_business.adobjects.page import Page
from facebook_business.adobjects.unifiedthread import UnifiedThread
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession


def main() -> None:
    """Read, list, write."""
    work = json.load(sys.stdin)
    FacebookSession.GRAPH = work["url"]
    FacebookAdsApi.init(
        app_id="1", app_secret=work["app_secret"], access_token=work["token"], api_version="v26.0", crash_log=False
    )
    known = {name for name in vars(UnifiedThread.Field).values() if isinstance(name, str)}
    unknown = [name for name in work["fields"] if name not in known]
    params = {"platform": work["platform"], "limit": work["limit"]}
    found = Page(work["page"]).get_conversations(fields=work["fields"], params=params)
    threads = [{name: one.get(name) for name in work["fields"]} for one in found]
    json.dump([{"threads": threads, "unknown_fields": unknown}], sys.stdout)


if __name__ == "__main__":
    main()
