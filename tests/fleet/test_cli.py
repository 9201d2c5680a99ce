"""`edgeferry` as a user types it: help, bad input, and the commands that run until they are stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import Popen

import pytest
from tests.brokers import EmbeddedTestBroker, TestBroker, free_port
from tests.fleet.conftest import Fleet, Run, run_command, started
from tests.fleet.fakes import FakeDevice

from edgeferry.fleet.rendering import human_bytes, human_duration
from edgeferry.wire.joining import parse_token

HEAVY = ("numpy", "tensorflow", "paho", "tuf", "rich", "yaml", "cryptography", "ai_edge_litert")


def line_of(process: Popen[str]) -> str:
    """Return the next line that a command prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal and return the exit code and what was said on standard error."""
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    return process.returncode, stderr


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from edgeferry.fleet.cli import cli\n"
        "try: cli.main(['--help'], standalone_mode=False)\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)

    assert "broker" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command",
    ["init", "token", "push", "rollback", "status", "infer", "devices", "monitor", "origin", "profiles", "broker run"],
)
def test_every_command_explains_itself_with_an_example(run_edgeferry: Run, command: str) -> None:
    done = run_edgeferry(*command.split(), "--help")

    assert done.exit_code == 0
    assert f"edgeferry {command}" in done.stdout.partition("Example:")[2]


def test_an_unknown_command_or_option_is_a_usage_error(run_edgeferry: Run) -> None:
    assert run_edgeferry("pusch").exit_code == 2
    assert run_edgeferry("devices", "--colour").exit_code == 2


@pytest.mark.parametrize("command", ["devices", "status digits", "token pi -p generic-x86-64", "origin", "broker run"])
def test_without_a_fleet_every_command_says_how_to_make_one(run_edgeferry: Run, command: str) -> None:
    done = run_edgeferry(*command.split())

    assert done.exit_code == 78
    assert "no fleet here" in done.stderr
    assert "edgeferry init" in done.stderr


def test_init_makes_a_fleet_once(run_edgeferry: Run, fleet_dir: Path) -> None:
    made = run_edgeferry("init", "--json", "--broker", "mqtt://pi", "--device-broker", "mqtt://192.0.2.1")
    again = run_edgeferry("init")

    assert made.json == {"fleet": str(fleet_dir), "broker": "mqtt://pi:1883", "generation": 1}
    assert again.exit_code == 2
    assert "there is a fleet already" in again.stderr
    assert "mqtt://192.0.2.1:1883" in (fleet_dir / "fleet.yaml").read_text()


def test_init_takes_a_password_from_standard_input(run_edgeferry: Run, fleet_dir: Path) -> None:
    run_edgeferry("init", "--operator", "me", "--password-file", "-", stdin="s3cret\n")

    assert json.loads((fleet_dir / "secrets" / "passwords.json").read_text()) == {"me": "s3cret"}


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("--operator", "a b"), 2, "operator 'a b'"),
        (("--topic-root", "#"), 2, "topic root '#'"),
        (("--broker", "pi"), 78, "wanted mqtt://"),
        (("--broker", "mqtt://me:secret@pi"), 78, "user or password"),
        (("--device-broker", "pi"), 78, "wanted mqtt://"),
    ],
)
def test_init_with_something_wrong_makes_nothing(
    run_edgeferry: Run, fleet_dir: Path, arguments: tuple[str, ...], exit_code: int, sentence: str
) -> None:
    done = run_edgeferry("init", *arguments)

    assert done.exit_code == exit_code
    assert sentence in done.stderr
    assert not fleet_dir.exists()


@pytest.mark.parametrize(
    ("option", "content", "sentence"),
    [
        ("--password-file", b"", "the password file is empty"),
        ("--password-file", b" \n\n", "the password file is empty"),
        ("--password-file", b"\xff\xfe\0", "the password file is not text"),
        ("--password-file", b"one\ntwo\n", "several lines"),
        ("--password-file", b"\0\1\2", "what cannot be typed"),
        ("--ca-file", b"", "wanted PEM"),
        ("--ca-file", b"\xff\xfe\0", "wanted PEM"),
        ("--ca-file", b"no certificate", "wanted PEM"),
    ],
)
def test_init_with_a_file_that_cannot_be_used_makes_nothing(
    run_edgeferry: Run, fleet_dir: Path, tmp_path: Path, option: str, content: bytes, sentence: str
) -> None:
    file = tmp_path / "given"
    file.write_bytes(content)

    done = run_edgeferry("init", option, str(file))

    assert done.exit_code == 78
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not fleet_dir.exists()


def test_a_password_is_not_kept_when_the_certificate_beside_it_is_none(
    run_edgeferry: Run, fleet_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(b"")

    done = run_edgeferry("init", "--password-file", "-", "--ca-file", str(tmp_path / "ca.pem"), stdin="s3cret\n")

    assert done.exit_code == 78
    assert not fleet_dir.exists()


def test_a_folder_that_cannot_be_written_is_told(run_edgeferry: Run, fleet_dir: Path) -> None:
    fleet_dir.write_text("a file")

    done = run_edgeferry("init")

    assert done.exit_code != 0
    assert str(fleet_dir) in done.stderr


def test_a_token_holds_what_a_device_needs_and_is_the_only_thing_on_standard_output(run_edgeferry: Run) -> None:
    run_edgeferry("init", "--broker", f"mqtt://127.0.0.1:{free_port()}")

    done = run_edgeferry("token", "pi-1", "-p", "generic-x86-64", "--group", "kitchens")

    token = parse_token(done.stdout)
    assert (token.id, token.profile, token.groups) == ("pi-1", "generic-x86-64", ("kitchens",))
    assert "not said to the broker yet" in done.stderr
    assert token.password not in done.stderr


def test_a_second_token_has_to_be_asked_for(run_edgeferry: Run) -> None:
    run_edgeferry("init", "--broker", f"mqtt://127.0.0.1:{free_port()}")
    first = run_edgeferry("token", "pi-1", "-p", "generic-x86-64")

    again = run_edgeferry("token", "pi-1", "-p", "generic-x86-64")
    renewed = run_edgeferry("token", "pi-1", "-p", "generic-x86-64", "--renew", "--json")

    assert again.exit_code == 2
    assert "--renew" in again.stderr
    assert parse_token(renewed.json["token"]).password != parse_token(first.stdout).password


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pi-1", "-p", "rasberry-pi-4"), 'did you mean "raspberry-pi-4"'),
        (("pi 1", "-p", "generic-x86-64"), "'pi 1'"),
    ],
)
def test_a_wrong_name_in_a_token_is_told(run_edgeferry: Run, arguments: tuple[str, ...], sentence: str) -> None:
    run_edgeferry("init")

    done = run_edgeferry("token", *arguments)

    assert done.exit_code == 2
    assert sentence in done.stderr


def test_no_broker_is_told(run_edgeferry: Run) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    run_edgeferry("init", "--broker", url)

    done = run_edgeferry("devices")

    assert done.exit_code == 1
    assert url in done.stderr
    assert "edgeferry broker run" in done.stderr


def test_profiles_are_listed_and_told_one_by_one(run_edgeferry: Run) -> None:
    assert "raspberry-pi-4" in run_edgeferry("profiles").stdout
    assert run_edgeferry("profiles", "raspberry-pi-4", "--json").json["name"] == "raspberry-pi-4"
    assert any(one["name"] == "generic-x86-64" for one in run_edgeferry("profiles", "--json").json)


@pytest.mark.broker
def test_a_wrong_password_is_told(fleet: Fleet, fleet_dir: Path) -> None:
    (fleet_dir / "secrets" / "passwords.json").write_text('{"operator": "wrong"}')

    done = fleet.run("devices")

    assert done.exit_code == 1
    assert "did not let 'operator' in" in done.stderr


@pytest.mark.broker
def test_devices_and_monitor_show_who_is_there(fleet: Fleet) -> None:
    fleet.add("pi-1", "kitchens")
    fleet.add("pi-2")
    fleet.switch_on("pi-1").say_telemetry()

    listed = fleet.run("devices", "--json").json
    seen = fleet.run("monitor", "--once", "--json").json

    assert [(one["id"], one["liveness"]) for one in listed] == [("pi-1", "online"), ("pi-2", "unknown")]
    assert seen["devices"]["pi-1"]["info"]["profile"] == "generic-x86-64"
    assert "pi-1" in fleet.run("devices").stdout
    assert "online" in fleet.run("monitor", "--once").stdout


def test_a_live_monitor_needs_a_terminal(run_edgeferry: Run) -> None:
    run_edgeferry("init")

    live, as_json = run_edgeferry("monitor"), run_edgeferry("monitor", "--json")

    assert (live.exit_code, as_json.exit_code) == (2, 2)
    assert "add --once" in live.stderr
    assert "add --once" in as_json.stderr


@pytest.fixture
def own_broker(fleet_dir: Path) -> str:
    """Return the URL of a fleet whose broker is `broker run`."""
    url = f"mqtt://127.0.0.1:{free_port()}"
    assert run_command("init", fleet_dir=fleet_dir, broker_url=url).exit_code == 0
    return url


def test_broker_run_lets_in_a_device_that_is_added_and_tells_it_the_metadata(own_broker: str, fleet_dir: Path) -> None:
    with started("-v", "broker", "run", fleet_dir=fleet_dir) as broker:
        assert line_of(broker) == f"broker listening on {own_broker}\n"

        run_command("token", "pi-1", "-p", "generic-x86-64", fleet_dir=fleet_dir)
        assert broker.stderr is not None
        while "started anew" not in broker.stderr.readline():
            assert broker.poll() is None
        with FakeDevice(known_to(own_broker, fleet_dir), fleet_dir, "pi-1"):
            status = run_command("devices", "--json", fleet_dir=fleet_dir)

        assert [(one["id"], one["liveness"]) for one in status.json] == [("pi-1", "online")]
        broker.send_signal(signal.SIGTERM)
        stdout, stderr = broker.communicate(timeout=20)

    assert (broker.returncode, stdout) == (0, ""), "it is announced once, however often it starts"
    assert stderr.endswith("broker ended\n")


def known_to(url: str, fleet_dir: Path) -> TestBroker:
    """Return the broker of ``url`` as fake devices want it."""
    passwords = json.loads((fleet_dir / "secrets" / "passwords.json").read_text())
    return EmbeddedTestBroker(fleet_dir, port=int(url.rpartition(":")[2]), passwords=passwords)


@pytest.mark.parametrize(
    ("broker", "options"),
    [
        ("mqtt://127.0.0.1", ("--host", "nonsense")),
        ("mqtt://127.0.0.1", ("--host", "::")),
        ("mqtt://[::1]:1", ()),
        ("mqtts://broker.example.org", ()),
    ],
)
def test_broker_run_on_what_is_no_address_of_its_kind_is_told(
    run_edgeferry: Run, broker: str, options: tuple[str, ...]
) -> None:
    run_edgeferry("init", "--broker", broker)

    done = run_edgeferry("broker", "run", *options)

    assert done.exit_code == 2
    assert "wanted an IPv4 address of this machine: name one with --host" in done.stderr


def test_broker_run_on_a_port_in_use_is_told(run_edgeferry: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        run_edgeferry("init", "--broker", f"mqtt://127.0.0.1:{other.getsockname()[1]}")

        done = run_edgeferry("broker", "run")

    assert done.exit_code == 1
    assert "Address already in use" in done.stderr


@pytest.mark.broker
def test_an_origin_serves_what_was_published_while_nobody_served(fleet: Fleet) -> None:
    fleet.add("pi-1")
    assert fleet.run("push", fleet.artifact(1)).exit_code == 3
    with started("origin", "--id", "o1", fleet_dir=fleet.folder, broker_url=fleet.broker.url) as origin:
        assert line_of(origin).startswith("origin o1 serves generation")
        fleet.switch_on("pi-1")

        again = fleet.run("push", fleet.artifact(2), "--to", "pi-1")

        assert again.exit_code == 0, again.stderr
        assert end(origin, signal.SIGTERM)[0] == 0


@pytest.mark.broker
def test_a_push_that_is_interrupted_says_that_it_goes_on(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.switch_on("pi-1", outcomes={1: None})
    with started("push", fleet.artifact(1), fleet_dir=fleet.folder, broker_url=fleet.broker.url) as push:
        assert push.stderr is not None
        while "fetching" not in push.stderr.readline():
            assert push.poll() is None

        exit_code, stderr = end(push, signal.SIGINT)

    assert exit_code == 130
    assert "signed and published" in stderr
    assert "Traceback" not in stderr


@pytest.mark.broker
def test_a_push_that_was_killed_is_finished_by_the_same_push_again(fleet: Fleet) -> None:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    artifact = fleet.artifact(1, size_bytes=3_000_000)
    with started("push", artifact, fleet_dir=fleet.folder, broker_url=fleet.broker.url) as push:
        assert push.stderr is not None
        while "fetching" not in push.stderr.readline():
            assert push.poll() is None
        os.kill(push.pid, signal.SIGKILL)
        push.wait(10)

    again = fleet.run("push", artifact)

    assert again.exit_code == 0, again.stderr
    assert device.state.models["digits"].labels == {"stable": 1}


def test_sizes_and_durations_read_as_a_person_says_them() -> None:
    assert [human_bytes(size) for size in (0, 999, 1500, 2_000_000, 3 * 10**9)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "3.0 GB",
    ]
    assert [human_duration(seconds) for seconds in (5, 65, 3700, 90000)] == ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]
