"""Errors of the agent.

AgentError                 a sentence for the person who reads it, and the exit code it ends with
├── ConfigError      78    agent.yaml or the token is wrong; restarting does not help
├── StoreError        1    the disk does not do what it is asked
│   ├── DiskFullError      there is no room; carries how much was wanted and found
│   └── BlobMismatchError  bytes are not what their name says
└── AlreadyRunningError 1  another agent holds the state directory
"""

__all__ = [
    "EXIT_CONFIG",
    "EXIT_FAILED",
    "AgentError",
    "AlreadyRunningError",
    "BlobMismatchError",
    "ConfigError",
    "DiskFullError",
    "StoreError",
]

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the unit does not restart on it


class AgentError(Exception):
    """Root of what the agent raises on purpose; its text says what, where, found, wanted and what to do."""

    exit_code = EXIT_FAILED


class ConfigError(AgentError):
    """The configuration cannot be used as it is."""

    exit_code = EXIT_CONFIG


class StoreError(AgentError):
    """The disk refused a read or a write."""


class DiskFullError(StoreError):
    """There is no room on the data partition for what was asked."""


class BlobMismatchError(StoreError):
    """Stored bytes do not have the SHA-256 that names them."""


class AlreadyRunningError(AgentError):
    """Another agent holds the lock of the state directory."""
