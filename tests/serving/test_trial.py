import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.models import artifact_folder, countdown_model, hungry_model, linear_model, recursive_model
from tests.serving.conftest import wait_until

from edgeferry.agent.serving.command import TrialOptions
from edgeferry.agent.serving.trial import run, try_candidate
from edgeferry.agent.trial import TrialCancelledError, TrialReport, run_trial
from edgeferry.inference.selftest import SelfTest
from edgeferry.wire.desired import decode_manifest
from edgeferry.wire.messages import Code, Problem, Reason

MIB = 1024 * 1024


def options(folder: Path) -> TrialOptions:
    return TrialOptions(folder / "model.tflite", folder / "artifact.json", folder / "selftest.npz")


def tried(folder: Path, **limits: Any) -> TrialReport:
    wanted = {"threads": 1, "timeout_s": 30.0, "memory_limit_bytes": 200 * MIB} | limits
    return run_trial(folder / "model.tflite", folder / "artifact.json", folder / "selftest.npz", **wanted)


def reason(report: TrialReport) -> Reason:
    assert report.problem
    return report.problem.reason


def hungry(tmp_path: Path, size_bytes: int) -> Path:
    """Return an artifact that is all right, but takes ``size_bytes`` on the device."""
    folder = artifact_folder(tmp_path, model=lambda path: hungry_model(path, size_bytes=400), samples=1)
    hungry_model(folder / "model.tflite", size_bytes=size_bytes)
    manifest = decode_manifest((folder / "artifact.json").read_bytes())
    output = msgspec.structs.replace(manifest.outputs[0], shape=(size_bytes // 4,))
    (folder / "artifact.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, outputs=(output,))))
    return folder


def hanging(tmp_path: Path) -> Path:
    folder = artifact_folder(tmp_path, model=countdown_model, samples=1)
    forever = SelfTest({"x": np.full((1, 1), np.inf, np.float32)}, {"scores": np.zeros((1, 1), np.float32)})
    forever.save(folder / "selftest.npz")
    return folder


def test_a_good_candidate_passes_and_is_measured(tmp_path: Path) -> None:
    report = tried(artifact_folder(tmp_path))

    assert report.passed
    assert report.samples == 8
    assert report.load_ms > 0
    assert report.invoke_p50_ms > 0
    assert 20 * MIB < report.peak_rss_bytes < 200 * MIB


def test_a_candidate_that_strays_from_its_self_test_is_refused(tmp_path: Path) -> None:
    report = tried(artifact_folder(tmp_path, passing=False))

    assert reason(report) == Reason.SELFTEST_MISMATCH
    assert report.problem
    assert report.problem.detail.startswith("output 'scores' of self-test sample 0: differs by")


def test_a_candidate_that_crashes_the_runtime_is_refused(tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path)
    recursive_model(folder / "model.tflite")

    report = tried(folder)

    assert report.problem == Problem(Code.INTERNAL, Reason.TRIAL_CRASHED, "the trial crashed, signal SIGSEGV")


def test_a_candidate_that_hangs_is_ended_and_refused(tmp_path: Path) -> None:
    report = tried(hanging(tmp_path), timeout_s=0.5)

    assert report.problem == Problem(Code.DEADLINE_EXCEEDED, Reason.TRIAL_TIMEOUT, "the trial did not end within 0.5 s")


def test_a_candidate_that_eats_memory_is_ended_and_refused(tmp_path: Path) -> None:
    report = tried(hungry(tmp_path, 300 * MIB), memory_limit_bytes=100 * MIB)

    assert reason(report) == Reason.TRIAL_MEMORY
    assert report.peak_rss_bytes > 100 * MIB


def test_an_allocation_beyond_all_measure_fails_inside(tmp_path: Path) -> None:
    report = tried(hungry(tmp_path, 2000 * MIB))

    assert reason(report) in {Reason.TRIAL_MEMORY, Reason.MODEL_INVALID}


def test_a_trial_that_somebody_killed_counts_as_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(TrialOptions, "command", lambda _: [sys.executable, "-c", script])

    report = tried(tmp_path)

    assert reason(report) == Reason.TRIAL_MEMORY
    assert report.problem
    assert "was killed from outside" in report.problem.detail


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("print('x' * 1000000)", "exit code 0 and no report"),
        ("import sys; print('last words', file=sys.stderr); sys.exit(3)", "last words"),
        ("import os; os.abort()", "signal SIGABRT"),
    ],
)
def test_a_trial_that_ends_without_a_report_has_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, detail: str
) -> None:
    monkeypatch.setattr(TrialOptions, "command", lambda _: [sys.executable, "-c", script])

    report = tried(tmp_path)

    assert reason(report) == Reason.TRIAL_CRASHED
    assert report.problem
    assert detail in report.problem.detail


def test_a_trial_that_closes_its_output_and_lives_on_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os, signal; os.close(1); os.close(2); signal.pause()"
    monkeypatch.setattr(TrialOptions, "command", lambda _: [sys.executable, "-c", script])

    assert reason(tried(tmp_path, timeout_s=0.5)) == Reason.TRIAL_TIMEOUT


def test_a_trial_can_be_called_off(tmp_path: Path) -> None:
    folder, cancel, raised = hanging(tmp_path), threading.Event(), threading.Event()

    def attempt() -> None:
        try:
            tried(folder, cancel=cancel)
        except TrialCancelledError:
            raised.set()

    thread = threading.Thread(target=attempt)
    thread.start()
    cancel.set()
    thread.join(10)

    assert raised.is_set()


def test_a_trial_dies_with_the_agent(tmp_path: Path) -> None:
    folder = hanging(tmp_path)
    program = (
        "import sys; from pathlib import Path; from edgeferry.agent.trial import run_trial;"
        "p = Path(sys.argv[1]);"
        "run_trial(p / 'model.tflite', p / 'artifact.json', p / 'selftest.npz',"
        " threads=1, timeout_s=60, memory_limit_bytes=1 << 30)"
    )
    agent = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children")
    wait_until(lambda: children.read_text().split() and "trial" in command_of(children.read_text().split()[0]))
    child = children.read_text().split()[0]

    agent.send_signal(signal.SIGKILL)
    agent.wait()

    wait_until(lambda: "trial" not in command_of(child))


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def garbage(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"garbage")


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (garbage("model.tflite"), Reason.MODEL_INVALID),
        (garbage("artifact.json"), Reason.MANIFEST_MISMATCH),
        (garbage("selftest.npz"), Reason.SELFTEST_INVALID),
        (lambda folder: linear_model(folder / "model.tflite", features=3), Reason.MANIFEST_MISMATCH),
        (lambda folder: (folder / "selftest.npz").unlink(), Reason.SELFTEST_INVALID),
    ],
)
def test_what_is_spoilt_has_its_own_reason(tmp_path: Path, spoil: Callable[[Path], object], wanted: Reason) -> None:
    folder = artifact_folder(tmp_path)
    spoil(folder)

    assert reason(try_candidate(options(folder))) == wanted


def test_a_self_test_that_the_runtime_fails_is_the_models_fault(tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path, model=lambda path: hungry_model(path, size_bytes=64, free=True), samples=1)
    SelfTest({"x": np.zeros((1, 2), np.float32)}, {"scores": np.zeros((1, 16), np.float32)}).save(
        folder / "selftest.npz"
    )

    assert reason(try_candidate(options(folder))) == Reason.MODEL_INVALID


@pytest.mark.parametrize(("passing", "code"), [(True, 0), (False, 1)])
def test_the_exit_code_tells_whether_it_passed(tmp_path: Path, passing: bool, code: int) -> None:
    output = io.BytesIO()
    folder = artifact_folder(tmp_path, passing=passing)

    assert run(options(folder).command()[4:], output) == code

    line = json.loads(output.getvalue())
    assert ("problem" in line) is not passing


def test_nothing_is_printed_but_the_report(tmp_path: Path) -> None:
    done = subprocess.run(options(artifact_folder(tmp_path)).command(), capture_output=True, check=True)

    assert done.stdout.count(b"\n") == 1
    assert json.loads(done.stdout)["samples"] == 8


def test_the_control_plane_loads_no_numpy() -> None:
    program = (
        "import sys, edgeferry.agent.supervisor, edgeferry.agent.trial, edgeferry.agent.serving_client;"
        "sys.exit(bool({'numpy', 'ai_edge_litert', 'tflite_runtime', 'http.client'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
