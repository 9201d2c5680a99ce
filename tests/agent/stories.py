"""What a device lives through in tests of crashes, and what has to be true of it afterwards."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeferry.agent.lifecycle import kept_blobs
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.wire.difference import Operation, Piece, difference_of
from edgeferry.wire.messages import Event, Outcome, Reason

from .disk_faults import FaultyDisk, Killed
from .simulated import MODEL, Fleet, Said, SimulatedAgent, SimulatedHands, problem

__all__ = [
    "STORIES",
    "Story",
    "check_is_well",
    "events_in",
    "first_start",
    "large_update",
    "refused_update",
    "rollback",
    "state_in",
    "swap_of_models",
    "update",
    "update_by_difference",
]


LONG_S = 86_400  # a watch that is not over while hundreds of lives go on from the middle of it


@dataclass
class Story:
    """Something that a device lives through.

    Attributes:
        home: The device's directory before it.
        serving: What has to serve at the end.
        before: What serves when it comes to nothing.
        outcomes: How all deployments have ended by then: model, version and outcome.
        happens: What happens to the agent in each life when nothing else is left to do.
    """

    home: Path
    fleet: Fleet
    serving: dict[str, int]
    before: dict[str, int]
    outcomes: list[tuple[str, int, Outcome]]
    make_hands: Callable[[], SimulatedHands] = SimulatedHands
    happens: Callable[[SimulatedAgent], None] = lambda _agent: None

    def live(
        self, home: Path, disk: FaultyDisk, hear: Callable[[Said], None] = lambda _said: None
    ) -> SimulatedAgent | None:
        """Live one life in ``home`` and let ``hear`` hear it; return None when the agent was killed."""
        hands = self.make_hands()
        try:
            agent = SimulatedAgent(home, self.fleet, hands=hands, disk=disk, hear=hear, watch_s=LONG_S)
            agent.run(lambda: self.happens(agent))
        except Killed:
            return None
        finally:
            disk.end_of_life()
        return agent

    def copies(self, folder: Path) -> Iterator[tuple[int, Path]]:
        """Yield the number of each operation, and a fresh directory in which to strike in it."""
        counting = FaultyDisk()
        assert self.live(self._copy(folder / "counted"), counting) is not None
        assert len(counting.operations) > 5
        for at in range(len(counting.operations)):
            yield at, self._copy(folder / f"struck-{at}")

    def _copy(self, place: Path) -> Path:
        if self.home.exists():
            shutil.copytree(self.home, place, symlinks=True)
        return place


def first_start(folder: Path) -> Story:
    fleet = Fleet()
    fleet.publish(fleet.artifact(1))
    return Story(folder / "new", fleet, {MODEL: 1}, {}, [(MODEL, 1, Outcome.ACTIVE)])


def update(folder: Path) -> Story:
    story = first_start(folder)
    story.live(story.home, FaultyDisk())
    story.fleet.publish(story.fleet.artifact(2))
    outcomes = [*story.outcomes, (MODEL, 2, Outcome.ACTIVE)]
    return replace(story, serving={MODEL: 2}, before={MODEL: 1}, outcomes=outcomes)


def update_by_difference(folder: Path) -> Story:
    """The new model is made from the old one, as far as the difference goes: its last block has to be fetched."""
    fleet = Fleet()
    before, after = fleet.artifact(1), fleet.artifact(2, like=1)
    fleet.publish(before)
    story = Story(
        folder / "new", fleet, {MODEL: 2}, {MODEL: 1}, [(MODEL, 1, Outcome.ACTIVE), (MODEL, 2, Outcome.ACTIVE)]
    )
    story.live(story.home, FaultyDisk())
    old, new = fleet.model_of(before), fleet.model_of(after)
    fleet.offer(before, after, difference_of(old, new[:-1] + b"?", [Piece(Operation.ADD, len(new))]))
    fleet.publish(after)
    return story


def refused_update(folder: Path) -> Story:
    story = update(folder)
    outcomes = [*story.outcomes[:-1], (MODEL, 2, Outcome.FAILED)]
    return replace(story, serving={MODEL: 1}, outcomes=outcomes, make_hands=lambda: SimulatedHands(trial=problem()))


def swap_of_models(folder: Path) -> Story:
    """One model goes, with its previous version, and another comes."""
    story = update(folder)
    story.live(story.home, FaultyDisk())
    story.fleet.publish(story.fleet.artifact(1, "dogs"))
    return replace(story, serving={"dogs": 1}, before={}, outcomes=[*story.outcomes, ("dogs", 1, Outcome.ACTIVE)])


def rollback(folder: Path) -> Story:
    """A version is proven to crash the serving process soon after it became active."""
    story = update(folder)

    def crash(agent: SimulatedAgent) -> None:
        agent.inbox.put(ServingDown(Reason.SERVING_CRASHED, None, 11, MODEL, 2, True, "ended by SIGSEGV"))
        agent.inbox.put(ServingUp(2))

    outcomes = [*story.outcomes, (MODEL, 2, Outcome.ROLLED_BACK)]
    return replace(story, serving={MODEL: 1}, outcomes=outcomes, happens=crash)


def large_update(folder: Path) -> Story:
    """The new version is larger than what may be fetched again."""
    story = update(folder)
    story.fleet.publish(story.fleet.artifact(2, blocks=24, block_bytes=64 * 1024))
    return story


STORIES = [first_start, update, update_by_difference, refused_update, rollback, swap_of_models]


def state_in(home: Path) -> AgentState:
    return Store(home, FaultyDisk()).load_state()


def events_in(home: Path) -> list[Event]:
    spool = Spool(home / "spool", FaultyDisk())
    spool.open()
    return list(spool.after(0))


def check_is_well(home: Path, story: Story, agent: SimulatedAgent) -> None:
    state = agent.state
    numbers = [event.seq for event in events_in(home)]
    assert agent.hands.serving == story.serving
    assert [(e.model, e.version, e.outcome) for e in events_in(home) if e.outcome] == story.outcomes
    assert numbers == sorted(set(numbers))
    assert state.next_seq == numbers[-1] + 1
    assert {path.name for path in (home / "blobs").iterdir()} == kept_blobs(state) | agent.follower.documents
    assert list((home / "partial").iterdir()) == []
    for name, version in story.serving.items():
        active = state.models[name].active
        assert active is not None
        assert active.version == version
        assert (home / "models" / name / "active").resolve().name == active.model.sha256
    assert {path.name for path in (home / "models").iterdir()} == set(story.serving)
