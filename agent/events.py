"""What can happen to the lifecycle of models: its input."""

from dataclasses import dataclass

from edgeferry.agent.state import Installed
from edgeferry.wire.desired import ModelWish
from edgeferry.wire.messages import EventKind, Problem, Swap

__all__ = [
    "Activated",
    "Booted",
    "Failed",
    "Faulted",
    "Fetched",
    "Happened",
    "LifecycleEvent",
    "NotServed",
    "Noted",
    "Restored",
    "ServingStarted",
    "Target",
    "Tick",
    "TrialPassed",
    "Verified",
    "Wished",
]


@dataclass(frozen=True, slots=True)
class Target:
    """A wish and what fulfils it on this device."""

    wish: ModelWish
    installed: Installed


@dataclass(frozen=True, slots=True)
class Booted:
    """The agent has started."""


@dataclass(frozen=True, slots=True)
class Wished:
    """Verified metadata says what to run. Slots that it does not name are no longer wished.

    Attributes:
        targets: What can be fulfilled, by slot.
        refusals: What cannot: the wanted version and why, by slot.
    """

    targets: dict[str, Target]
    refusals: dict[str, tuple[int, Problem]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """All blobs of the deployment are here."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Verified:
    """All blobs of the deployment have the hashes that were signed."""

    deployment: str


@dataclass(frozen=True, slots=True)
class TrialPassed:
    """The candidate has passed its self-test in the trial process."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Activated:
    """The serving process answers with the new version.

    Attributes:
        swap: How it took over from the version before; None where there was none.
        gap_ms: For how long neither answered.
    """

    deployment: str
    swap: Swap | None = None
    gap_ms: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """The serving process answers with the version before, or with none.

    Attributes:
        is_lost: True when there was a version before and it could not be loaded again.
    """

    deployment: str
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """What the deployment waits for did not succeed."""

    deployment: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class Faulted:
    """A model is suspected of having harmed the serving process, or fails its users.

    Attributes:
        version: Of that model; 0 when it is not known, and then the stable one is meant.
        proven: True when it cannot have been anything else (a segmentation fault in its invocation, say); a watched
            model is then rolled back at once. Otherwise it takes ``MAX_CRASHES`` of them.
        slot: Where the version serves that fails its users; empty where only model and version are known.
    """

    model: str
    problem: Problem
    proven: bool
    version: int = 0
    slot: str = ""


@dataclass(frozen=True, slots=True)
class NotServed:
    """What is active could not be loaded again after a start: its blobs are damaged, or were refused."""

    slot: str
    deployment: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class ServingStarted:
    """The serving process is up and empty."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to tell that changes no model."""

    kind: EventKind
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """The spool holds every event up to ``seq``."""

    seq: int


LifecycleEvent = (
    Booted
    | Wished
    | Fetched
    | Verified
    | TrialPassed
    | Activated
    | Restored
    | Failed
    | Faulted
    | NotServed
    | ServingStarted
    | Tick
    | Happened
    | Noted
)
