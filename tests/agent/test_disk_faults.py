"""Whatever the disk does and whenever the agent is killed: the next start converges, and nothing by halves is believed.

Each story is told once to count its operations on the disk, then once more for each of them, struck there.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edgeferry.agent.errors import AgentError
from edgeferry.agent.fsops import Usage, explained
from edgeferry.agent.store import Store
from edgeferry.agent.supervisor import ServingDown, ServingUp
from edgeferry.wire.blocks import BlockRequest, parse_block_request
from edgeferry.wire.difference import Operation, Piece, difference_of
from edgeferry.wire.messages import Outcome, Reason

from .disk_faults import Fault, FaultyDisk, Kill, Manner
from .simulated import BLOCK_BYTES, DEVICE, MODEL, TOPICS, Fleet, SimulatedAgent
from .stories import STORIES, Story, check_is_well, first_start, state_in, update, update_by_difference


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
