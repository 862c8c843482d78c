"""Drives a headless Chromium by its own protocol (Chrome DevTools Protocol) through a pipe, which needs no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
WITH_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE = 60.0  # seconds


class Browser:
    """A page in a Chromium of its own, which ends with the `with` block.

    Attributes:
        addresses: all that the page asked for so far.
        complaints: errors on the page's console, and exceptions of its scripts.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 1000):
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, replies)]  # 3 and 4 must be free
        flags = (*QUIET, *WITH_GL, "--remote-debugging-pipe", f"--user-data-dir={profile}")
        files = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(given, 3)]
        files.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
        arguments = [CHROMIUM, *flags, "about:blank"]
        self._process = os.posix_spawn(CHROMIUM, arguments, os.environ, file_actions=files)
        for end in (commands, replies, *given):
            os.close(end)
        self._number, self._buffer, self._session = 0, b"", None
        self.addresses: list[str] = []
        self.complaints: list[str] = []
        (target,) = (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The reply to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive()
            if reply.get("id") == self._number:
                assert "error" not in reply, f"{method}: {reply['error']}"
                return reply["result"]
            self._note(reply)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._replies, 2**20)
            assert data, "Chromium has ended."
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            self.addresses.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(
                params["exceptionDetails"].get("exception", {}).get("description", "exception")
            )
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, address: str) -> None:
        """Load a page; does not wait for it."""
        self.call("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.value(script)):
            assert time.monotonic() < end, f"{script} did not become true; the page: {self.text()}"
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """The page's text as it is seen."""
        return self.value("document.body.innerText")

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file for an `input` element."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window, pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        try:
            self.call("Browser.close")
        finally:
            os.close(self._commands)
            os.close(self._replies)  # without these it ends, too
            os.waitpid(self._process, 0)
