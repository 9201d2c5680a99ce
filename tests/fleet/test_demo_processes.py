"""Commands that the demo runs have time to clear up, however they are ended."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.models import countdown_model

from edgeferry.fleet.demo.processes import Household
from edgeferry.fleet.errors import FleetError

RUN = "import sys, pathlib; from edgeferry.fleet.demo.processes import Household; h = Household(pathlib.Path(), {}); "
TIDY = """
    import pathlib, signal, sys, time
    def leave(number, frame):
        sys.exit(number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    try:
        pathlib.Path("started").touch()
        time.sleep(60)
    finally:
        print("x" * 200_000)  # more than a pipe holds
        time.sleep(0.5)  # two signals would meet here
        pathlib.Path("started").unlink()
"""
STUBBORN = """
    import pathlib, os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path("pid").write_text(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Return the folder in which the commands run; modules in it can be run by name."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def module(folder: Path, code: str) -> str:
    (folder / "some_command.py").write_text(textwrap.dedent(code))
    return "some_command"


def test_a_command_gives_its_result_and_its_complaint(here):
    name = module(here, "import sys; print(sys.stdin.read()); print('oh', file=sys.stderr); sys.exit(3)")

    done = Household(here, {}).python(name, standard_input='{"n": 1}')

    assert (done.exit_code, done.result, done.complaint) == (3, {"n": 1}, "oh")


def test_a_command_that_takes_too_long_clears_up(here):
    name = module(here, TIDY)

    with pytest.raises(FleetError, match="some_command did not end within 3 s"):
        Household(here, {}, command_timeout_s=3).python(name)

    assert not (here / "started").exists()


def test_a_command_that_does_not_end_is_killed(here):
    name = module(here, STUBBORN)

    with pytest.raises(FleetError, match="did not end within 3 s"):
        Household(here, {}, command_timeout_s=3, stop_timeout_s=0.1).python(name)

    assert not Path("/proc", (here / "pid").read_text()).exists()


@pytest.fixture
def started() -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Return what runs a household in a session of its own; whatever is left of it in the end is killed."""
    made: list[subprocess.Popen[str]] = []

    def start(code: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", RUN + code]
        made.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return made[-1]

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the demo", "of a terminal"])
def test_an_interrupted_command_clears_up(here, started, send):
    name = module(here, TIDY)
    demo = started(f"h.python({name!r})")
    wait_until((here / "started").exists)

    send(demo.pid, signal.SIGINT)
    said = demo.communicate(timeout=20)[1]

    assert "KeyboardInterrupt" in said
    assert not (here / "started").exists()


def test_an_interrupted_conversion_leaves_no_temporary_folder(here, started, monkeypatch):
    temporary = here / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    countdown_model(here / "slow.tflite")
    np.savez("x.npz", x=np.full(2, 1e30))
    options = ["-p", "raspberry-pi-4", "--name", "slow", "--calibration", "x.npz", "-o", "out"]
    demo = started(f"h.edgeferry('convert', 'slow.tflite', *{options!r})")
    wait_until(lambda: list(temporary.glob("edgeferry-convert-*/source/step.txt")))

    os.killpg(demo.pid, signal.SIGINT)
    demo.communicate(timeout=20)

    assert list(temporary.iterdir()) == []


def wait_until(condition: Callable[[], object], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
