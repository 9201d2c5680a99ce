"""A real, headless Chromium, spoken to over a pipe by the DevTools protocol: no library and no port is needed.

Source: chromedevtools.github.io/devtools-protocol; messages end with a zero byte.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE_S = 60.0

# Chromium reads from descriptor 3 and writes to 4; the copies stay clear of both.
_WITH_PIPES = """
import fcntl, os, sys
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for copy, wanted in zip(copies, (3, 4)):
    os.dup2(copy, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = os.fdopen(reader, "rb", 0)
        self._writer = writer
        self._buffer = b""
        self._number = 0
        self._session = ""

    def open(self, url: str) -> None:
        target = self._ask("Target.createTarget", url=url)["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.wait_for("`${location.href} ${document.readyState}`", f"{url} complete")

    def evaluate(self, script: str) -> Any:
        """Return the value of ``script`` in the page."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str, part: str) -> str:
        """Return the text that ``script`` gives as soon as it contains ``part``."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while part not in (found := str(self.evaluate(script))):
            assert time.monotonic() < deadline_s, f"{script} is {found!r}, wanted {part!r} in it"
            time.sleep(0.05)
        return found

    def take_picture(self, path: Path, *, width: int, scheme: str) -> None:
        """Write the whole page as it looks on a screen of ``width`` pixels in a light or dark scheme."""
        self._ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        picture = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        session = {"sessionId": self._session} if self._session else {}
        os.write(self._writer, json.dumps(message | session).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = self._reader.read(65536)
            assert data, "the browser has ended"
            self._buffer += data
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own in ``folder``, and end it."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "about:blank"]
    command = [sys.executable, "-c", _WITH_PIPES, str(theirs_in), str(theirs_out), _chromium(), *options]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stderr=log, stdout=log)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        process.kill()
        process.wait(10)
        os.close(ours_out)


def _chromium() -> str:
    """Return the path of Chromium, installed from the system's packages where it is missing."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=120)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(install, check=True, timeout=280, capture_output=True)
        found = shutil.which("chromium")
    assert found
    return found
