"""What the demo shows, step by step: each runs the command that a person would type and checks what came of it."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from edgeferry.fleet.demo.digits import HELD_OUT, DigitFiles, write_digits, write_spoilt_version
from edgeferry.fleet.demo.processes import CommandRun, Household, free_port
from edgeferry.fleet.errors import FleetError

__all__ = ["Device", "Story", "Summary"]

MODEL = "digits"
EPOCHS = 8
MAX_DROP = 0.03  # the 95 % interval of a drop is two points wide when four of 400 digits differ
PATIENCE_S = 30.0
POLL_S = 0.2


@dataclass(slots=True)
class Device:
    """A device of the demo and what was seen of it.

    Attributes:
        accuracy: On the device, over MQTT, by version.
        p50_ms: Round trip of one digit, by version.
    """

    id: str
    profile: str
    http: str
    scheme: str = ""
    size_bytes: int = 0
    accuracy: dict[int, float] = field(default_factory=dict)
    p50_ms: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Summary:
    """What the demo has shown.

    Attributes:
        compared: Answers that were the same as LiteRT's on this machine; the demo fails when one is not.
    """

    devices: list[Device]
    float_accuracy: dict[int, float] = field(default_factory=dict)
    push_s: dict[int, float] = field(default_factory=dict)
    refusal: str = ""
    compared: int = 0
    telemetry: dict[str, dict[str, Any]] = field(default_factory=dict)
    elapsed_s: float = 0.0


class Story:
    """The demo.

    Args:
        household: Runs the commands.
        folder: For everything that the demo writes.
        console: Where it is shown.
        broker: URL of a broker that is there; None to run the embedded one.
        arch: Of this machine, for the profile of the second device.
    """

    def __init__(self, household: Household, folder: Path, console: Console, *, broker: str | None, arch: str) -> None:
        self._household = household
        self._folder = folder
        self._console = console
        self._embedded = broker is None
        self.broker = broker or f"mqtt://127.0.0.1:{free_port()}"
        own_profile = "generic-aarch64" if arch in {"aarch64", "arm64"} else "generic-x86-64"
        self._tag = "" if broker is None else f"-{secrets.token_hex(2)}"  # other devices may be there
        self.devices = [
            Device(f"kitchen{self._tag}", "raspberry-pi-4", f"127.0.0.1:{free_port()}"),
            Device(f"workshop{self._tag}", own_profile, f"127.0.0.1:{free_port()}"),
        ]
        self.summary = Summary(self.devices)
        self._step = 0

    def tell(self) -> Summary:
        """Go the whole way and return what was seen.

        Raises:
            FleetError: Something did not happen that has to.
        """
        began_s = time.monotonic()
        digits = self._make_fleet()
        self._train(digits)
        self._convert(digits, 1, 2)
        self._start_devices()
        self._push(1)
        self._classify(digits, 1)
        self._show_telemetry()
        self._push(2)
        self._classify(digits, 2)
        self._push_what_cannot_prove_itself(3, after=2)
        self._classify(digits, 2, again=True)
        self._roll_back(to=1)
        self._classify(digits, 1, again=True)
        self.summary.elapsed_s = time.monotonic() - began_s
        return self.summary

    # The steps

    def _make_fleet(self) -> DigitFiles:
        with self._shown("edgeferry init", "keys, signed metadata, inventory") as done:
            self._must(self._household.edgeferry("init"))
            if self._embedded:
                self._household.start("broker", "edgeferry.fleet", "broker", "run")
                self._wait("the broker answers", lambda: self._household.edgeferry("devices").exit_code == 0)
            else:
                self._must(self._household.edgeferry("devices"))  # before minutes of work: is it there?
            done(f"broker {self.broker}")
        return write_digits(self._folder)

    def _train(self, digits: DigitFiles) -> None:
        with self._shown("(Keras)", "train a small CNN on 1,397 handwritten digits, two versions") as done:
            models = [str(self._folder / f"v{version}.keras") for version in (1, 2)]
            module = "edgeferry.converter.training.image_classifier"
            self._must(self._household.python(module, str(digits.train), *models, "--epochs", str(EPOCHS)))
            done(f"{HELD_OUT} digits are held out")

    def _convert(self, digits: DigitFiles, *versions: int) -> None:
        profiles = [argument for device in self.devices for argument in ("-p", device.profile)]
        for version in versions:
            with self._shown(
                f"edgeferry convert v{version}.keras {' '.join(profiles)} --name {MODEL} --max-drop {MAX_DROP}",
                "quantize and judge",
            ) as done:
                samples = ["--calibration", str(digits.train), "--evaluation", str(digits.test)]
                result = self._must(
                    self._household.edgeferry(
                        "convert", str(self._folder / f"v{version}.keras"), *profiles, "--name", MODEL,
                        "--max-drop", str(MAX_DROP), "--model-version", str(version), *samples, "--no-cache",
                        "-o", str(self._folder / "build"),
                    )
                )  # fmt: skip
                done(self._note_conversion(version, result))

    def _start_devices(self) -> None:
        with self._shown("edgeferry token | edgeferry-agent init, run", "two devices, each a process") as done:
            for device in self.devices:
                self._start_device(device)
            self._wait("both devices are online", self._all_online)
            done(" and ".join(f"{device.id} ({device.profile})" for device in self.devices))

    def _push(self, version: int) -> None:
        with self._shown(f"edgeferry push build/{MODEL}/{version} --to all", "pull, prove, try, serve") as done:
            began_s = time.monotonic()
            self._must(self._household.edgeferry("push", str(self._artifacts(version)), "--timeout", "60"))
            self.summary.push_s[version] = time.monotonic() - began_s
            done(f"active on both after {self.summary.push_s[version]:.1f} s")

    def _classify(self, digits: DigitFiles, version: int, *, again: bool = False) -> None:
        for device in self.devices:
            with self._shown(f"edgeferry infer {device.id} {MODEL} --input digits.npy", "over MQTT") as done:
                outputs = self._folder / f"{device.id}.npy"
                arguments = ["--input", str(digits.test_inputs), "--output", str(outputs), "--concurrency", "4"]
                result = self._must(self._household.edgeferry("infer", device.id, MODEL, *arguments))
                labels = np.load(outputs).argmax(axis=-1)
                self._check_version(device, version, result["versions"])
                if not again:
                    self._check_against_host(device, version, digits, np.load(outputs))
                device.accuracy[version] = float(np.mean(labels == digits.labels))
                device.p50_ms[version] = float(result["p50_ms"])
                done(
                    f"version {version}: {device.accuracy[version]:.2%} of {len(labels)} digits right,"
                    f" p50 {device.p50_ms[version]:.1f} ms"
                )

    def _show_telemetry(self) -> None:
        with self._shown("edgeferry monitor --once", "how machine and models are") as done:
            self._wait("telemetry of both devices", self._has_telemetry)
            done("; ".join(self._told(device) for device in self.devices))

    def _push_what_cannot_prove_itself(self, version: int, *, after: int) -> None:
        folder = write_spoilt_version(self._artifacts(after), version)
        with self._shown(
            f"edgeferry push build/{MODEL}/{version} --to all", "a version that gives wrong outputs"
        ) as done:
            run = self._household.edgeferry("push", str(folder), "--timeout", "60")
            if run.exit_code != 1 or "SELFTEST_MISMATCH" not in run.complaint:
                raise FleetError(f"version {version} should have been refused, but: {run.exit_code} {run.complaint}")
            self.summary.refusal = run.complaint.removeprefix("edgeferry: ")
            done(f"refused by its self-test; version {after} serves on")

    def _roll_back(self, *, to: int) -> None:
        with self._shown(f"edgeferry rollback {MODEL} --version {to} --to all", "no model moves") as done:
            self._must(self._household.edgeferry("rollback", MODEL, "--version", str(to), "--to", "all"))
            done(f"version {to} serves on both")

    # Parts of them

    def _artifacts(self, version: int) -> Path:
        return self._folder / "build" / MODEL / str(version)

    def _note_conversion(self, version: int, result: Any) -> str:
        for device, choice in zip(self.devices, result["profiles"], strict=True):
            chosen = next(c for c in choice["candidates"] if c["scheme"] == choice["scheme"])
            device.scheme, device.size_bytes = chosen["scheme"], chosen["size_bytes"]
            self.summary.float_accuracy[version] = chosen["evaluation"]["float"]
        schemes = ", ".join(f"{device.scheme} {device.size_bytes / 1024:.1f} KiB" for device in self.devices)
        return f"{schemes}; float accuracy {self.summary.float_accuracy[version]:.2%}"

    def _start_device(self, device: Device) -> None:
        token = self._must(self._household.edgeferry("token", device.id, "-p", device.profile))
        state, config = self._folder / device.id, self._folder / f"{device.id}.yaml"
        arguments = ["--token-file", "-", "--state-dir", str(state), "-o", str(config), "--http", device.http]
        text = token["token"] if isinstance(token, dict) else token
        self._must(self._household.python("edgeferry.agent", "init", *arguments, standard_input=text))
        self._household.start(device.id, "edgeferry.agent", "run", "--config", str(config))

    def _check_version(self, device: Device, version: int, versions: list[str]) -> None:
        if versions != [str(version)]:
            raise FleetError(f"{device.id} answered with version {', '.join(versions)}, wanted {version}")

    def _check_against_host(self, device: Device, version: int, digits: DigitFiles, answers: np.ndarray) -> None:
        """Raise unless the same file, run directly in LiteRT on this machine, says the same of every digit."""
        model = self._artifacts(version) / device.profile / "model.tflite"
        expected = self._folder / "expected.npy"
        self._must(self._household.python("edgeferry.inference", str(model), str(digits.test_inputs), str(expected)))
        same = int(np.sum(np.load(expected).argmax(axis=-1) == answers.argmax(axis=-1)))
        if same != len(answers):
            raise FleetError(f"{device.id} and LiteRT on this machine agree on {same} of {len(answers)} digits only")
        self.summary.compared += same

    def _all_online(self) -> bool:
        listed = self._household.edgeferry("devices").result or []
        online = {entry["id"] for entry in listed if entry["liveness"] == "online"}
        return {device.id for device in self.devices} <= online

    def _has_telemetry(self) -> bool:
        seen = self._household.edgeferry("monitor", "--once").result["devices"]
        for device in self.devices:
            telemetry = seen.get(device.id, {}).get("telemetry")
            if telemetry and telemetry.get("models", {}).get(MODEL, {}).get("total"):
                self.summary.telemetry[device.id] = telemetry
        return len(self.summary.telemetry) == len(self.devices)

    def _told(self, device: Device) -> str:
        telemetry = self.summary.telemetry[device.id]
        figures = telemetry["models"][MODEL]
        return (
            f"{device.id}: agent {telemetry['agent_rss_bytes'] >> 20} MiB, serving"
            f" {telemetry['serving_rss_bytes'] >> 20} MiB, {figures['total']} answers, p95 {figures['p95_ms']:.2f} ms"
        )

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            self._household.check_running()
            if time.monotonic() > deadline_s:
                raise FleetError(f"waited {PATIENCE_S:.0f} s for: {what}")
            time.sleep(POLL_S)

    def _must(self, run: CommandRun) -> Any:
        if run.exit_code != 0:
            self._household.check_running()
            raise FleetError(f"a step ended with {run.exit_code}: {run.complaint}")
        return run.result

    @contextmanager
    def _shown(self, command: str, what: str) -> Iterator[Callable[[str], None]]:
        """Show a step: the command, then what came of it."""
        self._step += 1
        self._console.print(f"[bold]{self._step:2}[/bold]  $ {command}  [dim]{what}[/dim]", highlight=False)
        began_s = time.monotonic()

        def done(result: str) -> None:
            seconds = f"{time.monotonic() - began_s:.1f} s"
            self._console.print(f"     [green]{result}[/green]  [dim]{seconds}[/dim]", highlight=False)

        yield done
