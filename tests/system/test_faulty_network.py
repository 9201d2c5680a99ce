"""A device behind a faulty line, and origins that die or lie: a real agent on mosquitto gets its model all the same."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.brokers import MosquittoBroker
from tests.faulty_line import Line, doubled, lossy, shuffled
from tests.models import artifact_folder
from tests.system.harness import Agent, System, wait_until
from tests.system.hostile_origin import HostileOrigin, Lie, endless, longer, shorter, silent, trickled, wrong

pytestmark = pytest.mark.broker

FEATURES = 200_000  # times ten classes: a model of 2 MB
SELFTEST_SAMPLES = 1
MODEL_BYTES = 2_200_000  # with its self-test
MIB = 1 << 20


def version_folder(fleet: System, version: int) -> str:
    folder = artifact_folder(
        fleet.folder / "build", version=version, features=FEATURES, samples=SELFTEST_SAMPLES, seed=version
    )
    return str(folder.parent)


@pytest.fixture
def line(mosquitto: MosquittoBroker) -> Iterator[Line]:
    with Line(mosquitto.port) as made:
        yield made


@pytest.fixture
def agent(mosquitto_fleet: System, line: Line) -> Agent:
    """A device that reaches its broker over the line."""
    made = mosquitto_fleet.add_agent("pi")
    there = f":{mosquitto_fleet.broker.port}"
    assert there in made.config.read_text()
    made.config.write_text(made.config.read_text().replace(there, f":{line.port}"))
    made.start()
    mosquitto_fleet.wait_online("pi")
    return made


def received_bytes(agent: Agent) -> int:
    """Return how much of a model is here, as far as it was noted."""
    maps = (path.read_bytes()[8:] for path in (agent.state_dir / "partial").glob("*.map"))
    return max((sum(byte.bit_count() for byte in bits) for bits in maps), default=0) * 65536


def wait_for_a_piece(agent: Agent) -> None:
    wait_until(lambda: received_bytes(agent) >= MIB, "the first MiB of the model")


def test_lost_doubled_and_shuffled_messages_cost_time_only(mosquitto_fleet: System, agent: Agent, line: Line) -> None:
    fleet = mosquitto_fleet
    for version, messages in enumerate((lossy(0.1), doubled, shuffled()), start=1):
        line.set(messages=messages)
        line.cut()
        agent.wait_for_line("connected to", times=version + 1)

        fleet.must("push", version_folder(fleet, version))

        assert agent.saved_version("digits") == version


def test_an_origin_that_sends_wrong_bytes_is_left_for_an_honest_one(mosquitto_fleet: System, agent: Agent) -> None:
    is_left_for_an_honest_one(mosquitto_fleet, agent, wrong)


@pytest.mark.acceptance
@pytest.mark.parametrize("lie", [shorter, longer, endless, silent])
def test_an_origin_that_lies_in_another_way_is_left_as_well(mosquitto_fleet: System, agent: Agent, lie: Lie) -> None:
    is_left_for_an_honest_one(mosquitto_fleet, agent, lie)


def is_left_for_an_honest_one(fleet: System, agent: Agent, lie: Lie) -> None:
    with HostileOrigin(fleet, lie) as hostile:
        fleet.must("push", version_folder(fleet, 1), "--timeout", "60", timeout_s=70)

    assert agent.saved_version("digits") == 1
    assert hostile.asked
    assert psutil.Process(agent.pid).memory_info().rss < 64 * MIB


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_an_origin_that_trickles_is_reported_and_left_when_another_comes(mosquitto_fleet: System, agent: Agent) -> None:
    fleet = mosquitto_fleet
    agent.stop()
    pending = fleet.run("push", version_folder(fleet, 1))
    assert pending.exit_code == 3, pending.stderr

    with HostileOrigin(fleet, trickled):
        agent.start()
        wait_until(
            lambda: fleet.state_of("pi").get("waiting", {}).get("reason") == "SLOW_TRANSFER",
            "slow retrieval to be reported",
            patience_s=150,
            tell=lambda: agent.log[-2000:],
        )
        fleet.start("origin", "--id", "b-honest")

        fleet.wait_for_version("pi", 1)


@pytest.mark.acceptance
def test_a_line_that_is_cut_again_and_again_goes_on_where_it_was(
    mosquitto_fleet: System, agent: Agent, line: Line
) -> None:
    line.set(cut_after_bytes=1_300_000, rate_bytes_s=2e6)

    mosquitto_fleet.must("push", version_folder(mosquitto_fleet, 1), timeout_s=90)

    cuts = line.connections - 1
    assert cuts >= 1
    assert line.down_bytes < MODEL_BYTES + 200_000 + cuts * MIB  # a cut loses at most the window


@pytest.mark.acceptance
def test_a_line_that_stalls_and_goes_on_needs_no_new_connection(
    mosquitto_fleet: System, agent: Agent, line: Line
) -> None:
    line.set(rate_bytes_s=1e6)
    pushing = mosquitto_fleet.start("push", version_folder(mosquitto_fleet, 1))
    wait_for_a_piece(agent)
    before, connections = received_bytes(agent), line.connections

    line.set(stalls=True)
    stalled_s = time.monotonic()
    wait_until(lambda: time.monotonic() - stalled_s > 5, "five seconds to pass")
    assert received_bytes(agent) <= before + MIB
    line.set(stalls=False, rate_bytes_s=0)

    assert pushing.wait(60) == 0
    assert line.connections == connections


@pytest.mark.acceptance
@pytest.mark.timeout(200)
def test_a_connection_that_is_half_open_is_noticed_and_replaced(
    mosquitto_fleet: System, agent: Agent, line: Line
) -> None:
    fleet = mosquitto_fleet
    line.set(rate_bytes_s=1e6)
    fleet.start("push", version_folder(fleet, 1), "--timeout", "150")
    wait_for_a_piece(agent)
    connections = line.connections

    line.set(swallows=True, rate_bytes_s=0)

    wait_until(lambda: line.connections > connections, "a new connection", patience_s=100)
    fleet.wait_for_version("pi", 1)


@pytest.mark.acceptance
def test_a_slow_line_of_long_round_trips_is_used_to_its_width(
    mosquitto_fleet: System, agent: Agent, line: Line
) -> None:
    line.set(delay_s=0.05, rate_bytes_s=2.5e6)  # 100 ms and 20 Mbit/s
    agent.wait_for_line("connected to")

    mosquitto_fleet.must("push", version_folder(mosquitto_fleet, 1))

    assert agent.saved_version("digits") == 1
    assert line.down_bytes < 1.1 * MODEL_BYTES + 100_000  # next to nothing came twice


@pytest.mark.acceptance
@pytest.mark.parametrize("persistence", [True, False])
def test_a_broker_that_is_restarted_during_a_transfer_is_gone_on_with(
    mosquitto: MosquittoBroker, mosquitto_fleet: System, agent: Agent, line: Line, persistence: bool
) -> None:
    fleet = mosquitto_fleet
    mosquitto.persistence = persistence
    mosquitto.stop()
    mosquitto.start()
    agent.wait_for_line("connected to", times=2)
    line.set(rate_bytes_s=1e6)
    pushing = fleet.start("push", version_folder(fleet, 1), "--timeout", "90")
    wait_for_a_piece(agent)

    mosquitto.stop()
    mosquitto.start()
    line.set(rate_bytes_s=0)

    assert pushing.wait(90) == 0
    assert agent.saved_version("digits") == 1


@pytest.mark.acceptance
def test_of_two_origins_one_may_die_in_the_middle(mosquitto_fleet: System, agent: Agent, line: Line) -> None:
    fleet = mosquitto_fleet
    agent.stop()
    assert fleet.run("push", version_folder(fleet, 1)).exit_code == 3
    origins = [fleet.start("origin", "--id", name) for name in ("one", "two")]
    line.set(rate_bytes_s=1e6)

    agent.start()
    wait_for_a_piece(agent)
    os.kill(origins[0].pid, signal.SIGKILL)  # the one that is asked first: `one` comes before `two`
    line.set(rate_bytes_s=0)

    fleet.wait_for_version("pi", 1)
    assert origins[1].poll() is None
    assert Path(f"/proc/{agent.pid}").exists()
