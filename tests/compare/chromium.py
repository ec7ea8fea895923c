"""A headless Chromium, driven through chromedriver's HTTP interface by the standard library."""

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
MISSING = "needs chromium and chromedriver"


def installed() -> bool:
    """Whether Chromium and its driver are installed."""
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


class Chromium:
    """One window.

    Args:
        profile: An empty folder for its profile.
    """

    def __init__(self, profile: Path) -> None:
        command = ["chromedriver", "--port=0"]
        self._driver = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._driver.stdout is not None
        port = next(
            match[1]
            for line in self._driver.stdout
            if (match := re.search(r"started successfully on port (\d+)", line))
        )
        self._session = f"http://127.0.0.1:{port}/session"
        options = {
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "binary": shutil.which("chromium"),
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._post("", capabilities={"alwaysMatch": wanted})["sessionId"]
        self._session += f"/{session}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            request = urllib.request.Request(self._session, method="DELETE")
            urllib.request.urlopen(request, timeout=30).close()
        finally:
            self._driver.terminate()
            self._driver.communicate(timeout=30)

    def open(self, page: Path, width: int = 1280, dark: bool = False) -> None:
        """Opens a page in a window of a width, in the light or the dark colour scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])
        self._post("/url", url=page.resolve().as_uri())

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self._post("/execute/sync", script=script, args=[])

    def press(self, key: str) -> None:
        """Presses a key, such as `Enter`."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            code = {"Enter": 13, "ArrowRight": 39, "Tab": 9}[key]
            self._command(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text
            )

    def console(self) -> list[str]:
        """The messages of the console since the last call."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def screenshot(self, path: Path) -> None:
        """Saves a picture of the complete page."""
        shot = self._command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _command(self, name: str, **params: Any) -> Any:
        return self._post("/goog/cdp/execute", cmd=name, params=params)

    def _post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self._session + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
