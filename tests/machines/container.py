"""A Debian machine for tests: its own systemd, process tree, network and disk, in a container of systemd-nspawn.

The root is a real Debian, installed by mmdebstrap from the mirror that this host uses, once, and unpacked anew for each
machine. The network is a pair of interfaces in a namespace of its own: this side is where the broker listens, and it
can be cut. Needs root and Debian; installs what it uses.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Container", "Done", "debian_root", "wait_for"]

PACKAGES = "systemd,systemd-sysv,dbus,udev,openssh-server,sudo,python3,ca-certificates,iproute2,libstdc++6"
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "mosquitto": "mosquitto",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HIERARCHIES = ("", "unified", "systemd", "memory", "cpu", "pids")  # of cgroup v2 alone, or of v1 beside it


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


def wait_for(is_so: Callable[[], object], what: str, *, patience_s: float = 60.0) -> None:
    """Return as soon as ``is_so`` answers true; fail after ``patience_s``."""
    deadline_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.1)


def must(*command: str, timeout_s: float = 600) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


def have_tools() -> None:
    """Install what is missing on this host."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [package for program, package in TOOLS.items() if shutil.which(program) is None]
    if missing:
        must("apt-get", "update", "-qq")
        must("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def debian_root(cache: Path, *, suite: str = "bookworm", arch: str = "amd64") -> Path:
    """Return a tar archive of a fresh Debian; made where it is missing, in half a minute for this host's own kind."""
    archive = cache / f"debian-{suite}-{arch}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = archive.with_suffix(".part.tar")
        options = ["--quiet", "--variant=minbase", f"--architectures={arch}", f"--include={PACKAGES}"]
        must("mmdebstrap", *options, suite, str(made), _mirror(), timeout_s=3600)
        made.rename(archive)
    return archive


def _mirror() -> str:
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        found = (
            re.search(r"^(?:URIs:|deb)\s+(?:\[[^]]*\]\s+)?(\S+)", path.read_text(), re.MULTILINE)
            if path.exists()
            else None
        )
        if found:
            return found[1]
    return "http://deb.debian.org/debian"


class Container:
    """One machine.

    Args:
        archive: Of its root.
        folder: Where the root is unpacked.
        number: 1 to 250, of machines that are there at the same time; makes its names and addresses.
    """

    def __init__(self, archive: Path, folder: Path, number: int) -> None:
        self.name = f"efm{os.getpid()}x{number}"
        self.root = folder / "root"
        network = 10 + (os.getpid() * 7 + number) % 240
        self.host_address, self.address = f"10.211.{network}.1", f"10.211.{network}.2"
        self._link = f"efm{network}"
        self._log = folder / "console"
        self._process: subprocess.Popen[bytes] | None = None
        self.root.mkdir(parents=True)
        must("tar", "-x", "-f", str(archive), "-C", str(self.root), "--exclude=./dev/*")
        # Where /etc/machine-id is empty, the first boot makes one, as on a card that was just flashed.
        (self.root / "etc" / "machine-id").write_text("")
        (self.root / "etc" / "hostname").write_text("raspberrypi\n")
        (self.root / "etc" / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 raspberrypi\n")
        must("ip", "netns", "add", self.name)
        must("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        must("ip", "addr", "add", f"{self.host_address}/24", "dev", self._link)
        must("ip", "link", "set", self._link, "up")
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            must("ip", "-n", self.name, *command.split())

    @property
    def leader(self) -> int:
        """Return the id of the process that is the machine's process 1; 0 while there is none."""
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int((path.read_text().split() or ["0"])[0]) if path.exists() else 0

    def boot(self) -> None:
        """Start it and return when systemd has brought it up."""
        options = ["--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off"]
        command = [
            "systemd-nspawn",
            *options,
            f"--machine={self.name}",
            f"--network-namespace-path=/run/netns/{self.name}",
        ]
        command += ["--directory", str(self.root), "--boot", "systemd.show_status=0"]
        enter = "".join(f"echo $$ > {cgroup}/cgroup.procs; " for cgroup in self._cgroups(make=True))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{enter}exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._is_up, f"{self.name} to boot", patience_s=90)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the container ended: {self._log.read_text(errors='replace')[-2000:]}"
        if not self.leader:
            return False
        state = self._enter("systemctl", "is-system-running").stdout.strip()
        return state in ("running", "degraded")

    def run(self, command: str, *, timeout_s: float = 300) -> Done:
        """Run a shell command as root in a transient unit of the machine."""
        unit = [
            "systemd-run",
            "--quiet",
            "--wait",
            "--pipe",
            "--collect",
            f"--setenv=PATH={_PATH}",
            "--setenv=HOME=/root",
        ]
        return self._enter(*unit, "/bin/sh", "-c", command, timeout_s=timeout_s)

    def must(self, command: str, *, timeout_s: float = 300) -> str:
        """Run a command that has to end well, and return what it printed."""
        done = self.run(command, timeout_s=timeout_s)
        assert done.exit_code == 0, f"{command}: {done.exit_code}\n{done.stdout}{done.stderr}\n{self.journal()[-3000:]}"
        return done.stdout.strip()

    def journal(self, *options: str) -> str:
        return self._enter("journalctl", "--no-pager", "--output=cat", *options).stdout

    def shown(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit by name."""
        said = self._enter("systemctl", "show", f"--property={','.join(names)}", unit).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def kill(self) -> None:
        """End every process at once, as if the plug was pulled; what the disk has stays."""
        assert self._process is not None
        if self.leader:
            os.kill(self.leader, signal.SIGKILL)
        self._process.wait(30)

    def power_off(self) -> None:
        """Shut it down as a person would."""
        assert self._process is not None
        self._enter("systemctl", "poweroff")
        self._process.wait(60)

    def cut_network(self) -> None:
        must("ip", "link", "set", self._link, "down")

    def mend_network(self) -> None:
        must("ip", "link", "set", self._link, "up")

    def remove(self) -> None:
        """End it and leave nothing of it on this host."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        for cgroup in self._cgroups(make=False):
            for path in sorted(cgroup.rglob("*/"), reverse=True):
                path.rmdir()
            cgroup.rmdir()
        shutil.rmtree(self.root, ignore_errors=True)

    def _enter(self, *command: str, timeout_s: float = 60) -> Done:
        entered = ["nsenter", "-t", str(self.leader), "-a", "env", "-i", f"PATH={_PATH}", *command]
        done = subprocess.run(
            entered, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def _cgroups(self, *, make: bool) -> list[Path]:
        """Return the machine's control groups, one of each hierarchy of this host."""
        found = []
        for hierarchy in _HIERARCHIES:
            place = Path("/sys/fs/cgroup") / hierarchy
            if (place / "cgroup.procs").exists():
                cgroup = place / self.name
                if make:
                    cgroup.mkdir(exist_ok=True)
                if cgroup.is_dir():
                    found.append(cgroup)
        return found
