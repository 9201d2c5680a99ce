"""The processes of the demo: started quietly, watched, and ended with it, whatever ends it."""

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeferry.fleet.errors import FleetError

__all__ = ["CommandRun", "Household", "free_port"]

COMMAND_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 10.0
LAST_LINES = 15

_SERVER_PORTS = range(10_000, 32_768)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class CommandRun:
    """How a command ended.

    Attributes:
        result: What it printed with ``--json``; None when it printed none.
        complaint: What it said on standard error.
    """

    exit_code: int
    result: Any
    complaint: str


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody uses.

    It lies below the range from which Linux takes ports for outgoing connections (ip(7), ip_local_port_range): one from
    within could be somebody's end of a connection by the time that a server wants it.
    """
    while True:
        port = secrets.choice(_SERVER_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Household:
    """Runs edgeferry's own commands, in the foreground and in the background.

    Attributes:
        environment: Of the commands that are run from now on.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self._folder = folder
        self.environment = {**os.environ, **environment}
        self._command_timeout_s = command_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def edgeferry(self, *arguments: str, standard_input: str = "") -> CommandRun:
        """Run ``edgeferry`` with ``arguments`` and ``--json`` to its end."""
        return self._run(["edgeferry.fleet", *arguments, "--json"], standard_input)

    def python(self, module: str, *arguments: str, standard_input: str = "") -> CommandRun:
        """Run ``python -m module`` to its end."""
        return self._run([module, *arguments], standard_input)

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start ``python -m module`` in the background; what it prints goes into ``name.log``."""
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - the demo has one thread while it starts processes
            )

    def check_running(self) -> None:
        """Raise a `FleetError` with the last lines of its log when a background process has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
                raise FleetError(f"{name} ended with {process.returncode}:\n" + "\n".join(lines))

    def stop(self) -> None:
        """End every background process, the last one first."""
        for process in reversed(self._running.values()):
            process.terminate()
        for process in reversed(self._running.values()):
            try:
                process.wait(self._stop_timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _run(self, arguments: list[str], standard_input: str) -> CommandRun:
        # A session of its own, so that the terminal's Ctrl-C reaches the demo alone, which then ends the command: a
        # second signal would interrupt its clearing up.
        with subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - the demo has one thread while it starts processes
        ) as process:
            try:
                output, complaint = process.communicate(standard_input, timeout=self._command_timeout_s)
            except subprocess.TimeoutExpired as err:
                what = " ".join(arguments[:2])
                raise FleetError(f"{what} did not end within {self._command_timeout_s:.0f} s") from err
            finally:
                _end(process, self._stop_timeout_s)
        return CommandRun(process.returncode, _parsed(output), complaint.strip())


def _end(process: "subprocess.Popen[str]", timeout_s: float) -> None:
    """End ``process`` where it still runs; it has ``timeout_s`` to clear up."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=timeout_s)  # reads on, so that no full pipe holds it up
    finally:
        process.kill()
        process.wait()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip() or None


def _end_with_parent() -> None:
    """Have the kernel end this process when the demo is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
