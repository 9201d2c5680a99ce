"""Reads the token that a device joins with, never from the command line."""

import sys
from pathlib import Path

from edgeferry.agent.errors import ConfigError

__all__ = ["read_token"]

MAX_TOKEN_BYTES = 64 * 1024


def read_token(token_file: str) -> str:
    """Return what stands in a file, or on standard input for ``-``.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        if token_file == "-":  # noqa: S105 - a file name
            return sys.stdin.read(MAX_TOKEN_BYTES)
        with Path(token_file).open(encoding="utf-8") as file:
            return file.read(MAX_TOKEN_BYTES)
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read the token from {token_file}: {err}") from err
