"""One page in a real Chromium, driven over a pipe by the DevTools protocol; no driver to install."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from typing import Any

_SECONDS = 30
_TEXT = "document.readyState === 'complete' ? document.body.innerText : ''"
"""Complete: scripts have run, too."""


class Browser:
    """A headless Chromium with one page; a context that ends it.

    Source of the messages: https://chromedevtools.github.io/devtools-protocol/ (read 2026-11, documented). Over
    ``--remote-debugging-pipe`` they go in by descriptor 3 and out by 4, each ended by a zero byte.
    """

    def __init__(self, chromium: str) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        options = f"--headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={self._folder.name}"
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {chromium} {options} about:blank 3<&{theirs_in} 4>&{theirs_out} 2>/dev/null"],
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._waiting = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command; its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._waiting:
                piece = os.read(self._in, 65_536)
                if not piece:
                    raise RuntimeError("Chromium went away")
                self._waiting += piece
            line, _, self._waiting = self._waiting.partition(b"\0")
            told = json.loads(line)
            if told.get("id") == self._number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    def text_with(self, words: str) -> str:
        """The page's text, once these words are in it."""
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            told = self.call("Runtime.evaluate", expression=_TEXT)
            text = str(told["result"].get("value", ""))
            if words in text:
                return text
            time.sleep(0.05)  # here: what waits in the page fails when it goes to the next one
        raise AssertionError(f"{words!r} did not come up; the page says: {text[:300]!r}")


def press_key(chromium: str, url: str, key: str, *, before: str, until: str) -> str:
    """Open `url`, press `key` when the words `before` are there; the page's text when the words `until` are."""
    with Browser(chromium) as browser:
        browser.call("Page.navigate", url=url)
        browser.text_with(before)
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        return browser.text_with(until)
