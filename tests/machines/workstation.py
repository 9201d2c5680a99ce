"""A workstation for tests: a fleet, its mosquitto with TLS on this host, and `edgeferry` with an ssh of its own."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.mosquitto.folder import MosquittoFolder, Setup
from edgeferry.fleet.settings import load_settings, save_settings
from tests.brokers import free_port
from tests.machines.container import Container, Done, must, wait_for

__all__ = ["Workstation"]

# What a person's ~/.ssh would hold; that of whoever runs the tests is left alone.
_SSH = """#!/bin/sh
exec /usr/bin/ssh -F none -i {folder}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={folder}/known_hosts \
-o StrictHostKeyChecking=accept-new "$@"
"""


class Workstation:
    """A fleet whose broker listens on ``address``."""

    def __init__(self, folder: Path, address: str, cache: Path) -> None:
        self.folder = folder
        self.fleet_dir = folder / "fleet"
        self._address = address
        self._ended = threading.Event()
        commands = folder / "commands"
        commands.mkdir(parents=True)
        (commands / "ssh").write_text(_SSH.format(folder=folder))
        (commands / "ssh").chmod(0o755)
        must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
        self.environment = {
            **os.environ,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "EDGEFERRY_FLEET": str(self.fleet_dir),
            "XDG_CACHE_HOME": str(cache),
        }
        self.must("init")
        self.must("broker", "setup", "--host", address)
        self._broker = self._started_broker()

    def _started_broker(self) -> "subprocess.Popen[bytes]":
        """Run what was set up, from the fleet folder and on free ports instead of /etc."""
        mosquitto = MosquittoFolder(self.fleet_dir)
        setup = mosquitto.setup()
        assert setup is not None
        kept = self.folder / "kept"
        kept.mkdir()
        settings = replace(
            setup.settings,
            place=str(mosquitto.path),
            bind=self._address,
            device_port=free_port(),
            people_port=free_port(),
            state_dir=str(kept),
            account="root",
        )
        mosquitto.make(Setup(settings, is_installed=True), Inventory.load(self.fleet_dir).devices)
        brokers = (f"mqtts://{self._address}:{settings.device_port}",)
        people = f"mqtts://{self._address}:{settings.people_port}"
        save_settings(self.fleet_dir, replace(load_settings(self.fleet_dir), broker=people, device_brokers=brokers))
        with (self.folder / "mosquitto.log").open("wb") as log:
            process = subprocess.Popen(
                ["mosquitto", "-c", str(mosquitto.path / "mosquitto.conf")], stdout=log, stderr=log
            )
        threading.Thread(target=self._reload_for_new_devices, args=(process, mosquitto.path), daemon=True).start()
        return process

    def _reload_for_new_devices(self, process: "subprocess.Popen[bytes]", mosquitto: Path) -> None:
        """Do what edgeferry-mosquitto.path does where systemd runs the broker."""
        users = mosquitto / "users" / "devices"
        seen = users.stat().st_mtime_ns
        while not self._ended.wait(0.1):
            now = users.stat().st_mtime_ns
            if now != seen:
                process.send_signal(1)
            seen = now

    def close(self) -> None:
        self._ended.set()
        self._broker.terminate()
        self._broker.wait(10)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `edgeferry`; its standard error can be read line by line."""
        return subprocess.Popen(
            [sys.executable, "-m", "edgeferry.fleet", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, timeout_s: float = 300) -> Done:
        process = self.start(*arguments)
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return Done(process.returncode, stdout, stderr)

    def must(self, *arguments: str, timeout_s: float = 300) -> Done:
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.exit_code == 0, f"edgeferry {' '.join(arguments)}: {done.exit_code}\n{done.stdout}{done.stderr}"
        return done

    def heard(self, device: str) -> dict[str, Any]:
        """Return what a device has said; empty when nothing."""
        shown = json.loads(self.must("devices", "--json").stdout)
        return next((one for one in shown if one["id"] == device), {})

    def is_online(self, device: str) -> bool:
        return bool(self.heard(device).get("liveness") == "online")

    def wait_until_started_anew(self, device: str, boot: str, *, patience_s: float = 60.0) -> None:
        """Return when ``device`` is online with another start of its agent than ``boot``."""

        def is_new() -> bool:
            heard = self.heard(device)
            return heard.get("liveness") == "online" and heard["info"]["boot"] != boot

        wait_for(is_new, f"{device} to be online again", patience_s=patience_s)

    def boot_of(self, device: str) -> str:
        return str(self.heard(device)["info"]["boot"])

    def let_in_at(self, container: Container) -> str:
        """Give the machine a user ``pi`` with sudo whom this workstation's key lets in; return the ssh target."""
        key = (self.folder / "key.pub").read_text()
        home = container.root / "home" / "pi"
        container.must("useradd --create-home --shell /bin/bash pi && usermod --password '*' pi")
        (container.root / "etc" / "sudoers.d" / "pi").write_text("pi ALL=(ALL) NOPASSWD: ALL\n")
        (home / ".ssh").mkdir()
        (home / ".ssh" / "authorized_keys").write_text(key)
        container.must("chown -R pi:pi /home/pi/.ssh && chmod 700 /home/pi/.ssh && chmod 440 /etc/sudoers.d/pi")
        return f"pi@{container.address}"


def first_line_with(process: "subprocess.Popen[str]", text: str, *, patience_s: float = 300.0) -> None:
    """Read a command's standard error until a line has ``text``."""
    assert process.stderr is not None
    deadline_s = time.monotonic() + patience_s
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return
        assert time.monotonic() < deadline_s
    raise AssertionError(f"{text!r} was never said:\n{said}")
