"""A page in headless Chromium, driven over its DevTools pipe with real keys, widths and print."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
)
MARKS = "[...document.querySelectorAll('.clip[open] .mark')]"
"""JavaScript: the marks of all opened clips."""
LIMIT_S = 60.0
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


class Page:
    """One tab. `events` are the protocol's notifications: errors, requests, messages."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers, self._number, self._session, self._rest = commands, answers, 0, None, b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.media()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of one protocol command; raises AssertionError if it fails or takes too long."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LIMIT_S
        while (answer := self._next(deadline)).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Load a file at a width in CSS pixels, and wait for it."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + LIMIT_S
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(deadline))
        self.settle()

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait for pending events, such as `toggle`."""
        self.run("new Promise((done) => setTimeout(done, 50))")

    def press(self, key: str) -> None:
        """Press and release a key."""
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]} | (
            {"text": "\r"} if key == "Enter" else {}
        )
        self.call("Input.dispatchKeyEvent", type="keyDown", **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)
        self.settle()

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)
        self.settle()

    def pointer(self, kind: str, selector: str) -> None:
        """Send `mouseMoved`, or a whole `click`, to the middle of an element."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for part in ("mousePressed", "mouseReleased") if kind == "click" else ():
            self.call("Input.dispatchMouseEvent", type=part, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Lay out as for `print`, or with a colour scheme; always without smooth scrolling, which takes time."""
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        self.call(
            "Emulation.setEmulatedMedia",
            media=kind,
            features=[{"name": name, "value": value} for name, value in wanted.items()],
        )

    def screenshot(self, path: Path, whole: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print_pdf(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def faults(self) -> list[str]:
        """Return script errors and the browser's log since the page was opened."""
        methods = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"])[:500] for event in self.events if event.get("method") in methods]

    def requests(self) -> list[str]:
        """Return the URLs that were requested, without `data:` ones."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no answer from Chromium in {LIMIT_S:.0f} s"
            more = os.read(self._answers, 1 << 20)
            assert more, "Chromium ended"
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def opened_browser(profile: Path) -> Iterator[Page]:
    """Start Chromium with a profile of its own, and end it with the block."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # It reads file descriptor 3 and writes 4.
    line = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", line, "bash", CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(commands, answers)
    finally:
        os.close(commands)
        os.close(answers)
        process.terminate()
        process.wait(LIMIT_S)


def open_clips(browser: Page, page: Path, **size: int) -> None:
    """Load a report and open every clip."""
    browser.open(page, **size)
    browser.run("document.querySelectorAll('.clip').forEach((clip) => { clip.open = true; })")
    browser.settle()


def visible_clips(browser: Page) -> list[str]:
    """Return the ids of the clips that the filters leave."""
    return browser.run(
        "[...document.querySelectorAll('.clip')].filter((one) => one.offsetHeight)"
        ".map((one) => one.querySelector('.quiet').textContent.split(',')[0])"
    )
