"""Runs where onethread and the pigeon package are installed: pigeons land, are read, and one is answered.

In: the folder to work in. Out: JSON on standard output; see `test_another_package.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from mappings.ids import reply_key
from mappings.platforms import load_platform
from mappings.records import Handle, Reply
from mappings.schema import singer_schema
from sandbox.base import SandboxServer
from stores.archive import Archive
from stores.database import Stores

BINARIES = Path(sys.executable).parent


def command(name: str, *arguments: str) -> list[str]:
    return [str(BINARIES / name), *arguments]


def run(environment: dict[str, str], line: str, text: str = "") -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], input=text, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{line} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.05)
    sys.exit("the receiver did not start")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def reply_lines(person: Handle) -> str:
    """A reply as a CRM's tap writes it."""
    record = Reply(
        reply_key=reply_key("crm", "1", "7", "1"), crm="crm", account="1", record_id="7",
        handles=[Handle(kind="crm_contact", scope="1", value="7"), person], text="It is back.",
        written_at=datetime.now(UTC),
    )  # fmt: skip
    schema = {"type": "SCHEMA", "stream": "replies", "schema": singer_schema(Reply), "key_properties": ["reply_key"]}
    messages = [schema, {"type": "RECORD", "stream": "replies", "record": record.model_dump(mode="json")}]
    return "".join(json.dumps(one) + "\n" for one in messages)


def main(folder: Path) -> dict[str, Any]:
    """The story."""
    loft = load_platform("pigeon").load("sandbox")()
    with SandboxServer(loft) as server:
        state_url = f"sqlite:///{folder}/state"
        environment = {**os.environ, **loft.environment(server.url), "ONETHREAD_STATE_URL": state_url}
        port = free_port()
        with (folder / "receiver.log").open("wb") as log:
            receive = command("onethread", "receive", "--port", str(port))
            receiver = subprocess.Popen(receive, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            base = f"http://127.0.0.1:{port}"
            wait_for(f"{base}/health", receiver)
            forged = requests.post(f"{base}/webhooks/pigeon", data=b"{}", headers={"X-Pigeon-Seal": "0"}, timeout=10)
            loft.connect(base)
            loft.play()
            loft.flush()
        finally:
            loft.stop()
            receiver.terminate()
            receiver.wait()
        (folder / "none.json").write_text("{}", encoding="utf-8")
        parts = [shlex.join(command(one, "--config", str(folder / "none.json"))) for one in (
            "tap-channels", "map-identity", "target-archive", "target-outbox",
        )]  # fmt: skip
        run(environment, " | ".join(parts[:3]))
        stores = Stores(state_url)
        messages = [record for _, record in Archive(stores).changes("messages", limit=100)]
        stores.close()
        ada = Handle(kind="pigeon_owner", scope="north", value="ada")
        run(environment, f"{parts[1]} | {parts[3]}", reply_lines(ada))
        sent = run(environment, shlex.join(command("onethread", "send")))
        again = run(environment, shlex.join(command("onethread", "send")))
        return {
            "forged": forged.status_code,
            "messages": sorted([one["channel"], one["account"], one["text"]] for one in messages),
            "heard": sorted(["pigeon", "north", words] for _, words, _ in loft.heard()),
            "send": [sent.strip(), again.strip()],
            "state": loft.state(),
        }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
