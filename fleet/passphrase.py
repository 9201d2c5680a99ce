"""The passphrase that opens the locked keys of a fleet: where it comes from, and that it is asked for once.

Decides the order: a file that was named on the command line, the program that `passphrase_command` in fleet.yaml names
(a password manager or keyring), the person at the terminal. It never stands on a command line or in the environment,
where other processes could read it, and is in no message.
"""

import stat
import subprocess
import sys
from pathlib import Path

import click

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.files import explained

__all__ = ["MIN_CHARACTERS", "Passphrase"]

MIN_CHARACTERS = 8  # NIST SP 800-63B, 5.1.1.1
_MAX_BYTES = 4096
_COMMAND_TIMEOUT_S = 120.0  # a keyring may ask its owner
_ADVICE = "give --passphrase-file FILE, set passphrase_command in fleet.yaml, or run the command at a terminal"


class Passphrase:
    """What opens locked keys, asked for when the first of them is needed.

    Args:
        file: Holds one line; ``-`` is standard input.
        command: A program and its arguments; the first line of its output is the passphrase.
    """

    def __init__(self, file: Path | None = None, command: tuple[str, ...] = ()) -> None:
        self._file = file
        self._command = command
        self._known: bytes | None = None

    @property
    def is_given(self) -> bool:
        """Return whether it can be had without asking a person."""
        return self._known is not None or self._file is not None or bool(self._command)

    def get(self, what: str) -> bytes:
        """Return the passphrase that opens ``what``.

        Raises:
            ConfigurationError: There is none, or nobody to ask.
        """
        if self._known is None:
            self._known = self._read() if self.is_given else self._ask(f"Passphrase for {what}", what)
        return self._known

    def choose(self, what: str) -> bytes:
        """Return a new passphrase for ``what``; at a terminal it is typed twice, and an empty one means none.

        Raises:
            ConfigurationError: It is too short, or cannot be read.
        """
        if self.is_given:
            return self.checked(self.get(what))
        if not sys.stdin.isatty():
            return b""
        text = click.prompt(
            f"Passphrase for {what} (empty: none)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=True,
            err=True,
        )
        self._known = self.checked(text.encode()) if text else None
        return self._known or b""

    @staticmethod
    def checked(passphrase: bytes) -> bytes:
        """Return ``passphrase`` when it is long enough to be one.

        Raises:
            ConfigurationError: It is not.
        """
        if len(passphrase.decode()) < MIN_CHARACTERS:
            raise ConfigurationError(
                f"the passphrase is too short; take at least {MIN_CHARACTERS} characters, better five words"
            )
        return passphrase

    def _read(self) -> bytes:
        if self._file is None:
            return _line(self._run(), f"the output of {self._command[0]}")
        if str(self._file) == "-":
            return _line(sys.stdin.buffer.read(_MAX_BYTES + 1), "standard input")
        with explained(self._file):
            found = self._file.stat()
            data = self._file.open("rb").read(_MAX_BYTES + 1)
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            raise ConfigurationError(
                f"{self._file}: other users may read this passphrase (mode {found.st_mode & 0o777:04o});"
                f" run: chmod 600 {self._file}"
            )
        return _line(data, str(self._file))

    def _run(self) -> bytes:
        try:
            done = subprocess.run(self._command, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as err:
            raise ConfigurationError(f"passphrase_command {self._command[0]!r} gave nothing: {err}") from err
        if done.returncode:
            raise ConfigurationError(
                f"passphrase_command {self._command[0]!r} ended with {done.returncode}; run it by hand to see why"
            )
        return done.stdout

    def _ask(self, question: str, what: str) -> bytes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{what} is locked with a passphrase; {_ADVICE}")
        return str(click.prompt(question, hide_input=True, err=True)).encode()


def _line(data: bytes, where: str) -> bytes:
    """Return the one line that ``data`` is, without its end."""
    passphrase = data.rstrip(b"\r\n")
    try:
        is_good = passphrase.decode().isprintable() and 0 < len(passphrase) <= _MAX_BYTES
    except UnicodeDecodeError:
        is_good = False
    if not is_good:
        raise ConfigurationError(f"{where}: wanted one line with the passphrase")
    return passphrase
