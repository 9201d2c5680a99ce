import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.models import artifact_folder, countdown_model
from tests.serving.conftest import wait_until

from edgeferry.agent.blackbox import read_running
from edgeferry.agent.serving.command import ServingOptions, TrialOptions, child_environment
from edgeferry.agent.serving.lifeline import die_with_parent
from edgeferry.agent.serving.process import run
from edgeferry.agent.serving_client import Serve, ServingClient, ServingError
from edgeferry.wire.messages import Code, Reason

HANG = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [3e6]}]}


def is_up(client: ServingClient) -> bool:
    try:
        client.ping()
    except ServingError:
        return False
    return True


@contextmanager
def serving(options: ServingOptions) -> Iterator[tuple[subprocess.Popen[bytes], ServingClient]]:
    process = subprocess.Popen(options.command(), stderr=subprocess.PIPE)
    client = ServingClient(options.socket, 10.0)
    try:
        wait_until(lambda: is_up(client) or process.poll() is not None)
        yield process, client
    finally:
        client.close()
        process.kill()
        process.communicate()


def load(client: ServingClient, folder: Path, name: str = "digits", version: int = 1) -> None:
    client.load(Serve(name, version, path=folder / "model.tflite", manifest=folder / "artifact.json", label="stable"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serving(ServingOptions(tmp_path / "s.sock", "127.0.0.1:0")) as (process, client):
        load(client, artifact_folder(tmp_path))

        process.send_signal(number)
        _, stderr = process.communicate(timeout=10)

    assert process.returncode == 0
    assert not (tmp_path / "s.sock").exists()
    assert b"and http://127.0.0.1:" in stderr
    assert b"Traceback" not in stderr


def test_a_signal_ends_the_process_even_while_a_model_hangs(tmp_path: Path) -> None:
    options = ServingOptions(tmp_path / "s.sock", blackbox=tmp_path / "blackbox", request_timeout_s=0.1)
    with serving(options) as (process, client):
        load(client, artifact_folder(tmp_path, name="slow", model=countdown_model), "slow")
        forever = json.dumps(HANG).replace("3000000.0", "1e38").encode()
        status, body, _ = client.infer("slow", "", forever, None, 0.05)
        assert (status, json.loads(body)["code"]) == (504, Code.DEADLINE_EXCEEDED)
        assert [(running.model, running.version) for running in read_running(tmp_path / "blackbox")] == [("slow", 1)]

        process.terminate()
        process.communicate(timeout=10)

    assert process.returncode == 0


def test_the_process_dies_with_the_thread_that_started_it(tmp_path: Path) -> None:
    options = ServingOptions(tmp_path / "s.sock", parent_pid=-1)
    launcher = (
        "import os, subprocess, sys;"
        "command = [str(os.getpid()) if part == '-1' else part for part in sys.argv[1:]];"
        "print(subprocess.Popen(command, stderr=subprocess.DEVNULL).pid, flush=True);"
        "sys.stdin.read()"
    )
    command = [options.command()[0], "-c", launcher, *options.command()]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout
    child = int(parent.stdout.readline())
    client = ServingClient(options.socket, 10.0)
    wait_until(lambda: is_up(client))

    parent.kill()
    parent.communicate()

    wait_until(lambda: not is_up(client))
    wait_until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text())


def test_a_process_whose_parent_has_gone_before_ends_at_once(tmp_path: Path) -> None:
    with serving(ServingOptions(tmp_path / "s.sock", parent_pid=1 << 22)) as (process, _):
        assert process.returncode == 1


def test_without_a_parent_nothing_is_tied() -> None:
    die_with_parent(0)


@pytest.mark.parametrize("http", ["0.0.0.0:0", "nonsense"])
def test_an_address_that_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, http: str, caplog: pytest.LogCaptureFixture
) -> None:
    handler = signal.getsignal(signal.SIGINT)

    assert run(["--socket", str(tmp_path / "s.sock"), "--http", http]) == 78

    assert "cannot serve:" in caplog.text
    assert signal.getsignal(signal.SIGINT) is handler


OPTIONS: list[Callable[[Path], ServingOptions]] = [
    ServingOptions,
    lambda path: ServingOptions(
        path,
        "127.0.0.1:1",
        3,
        path / "b",
        7,
        8,
        9,
        1.5,
        "[::1]:2",
        path / "m",
        True,
        path / "c",
        path / "k",
        path / "t",
    ),
]


@pytest.mark.parametrize("make", OPTIONS)
def test_a_command_line_says_what_the_options_say(tmp_path: Path, make: Callable[[Path], ServingOptions]) -> None:
    options = make(tmp_path)

    assert ServingOptions.parse(options.command()[4:]) == options


def test_defaults_stand_in_the_options_alone(tmp_path: Path) -> None:
    assert ServingOptions.parse(["--socket", str(tmp_path)]) == ServingOptions(tmp_path)


def test_a_trials_command_line_says_what_its_options_say(tmp_path: Path) -> None:
    options = TrialOptions(tmp_path / "m", tmp_path / "a", tmp_path / "s", 2, 3, 4)

    assert TrialOptions.parse(options.command()[4:]) == options


@pytest.mark.parametrize("arguments", [[], ["--socket", "s", "--threads", "0"], ["--socket", "s", "--what"]])
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        ServingOptions.parse(arguments)
    assert caught.value.code == 2


def test_children_get_none_of_the_agents_secrets() -> None:
    environment = child_environment({"PATH": "/bin", "EDGEFERRY_PASSWORD": "secret", "LD_PRELOAD": "evil.so"})

    assert environment["PATH"] == "/bin"
    assert not {"EDGEFERRY_PASSWORD", "LD_PRELOAD"} & environment.keys()
    assert child_environment().get("PATH") == os.environ.get("PATH")


def test_a_client_says_when_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(ServingError) as caught:
        ServingClient(tmp_path / "none.sock", 1.0).ping()

    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE)
