"""A device over the system's ssh: its configuration, keys, agent and known hosts are the person's own."""

import contextlib
import shlex
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Self, cast

from edgeferry.fleet.errors import FleetError, UsageError

__all__ = ["Ssh", "SshError"]

_CONNECT_TIMEOUT_S = 15
_FAILED = 255  # ssh's own; any other exit status is the remote command's


class SshError(FleetError):
    """The device cannot be reached, or a command there failed."""


class Ssh:
    """One device, reached over one connection that all commands share.

    Args:
        target: ``USER@HOST``, or a name from the person's ssh configuration.
        port: Where sshd listens; None for what ssh thinks.
        identity: Private key file; None for what ssh thinks.
    """

    def __init__(self, target: str, *, port: int | None = None, identity: Path | None = None) -> None:
        if target.startswith("-") or not target or any(c.isspace() for c in target):
            raise UsageError(f"{target!r} is no USER@HOST")
        self.target = target
        self._place = tempfile.TemporaryDirectory(prefix="edgeferry-ssh-")
        options = {
            "ConnectTimeout": _CONNECT_TIMEOUT_S,
            "ServerAliveInterval": 15,
            "ServerAliveCountMax": 4,
            "ControlMaster": "auto",
            "ControlPath": f"{self._place.name}/%C",
            "ControlPersist": 60,
        }
        self._command = ["ssh", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        self._command += ["-p", str(port)] if port else []
        self._command += ["-i", str(identity)] if identity else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the shared connection."""
        subprocess.run([*self._command, "-O", "exit", self.target], capture_output=True, timeout=10, check=False)
        self._place.cleanup()

    def script(self, text: str, *, timeout_s: float = 60) -> str:
        """Run a shell script there and return what it printed.

        Raises:
            SshError: The device cannot be reached, or the script failed.
        """
        done = self._run(["sh", "-s"], text.encode(), timeout_s)
        return done.decode(errors="replace")

    def write(self, path: str, data: bytes, *, timeout_s: float = 60) -> None:
        """Write a file there that its user alone can read.

        Raises:
            SshError: It was not written.
        """
        quoted = shlex.quote(path)
        self._run([f"umask 077; cat > {quoted}.new && mv {quoted}.new {quoted}"], data, timeout_s)

    def copy(self, folder: Path, names: Iterable[str], place: str, sent: Callable[[int], None]) -> None:
        """Copy files of a folder into the folder ``place`` there, as one stream.

        Args:
            folder: Where they are.
            names: Relative to it.
            place: Absolute path there; made when it is missing.
            sent: Takes the number of bytes that have been sent, again and again.

        Raises:
            SshError: The connection was lost, or the disk there refused. What arrived whole stays.
        """
        quoted = shlex.quote(place)
        command = [*self._command, self.target, f"mkdir -p {quoted} && tar -x -f - -C {quoted}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as to:
            errors: list[bytes] = []
            reader = threading.Thread(target=lambda: errors.append(cast(IO[bytes], to.stderr).read()), daemon=True)
            reader.start()
            try:
                pipe = cast(IO[bytes], _Counting(cast(IO[bytes], to.stdin), sent))  # a stream is only written to
                with tarfile.open(fileobj=pipe, mode="w|") as stream:
                    for name in names:
                        stream.add(folder / name, name, recursive=False)
            except BrokenPipeError:
                pass  # ssh has ended, and says below why
            finally:
                _close(to)
            status = to.wait(60)
            reader.join(10)
        if status:
            raise self._failure(b"".join(errors), status)

    def interactively(self, command: str) -> int:
        """Run a command there that may ask the person for a password, and return its exit status.

        Raises:
            SshError: The connection was lost.
        """
        terminal = ["-t"] if sys.stdin.isatty() else []
        status = subprocess.run([*self._command, *terminal, self.target, command], check=False).returncode
        if status == _FAILED:
            raise SshError(
                f"the connection to {self.target} was lost; run the same command again, it goes on from there"
            )
        return status

    def _run(self, command: Sequence[str], data: bytes, timeout_s: float) -> bytes:
        try:
            done = subprocess.run(
                [*self._command, self.target, *command], input=data, capture_output=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError as err:
            raise SshError("ssh is not here; install it: sudo apt-get install openssh-client") from err
        except subprocess.TimeoutExpired as err:
            raise SshError(f"{self.target} did not answer within {timeout_s:.0f} s") from err
        if done.returncode:
            raise self._failure(done.stderr, done.returncode)
        return done.stdout

    def _failure(self, said: bytes, status: int) -> SshError:
        words = " ".join(line for line in said.decode(errors="replace").splitlines()[-4:] if line.strip())
        if status == _FAILED:
            return SshError(f"{self.target} cannot be reached over ssh: {words}; try `ssh {self.target}` yourself")
        return SshError(f"a command on {self.target} ended with {status}: {words or 'nothing was said'}")


class _Counting:
    """A pipe that tells how much went through."""

    def __init__(self, pipe: IO[bytes], sent: Callable[[int], None]) -> None:
        self._pipe = pipe
        self._sent = sent
        self._bytes = 0

    def write(self, data: bytes) -> int:
        written = self._pipe.write(data)
        self._bytes += len(data)
        self._sent(self._bytes)
        return written


def _close(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        cast(IO[bytes], process.stdin).close()
