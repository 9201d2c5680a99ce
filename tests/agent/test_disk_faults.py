"""Whatever the disk does and whenever the agent is killed: the next start converges, and nothing by halves is believed.

Each story is told once to count its operations on the disk, then once more for each of them, struck there.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgeferry.agent.errors import AgentError
from edgeferry.agent.fsops import Usage, explained
from edgeferry.agent.lifecycle import kept_blobs
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.wire.blocks import BlockRequest, parse_block_request
from edgeferry.wire.difference import Operation, Piece, difference_of
from edgeferry.wire.messages import Event, Outcome, Reason

from .disk_faults import Fault, FaultyDisk, Kill, Killed, Manner
from .simulated import BLOCK_BYTES, DEVICE, MODEL, TOPICS, Fleet, SimulatedAgent, SimulatedHands, problem


@dataclass
class Story:
    """Something that a device lives through.

    Attributes:
        home: The device's directory before it.
        serving: What has to serve at the end.
        before: What serves when it comes to nothing.
        outcomes: How all deployments have ended by then: model, version and outcome.
    """

    home: Path
    fleet: Fleet
    serving: dict[str, int]
    before: dict[str, int]
    outcomes: list[tuple[str, int, Outcome]]
    make_hands: Callable[[], SimulatedHands] = SimulatedHands

    def live(self, home: Path, disk: FaultyDisk) -> SimulatedAgent | None:
        """Live one life in ``home``; return None when the agent was killed."""
        hands = self.make_hands()
        try:
            agent = SimulatedAgent(home, self.fleet, hands=hands, disk=disk)
            agent.run()
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


STORIES = [first_start, update, update_by_difference, refused_update, swap_of_models]


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


@pytest.mark.parametrize("manner", list(Manner))
@pytest.mark.parametrize("tell", STORIES)
def test_killed_in_any_operation_the_next_start_converges(
    memory_path: Path, tell: Callable[[Path], Story], manner: Manner
) -> None:
    story = tell(memory_path)

    for at, home in story.copies(memory_path):
        assert story.live(home, FaultyDisk(Kill(at, manner))) is None, f"nobody was killed in operation {at}"
        agent = story.live(home, FaultyDisk())

        assert agent is not None
        check_is_well(home, story, agent)


@pytest.mark.parametrize("manner", list(Manner))
def test_killed_in_any_operation_of_an_update_one_of_both_versions_is_active(memory_path: Path, manner: Manner) -> None:
    story = update(memory_path)

    for at, home in story.copies(memory_path):
        story.live(home, FaultyDisk(Kill(at, manner)))

        active = state_in(home).models[MODEL].active
        assert active is not None
        assert active.version in {1, 2}
        for blob in active.blobs():
            Store(home, FaultyDisk()).check_blob(blob)


def asked_by(agent: SimulatedAgent) -> list[BlockRequest]:
    topic = TOPICS.blob_request(DEVICE)
    return [parse_block_request(said.payload) for said in agent.post.said if said.topic == topic]


def test_a_difference_that_was_on_its_way_when_the_agent_was_killed_is_gone_on_with(memory_path: Path) -> None:
    fleet = Fleet()
    before, after = fleet.artifact(1, blocks=300), fleet.artifact(2, blocks=300, like=1)
    fleet.publish(before)
    outcomes = [(MODEL, version, Outcome.ACTIVE) for version in (1, 2)]
    story = Story(memory_path / "new", fleet, {MODEL: 2}, {MODEL: 1}, outcomes)
    story.live(story.home, FaultyDisk())
    old, new = fleet.model_of(before), fleet.model_of(after)
    half = len(new) // 2  # the other half does not pack, so that the difference has more than one block
    pieces = [Piece(Operation.ADD, half), Piece(Operation.INSERT, len(new) - half)]
    difference = fleet.offer(before, after, difference_of(old, new, pieces))
    fleet.publish(after)
    counting = FaultyDisk()
    story.live(story._copy(memory_path / "counted"), counting)
    begun = counting.operations.index(f"allocate {difference.sha256}")

    assert story.live(story.home, FaultyDisk(Kill(begun + 3))) is None  # it has been opened, and has one block
    agent = story.live(story.home, FaultyDisk())

    assert agent is not None
    check_is_well(story.home, story, agent)
    assert {request.sha256 for request in asked_by(agent) if request.block_bytes != BLOCK_BYTES} == {difference.sha256}
    assert sum(len(request.indices()) for request in asked_by(agent) if request.block_bytes == BLOCK_BYTES) == 1


def test_an_update_by_difference_moves_the_difference_and_what_it_does_not_give(memory_path: Path) -> None:
    story = update_by_difference(memory_path)
    sent = story.fleet.blocks_sent

    agent = story.live(story.home, FaultyDisk())

    assert agent is not None
    check_is_well(story.home, story, agent)
    asked = asked_by(agent)
    assert story.fleet.blocks_sent - sent == sum(len(request.indices()) for request in asked)
    assert [request.indices() for request in asked if request.block_bytes == BLOCK_BYTES] == [
        [4],  # of the model
        [0],  # the self-test
    ]


def test_killed_twice_it_converges_as_well(memory_path: Path) -> None:
    story = update(memory_path)

    for at, home in story.copies(memory_path):
        story.live(home, FaultyDisk(Kill(at)))
        story.live(home, FaultyDisk(Kill(at // 2, Manner.TORN)))
        agent = story.live(home, FaultyDisk())

        assert agent is not None
        check_is_well(home, story, agent)


@pytest.mark.parametrize("tell", [first_start, update])
def test_one_fault_in_any_operation_ends_in_a_report_or_is_healed_by_a_restart(
    memory_path: Path, tell: Callable[[Path], Story]
) -> None:
    story = tell(memory_path)
    reported: set[Reason] = set()

    for at, home in story.copies(memory_path):
        with suppress(AgentError):
            story.live(home, FaultyDisk(Fault(at, errno.EIO, once=True)))
        agent = story.live(home, FaultyDisk())

        assert agent is not None
        last = agent.state.models[MODEL].last
        if last and last.problem:
            reported.add(last.problem.reason)
            assert agent.hands.serving == story.before
        else:
            check_is_well(home, story, agent)

    assert reported == {Reason.DISK_FAULT}


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("tell", [first_start, update])
def test_a_disk_that_takes_nothing_any_more_ends_the_agent_and_the_next_start_converges(
    memory_path: Path, tell: Callable[[Path], Story], number: int
) -> None:
    story = tell(memory_path)

    for at, home in story.copies(memory_path):
        with pytest.raises(AgentError, match=os.strerror(number)):
            story.live(home, FaultyDisk(Fault(at, number)))
        agent = story.live(home, FaultyDisk())

        assert agent is not None
        check_is_well(home, story, agent)


def test_a_full_partition_fails_the_deployment_and_the_old_version_serves(memory_path: Path) -> None:
    story = update(memory_path)
    disk = FaultyDisk()
    disk.usage_told = Usage(total_bytes=32 << 30, free_bytes=1 << 30)

    agent = story.live(story.home, disk)

    assert agent is not None
    assert agent.hands.serving == {MODEL: 1}
    assert agent.follower.standing.metadata is not None
    assert agent.follower.standing.metadata.reason is Reason.DISK_FULL


class FillingDisk(FaultyDisk):
    """A disk on which there is no room for a while."""

    is_full = False

    def write(self, path: Path, data: bytes) -> None:
        self._check_room(path)
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._check_room(path)
        super().append(path, data)

    def _check_room(self, path: Path) -> None:
        if self.is_full:
            with explained(path, "write"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_waited_out_while_the_old_version_serves(memory_path: Path) -> None:
    fleet, disk = Fleet(), FillingDisk()
    agent = SimulatedAgent(memory_path / "device", fleet, disk=disk)
    fleet.publish(fleet.artifact(1))
    served_meanwhile: list[dict[str, int]] = []

    def fill() -> None:
        fleet.publish(fleet.artifact(2))
        disk.is_full = True
        agent.inbox.put(ServingDown(Reason.SERVING_CRASHED, 1, None, "", 0, False, "ended"))

    def wait() -> None:
        served_meanwhile.append(dict(agent.hands.serving))

    def make_room() -> None:
        disk.is_full = False
        agent.inbox.put(ServingUp(2))
        agent.ring()

    agent.run(fill, wait, make_room)

    assert served_meanwhile == [{MODEL: 1}]
    assert agent.hands.serving == {MODEL: 2}


def test_an_agent_that_starts_on_a_full_disk_serves_what_was_active(memory_path: Path) -> None:
    fleet = Fleet()
    fleet.publish(fleet.artifact(1))
    SimulatedAgent(memory_path / "device", fleet, disk=FaultyDisk()).run()
    disk = FillingDisk()
    agent = SimulatedAgent(memory_path / "device", fleet, disk=disk)
    disk.is_full = True

    agent.run()

    assert agent.hands.serving == {MODEL: 1}
