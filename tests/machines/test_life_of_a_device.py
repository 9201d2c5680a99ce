"""The life of one device, from a fresh Debian to the last file removed, with real systemd, ssh and mosquitto over TLS.

The tests are in the order of a device's life and share one machine; each leaves it online.
"""

import json
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from tests.machines.container import Container, debian_root, have_tools, wait_for
from tests.machines.workstation import Workstation, first_line_with
from tests.models import artifact_folder
from tests.real_data import cache_folder

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.machines,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("machines"),
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made by root"),
]

DEVICE = "raspberrypi"
UNIT = "edgeferry-agent.service"
PROFILE = "generic-x86-64"
SAMPLES = np.random.default_rng(7).random((20, 64), dtype=np.float32)
STEPS, FLOAT_TOLERANCE = 4, 1e-5
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Life:
    """A device, its workstation, and what was on its disk before anything was installed."""

    machine: Container
    workstation: Workstation
    target: str
    build: Path
    untouched: frozenset[str]

    def push(self, name: str, version: int, *, quantized: bool = True) -> Path:
        """Push a model and return its file."""
        folder = artifact_folder(self.build, name=name, version=version, profile=PROFILE, quantized=quantized)
        self.workstation.must("push", str(folder.parent))
        return folder / "model.tflite"

    def enroll(self) -> str:
        return self.workstation.must("enroll", self.target).stderr

    def serves(self, model: str) -> bool:
        """Return whether the device itself answers for a model, over REST."""
        url = f"http://127.0.0.1:8501/v2/models/{model}/ready"
        ask = f"python3 -c 'import urllib.request; urllib.request.urlopen(\"{url}\", timeout=5)'"
        return self.machine.run(ask).exit_code == 0

    def files(self) -> frozenset[str]:
        """Return what is on the disk, but for what a running system writes itself."""
        skipped = (
            "-path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/log -o -path /var/tmp"
        )
        said = self.machine.must(f"find / \\( {skipped} \\) -prune -o \\( -type f -o -type l -o -type d \\) -print")
        return frozenset(line for line in said.splitlines() if not line.startswith("/var/lib/systemd"))


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Yield a fresh Debian 12 with sshd, a user `pi`, and nothing else; and a fleet without devices."""
    have_tools()
    place = tmp_path_factory.mktemp("machines")
    machine = Container(debian_root(cache_folder()), place, 1)
    workstation = None
    try:
        machine.boot()
        workstation = Workstation(place / "workstation", machine.host_address, place / "cache")
        target = workstation.let_in_at(machine)
        made = Life(machine, workstation, target, place / "build", frozenset())
        yield Life(machine, workstation, target, place / "build", made.files())
    finally:
        if workstation:
            workstation.close()
        machine.remove()


def on_host(file: Path) -> np.ndarray:
    model = Model.load(file)
    (x,), (scores,) = model.inputs, model.outputs
    is_float = x.datatype.startswith("FP")
    rows = [model.run({x.name: row[None] if is_float else quantize(row[None], x)})[scores.name] for row in SAMPLES]
    return np.concatenate(rows) if is_float else dequantize(np.concatenate(rows), scores)


@pytest.mark.parametrize("step", ["copying", "starting the agent"])
def test_enrolling_can_be_interrupted_at_any_step(life: Life, step: str) -> None:
    interrupted = life.workstation.start("enroll", life.target)
    first_line_with(interrupted, step)
    os.killpg(interrupted.pid, signal.SIGKILL)
    interrupted.wait(30)

    assert interrupted.returncode == -signal.SIGKILL


def test_and_run_again_it_ends_with_the_device_online(life: Life) -> None:
    life.enroll()

    assert life.workstation.is_online(DEVICE)
    assert life.machine.shown(UNIT, "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    assert life.machine.must("sudo -u pi ls /home/pi/.cache/edgeferry 2>/dev/null || true") == ""


def test_a_model_is_pushed_and_answers_as_on_the_host(life: Life, tmp_path: Path) -> None:
    integers, floats = life.push("digits", 1), life.push("floats", 1, quantized=False)
    np.save(tmp_path / "x.npy", SAMPLES)

    for name, file in (("digits", integers), ("floats", floats)):
        x, y = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
        life.workstation.must("infer", DEVICE, name, "--input", x, "--output", y)
        expected = on_host(file)
        allowed = FLOAT_TOLERANCE if name == "floats" else STEPS * Model.load(file).outputs[0].scale
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=allowed, rtol=0)


def test_rest_on_the_device_answers_the_same(life: Life, tmp_path: Path) -> None:
    file = life.build / "floats" / "1" / PROFILE / "model.tflite"
    body = {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": SAMPLES[0].tolist()}]}
    asked = life.machine.root / "opt" / "ask.py"
    url = "http://127.0.0.1:8501/v2/models/floats/infer"
    asked.write_text(
        f"import urllib.request\nrequest = urllib.request.Request({url!r}, {json.dumps(body).encode()!r})\n"
        "print(urllib.request.urlopen(request, timeout=10).read().decode())\n"
    )

    answer = json.loads(life.machine.must("python3 /opt/ask.py; rm /opt/ask.py"))

    np.testing.assert_allclose(answer["outputs"][0]["data"], on_host(file)[0], atol=FLOAT_TOLERANCE, rtol=0)


def test_telemetry_and_models_are_shown_by_monitor(life: Life) -> None:
    def shown() -> set[str]:
        heard = json.loads(life.workstation.must("monitor", "--once", "--json").stdout)["devices"][DEVICE]
        assert heard["telemetry"]["agent_rss_bytes"] > 1 << 20
        return set(heard["telemetry"].get("models", {}))  # left out until the serving process has told figures

    wait_for(lambda: shown() == {"digits", "floats"}, "telemetry of both models")


@pytest.mark.parametrize("unit", sorted(path.name for path in (ROOT / "systemd").glob("*.service")))
def test_every_unit_is_clean_and_hardened(life: Life, unit: str) -> None:
    """On the machine itself, because an older or newer systemd knows other settings."""
    place = f"/run/systemd/system/{unit}"
    life.machine.must(
        "mkdir -p /opt/edgeferry/bin /run/systemd/system && test -e /opt/edgeferry/current/bin/edgeferry-agent"
    )
    text = (
        (ROOT / "systemd" / unit)
        .read_text()
        .replace("/opt/edgeferry/bin/edgeferry ", "/opt/edgeferry/current/bin/edgeferry ")
    )
    (life.machine.root / "opt" / unit).write_text(text)
    life.machine.must(f"mv /opt/{unit} {place}; rmdir /opt/edgeferry/bin")

    verified = life.machine.run(f"systemd-analyze verify --man=no {place}")
    secured = life.machine.run(f"systemd-analyze security --offline=true --threshold=20 --no-pager {place}")
    life.machine.must(f"rm {place}; systemctl daemon-reload")

    assert (verified.exit_code, verified.stdout + verified.stderr) == (0, "")
    assert secured.exit_code == 0, secured.stdout


def test_a_killed_agent_comes_back_and_serves(life: Life) -> None:
    boot = life.workstation.boot_of(DEVICE)

    life.machine.must(f"systemctl kill --signal=KILL --kill-whom=main {UNIT}")

    life.workstation.wait_until_started_anew(DEVICE, boot)
    wait_for(lambda: life.serves("digits"), "the model to be served")
    assert int(life.machine.shown(UNIT, "NRestarts")["NRestarts"]) == 1


def test_an_agent_that_hangs_is_ended_by_the_watchdog_and_comes_back(life: Life) -> None:
    life.machine.must(
        f"mkdir -p /run/systemd/system/{UNIT}.d && printf '[Service]\\nWatchdogSec=15\\nTimeoutAbortSec=2\\n' "
        f"> /run/systemd/system/{UNIT}.d/soon.conf && systemctl daemon-reload && systemctl restart {UNIT}"
    )
    wait_for(lambda: life.workstation.is_online(DEVICE), "the device to be online")
    boot = life.workstation.boot_of(DEVICE)

    life.machine.must(f"systemctl kill --signal=STOP --kill-whom=main {UNIT}")

    life.workstation.wait_until_started_anew(DEVICE, boot, patience_s=90)
    assert "Watchdog timeout" in life.machine.journal("--unit", UNIT)
    life.machine.must(f"rm -r /run/systemd/system/{UNIT}.d && systemctl daemon-reload")


def test_a_machine_that_lost_power_boots_and_serves_what_it_served(life: Life) -> None:
    boot = life.workstation.boot_of(DEVICE)

    life.machine.kill()
    life.machine.boot()

    life.workstation.wait_until_started_anew(DEVICE, boot)
    wait_for(lambda: life.serves("digits"), "the model to be served")


def test_a_cut_network_is_survived_and_the_model_serves_meanwhile(life: Life) -> None:
    life.machine.cut_network()
    wait_for(lambda: life.workstation.heard(DEVICE)["liveness"] == "offline", "the broker to notice", patience_s=120)
    assert life.serves("digits")

    life.machine.mend_network()

    wait_for(lambda: life.workstation.is_online(DEVICE), "the device to be back", patience_s=120)


def test_a_configuration_that_is_wrong_stops_the_service_and_is_explained(life: Life) -> None:
    config = life.machine.root / "etc" / "edgeferry" / "agent.yaml"
    right = config.read_text()
    config.write_text(right.replace("profile:", "profil:"))

    life.machine.run(f"systemctl restart {UNIT}")
    shown = life.machine.shown(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    doctor = life.machine.run("edgeferry-agent doctor")

    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "78", "0")
    assert 'profil is not a known key; did you mean "profile"?' in doctor.stdout + doctor.stderr
    config.write_text(right)
    life.machine.must(f"systemctl restart {UNIT}")
    wait_for(lambda: life.workstation.is_online(DEVICE), "the device to be back")


def test_an_upgrade_that_does_not_come_up_is_rolled_back(life: Life, tmp_path: Path) -> None:
    bundle = life.machine.root / "opt" / "bundle"
    made = life.workstation.must("bundle", "--for", PROFILE, "--python", "3.11", "-o", str(tmp_path / "bundle"))
    assert made.exit_code == 0
    shown = "readlink /opt/edgeferry/current; ls /opt/edgeferry/versions"
    before = life.machine.must(shown)
    _break(tmp_path / "bundle")
    shutil.copytree(tmp_path / "bundle", bundle)

    done = life.machine.run("edgeferry-agent upgrade /opt/bundle")

    shutil.rmtree(bundle)
    assert done.exit_code == 1
    assert "the new agent did not come up" in done.stderr
    assert "runs again" in done.stderr
    assert life.machine.must(shown) == before
    wait_for(lambda: life.workstation.is_online(DEVICE) and life.serves("digits"), "the old agent to serve")


def _break(bundle: Path) -> None:
    """Have the bundle's agent end a moment after its start."""
    (wheel,) = (bundle / "wheels").glob("edgeferry-*.whl")
    broken = wheel.with_suffix(".new")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "edgeferry/agent/assembly.py":
                data = data.replace(
                    b"def run_agent(", b"def run_agent(*_):\n    raise SystemExit('worn out')\n\n\ndef _old("
                )
            new.writestr(name, data)
    broken.rename(wheel)
    sums = subprocess.run(
        "find . -type f ! -name SHA256SUMS | xargs sha256sum", shell=True, cwd=bundle, capture_output=True, check=True
    )
    (bundle / "SHA256SUMS").write_bytes(sums.stdout)


def test_a_full_disk_and_a_read_only_one_are_waited_out(life: Life) -> None:
    state = "/var/lib/edgeferry"
    life.machine.must(
        f"systemctl stop {UNIT}; mv {state} {state}.old; mkdir {state}; mount -t tmpfs -o size=80m tmpfs {state}; "
        f"cp -a {state}.old/. {state}; chown edgeferry: {state}; chmod 700 {state}; systemctl start {UNIT}"
    )
    wait_for(lambda: life.workstation.is_online(DEVICE) and life.serves("digits"), "the device on its small disk")

    life.machine.run(f"dd if=/dev/zero of={state}/filler bs=64k 2>/dev/null; systemctl restart {UNIT}")
    wait_for(lambda: life.serves("digits"), "an agent that starts on a full disk to serve")

    life.machine.must(f"rm {state}/filler; fallocate -l 40M {state}/filler")
    second = artifact_folder(life.build, name="digits", version=2, profile=PROFILE).parent
    full = life.workstation.run("push", str(second), "--timeout", "60")
    assert full.exit_code == 1, full.stderr
    assert "DISK_FULL" in full.stderr
    assert life.serves("digits")

    life.machine.must(f"systemctl stop {UNIT}; rm {state}/filler; mount -o remount,ro {state}")
    life.machine.must(f"systemctl start --no-block {UNIT}")
    wait_for(lambda: "Read-only file system" in life.machine.journal("--unit", UNIT), "the agent to say what is wrong")
    life.machine.must(f"mount -o remount,rw {state}")
    wait_for(lambda: life.workstation.is_online(DEVICE), "the device to come back by itself")
    life.workstation.must("push", str(second), "--retry", "--timeout", "120")
    wait_for(lambda: life.workstation.is_online(DEVICE) and life.serves("digits"), "the device to be well again")

    life.machine.must(
        f"systemctl stop {UNIT}; rm -r {state}.old; cp -a {state} {state}.new; umount {state}; rmdir {state}; "
        f"mv {state}.new {state}; systemctl start {UNIT}"
    )
    wait_for(lambda: life.workstation.is_online(DEVICE), "the device to be back on its card")


def test_uninstalled_and_installed_again_it_goes_on_where_it_was(life: Life) -> None:
    life.machine.must("edgeferry-agent uninstall")
    wait_for(lambda: not life.workstation.is_online(DEVICE), "the device to be gone")
    assert life.machine.run(f"systemctl cat {UNIT}").exit_code != 0

    life.enroll()

    wait_for(lambda: life.serves("digits"), "the model that was there before")


def test_purged_nothing_of_it_is_left(life: Life) -> None:
    life.machine.must("edgeferry-agent uninstall --purge")

    left = {path for path in life.files() - life.untouched if "__pycache__" not in path and not path.endswith(".pyc")}
    assert {path for path in left if not path.startswith(("/home/pi/.ssh", "/etc/.pwd.lock", "/root"))} <= {
        "/home/pi/.cache"
    }
    assert life.machine.run("getent passwd edgeferry || getent group edgeferry").exit_code != 0
    assert life.machine.run("ps -u edgeferry").exit_code != 0
