"""Keeps the process of the pipelines running, and knows what it said last.

It dies with the thread that starts it, so one thread starts it, reads what it says, and starts it again.
"""

import contextlib
import logging
import subprocess
import threading
from pathlib import Path

from edgeferry.agent.serving.command import child_environment, pipelines_command
from edgeferry.agent.serving.pipelines.programs import Pauses
from edgeferry.wire.codec import MAX_MESSAGE_BYTES, WireError, decode
from edgeferry.wire.messages import PipelineTelemetry

__all__ = ["PipelineKeeper"]

logger = logging.getLogger(__name__)


class PipelineKeeper:
    """Runs the process from ``start`` to ``stop``.

    Args:
        config: The agent.yaml.
        socket: Where the serving process answers.
    """

    def __init__(self, config: Path, socket: Path) -> None:
        self._command = (config, socket)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._figures: dict[str, PipelineTelemetry] = {}
        self._thread = threading.Thread(target=self._run, name="pipelines", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the keeper's own thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the process, and keep it running from now on."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the process: SIGTERM, and SIGKILL when it is still there after ``timeout_s``."""
        self._stopping.set()
        process = self._process
        if process:
            process.terminate()
            self._thread.join(timeout_s)
            process.kill()
        self._thread.join(timeout_s)

    def figures(self) -> dict[str, PipelineTelemetry]:
        """Return what each pipeline said last; nothing before it has said anything."""
        return self._figures

    def _run(self) -> None:
        pauses = Pauses()
        while not self._stopping.is_set():
            try:
                code = self._live(pauses)
            except OSError as err:
                logger.warning("the pipelines cannot be started: %s", err)
            else:
                if not self._stopping.is_set():
                    logger.warning("the process of the pipelines has ended with %d; it is started again", code)
            pauses.wait(self._stopping)

    def _live(self, pauses: Pauses) -> int:
        process = subprocess.Popen(
            pipelines_command(*self._command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=child_environment(),
            process_group=0,
        )
        self._process = process
        if self._stopping.is_set():  # stop() may have come before there was a process to end
            process.terminate()
        assert process.stdout is not None  # noqa: S101 - for mypy: it was asked for
        with process.stdout as lines:
            while line := lines.readline(MAX_MESSAGE_BYTES):
                with contextlib.suppress(WireError):  # a library of its own may write there, too
                    self._figures = decode(dict[str, PipelineTelemetry], line)
                    pauses.reset()
        return process.wait()
