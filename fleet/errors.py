"""Errors of the workstation, and the exit codes that commands end with.

FleetError                    1   a command failed; the text is fit to show
├── ArtifactError             1   an artifact folder is not one, or differs from what was published
├── BusyError                 1   another command holds the fleet folder
├── ConflictError             1   somebody else has signed something in the meantime
├── UsageError                2   a name that does not exist, or wishes that contradict each other
├── PendingError              3   nothing failed, but not every device has got there
└── ConfigurationError       78   no fleet here, a key is missing or open to others, a file cannot be read

The broker's, the settings' and the network's errors stand beside what raises them and are FleetErrors too.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "EXIT_CONFIGURATION",
    "EXIT_DONE",
    "EXIT_FAILED",
    "EXIT_PENDING",
    "EXIT_USAGE",
    "ArtifactError",
    "BusyError",
    "ConfigurationError",
    "ConflictError",
    "FleetError",
    "PendingError",
    "UsageError",
    "did_you_mean",
]

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PENDING = 3
EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


class FleetError(Exception):
    """Root of what the workstation raises on purpose; its text says what, where, found, wanted and what to do."""

    exit_code = EXIT_FAILED


class ArtifactError(FleetError):
    """An artifact folder is incomplete or damaged, or would change a version that was published."""


class BusyError(FleetError):
    """Another command has held the fleet folder for too long."""


class ConflictError(FleetError):
    """Somebody else has signed something in the meantime; theirs counts, and this is to be done again on top of it."""


class UsageError(FleetError):
    """The command names something that does not exist, or asks for what cannot be."""

    exit_code = EXIT_USAGE


class PendingError(FleetError):
    """Nothing failed, but some devices have not got there yet."""

    exit_code = EXIT_PENDING


class ConfigurationError(FleetError):
    """The fleet folder cannot be used as it is."""

    exit_code = EXIT_CONFIGURATION


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the name that was meant, or those that there are."""
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not names:
        return "; there are none yet"
    return f"; there are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
