"""`edgeferry demo`, the main job: it ends well, in time, and leaves nothing behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.brokers import free_port
from tests.system.harness import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.tensorflow, pytest.mark.timeout(300)]


def demo_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "edgeferry.fleet", "demo", *options]


def environment(folder: Path) -> dict[str, str]:
    """An empty home and a folder for temporary files of the test's own."""
    return {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that have to do with ``folder``."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("TMPDIR") == str(folder)
    ]


@pytest.fixture
def open_mosquitto(tmp_path: Path) -> Iterator[str]:
    """The URL of somebody's mosquitto that lets everybody in."""
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(["mosquitto", "-c", str(config)], env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/bin"})
    yield f"mqtt://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def check(done: "subprocess.CompletedProcess[str]", folder: Path) -> None:
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    assert seen["elapsed_s"] < 120
    assert seen["compared_with_host"] == 1600
    assert max(seen["push_s"].values()) < 3
    assert "SELFTEST_MISMATCH" in seen["refusal"]
    for device in seen["devices"].values():
        assert device["accuracy"]["2"] > 0.95
    assert list(folder.glob("edgeferry-demo-*")) == []
    assert processes_of(folder) == []


def test_the_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        demo_command("--json"), env=environment(tmp_path), capture_output=True, text=True, timeout=280, check=False
    )

    check(done, tmp_path)


def test_the_demo_uses_a_broker_that_is_there(tmp_path: Path, open_mosquitto: str) -> None:
    done = subprocess.run(
        demo_command("--json", "--broker", open_mosquitto),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    check(done, tmp_path)


def test_a_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "demo.log").open("wb") as log:
        demo = subprocess.Popen(demo_command("--keep"), env=environment(tmp_path), stdout=log, stderr=log)
    log_file = tmp_path / "demo.log"
    wait_until(lambda: "Everything is still running" in log_file.read_text(), "the demo to stay", patience_s=200)
    assert len(processes_of(tmp_path)) > 3

    demo.terminate()
    began_s = time.monotonic()

    assert demo.wait(30) == 130
    assert time.monotonic() - began_s < 30
    assert list(tmp_path.glob("edgeferry-demo-*")) == []
    assert processes_of(tmp_path) == []
