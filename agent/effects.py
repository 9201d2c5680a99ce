"""What the lifecycle of models wants done: its output. The runner does it.

A slot is where a version serves: a label of a model, see `state.slot_of`.
"""

from dataclasses import dataclass

from edgeferry.agent.state import Installed

__all__ = [
    "Activate",
    "Cancel",
    "Collect",
    "Effect",
    "Fetch",
    "Load",
    "Restore",
    "Try",
    "Unload",
    "Verify",
]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get the blobs of a deployment; answered by Fetched or Failed."""

    deployment: str
    target: Installed


@dataclass(frozen=True, slots=True)
class Verify:
    """Read the blobs of a deployment again and check them; answered by Verified or Failed."""

    deployment: str
    target: Installed


@dataclass(frozen=True, slots=True)
class Try:
    """Run the self-test in a process of its own; answered by TrialPassed or Failed."""

    deployment: str
    slot: str
    target: Installed


@dataclass(frozen=True, slots=True)
class Activate:
    """Have the serving process load the version and answer with it; answered by Activated or Failed."""

    deployment: str
    slot: str
    target: Installed


@dataclass(frozen=True, slots=True)
class Restore:
    """Have the serving process answer with the version before; answered by Restored, or tried for ever."""

    deployment: str
    slot: str
    target: Installed | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop whatever the deployment is doing; its answer will be ignored."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Load:
    """Have the serving process load what is active; nobody waits for the answer."""

    slot: str
    target: Installed


@dataclass(frozen=True, slots=True)
class Unload:
    """Have the serving process empty a slot; nobody waits for the answer."""

    slot: str


@dataclass(frozen=True, slots=True)
class Collect:
    """Remove the blobs that nothing refers to any more."""


Effect = Fetch | Verify | Try | Activate | Restore | Cancel | Load | Unload | Collect
