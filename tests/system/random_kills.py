"""kill -9 at random moments, again and again, while models go to a device; afterwards every deployment has ended.

    python -m tests.system.random_kills 1000 --seed 7

A round pushes one of a few models of 2 MB, strikes several times, and then leaves everything alone: the device has to
settle by itself. It runs the version that is wished, or has said why not and still answers with the one before; then
`push --retry` has to bring it there. The seed decides which processes are struck, how often and after which pauses;
what they are doing at that moment is decided by the machine.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from edgeferry.agent.lifecycle import kept_blobs
from edgeferry.agent.spool import newest_events
from edgeferry.agent.state import AgentState, ModelRecord, Phase, decode_state
from edgeferry.wire.messages import Outcome, Reason
from tests.brokers import running_mosquitto
from tests.models import artifact_folder
from tests.system.harness import Agent, System, on_host, system, wait_until

__all__ = ["VICTIMS", "Spree", "spree"]

VICTIMS = ("agent", "serving", "trial", "origin", "broker")
VERSIONS = (1, 2, 3, 4)
FEATURES, CLASSES = 64, 32_000  # a model of 2 MB with few inputs
STRIKES = (3, 8)  # in a round
PAUSE_S = 0.6  # at most, before a strike
TRIAL_EVERY = 4  # rounds
ABSENT_S = 10.0  # wait this long for a victim that is not there yet, such as a trial
SETTLE_S = 90.0
PUSH_S = 180.0
SAMPLE = np.linspace(0, 1, FEATURES, dtype=np.float32)
# What a deployment may end with: a trial that somebody has killed looks like one that was killed for its memory, and a
# candidate during whose trial or activation the agent was killed again and again may be the cause.
EXPLAINED = {Reason.TRIAL_MEMORY, Reason.INTERRUPTED_TOO_OFTEN}


@dataclass
class Spree:
    """Kills until there were enough, and what came of it.

    Attributes:
        kills: Processes that were killed, by kind.
        ended: How deployments ended, by outcome and reason.
        retried: How often `push` had to be asked again, because the deployment had failed or the push itself.
        settled_s: How long each round took to settle after its last kill.
    """

    fleet: System
    agent: Agent
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    settled_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._version = 0
        self._folders: dict[int, Path] = {}
        self._answers: dict[int, np.ndarray] = {}
        self._origin: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Build the models and bring the first one to the device."""
        for version in VERSIONS:
            folder = artifact_folder(
                self.fleet.folder / "build", version=version, features=FEATURES, classes=CLASSES, samples=2
            )
            self._folders[version] = folder.parent
            self._answers[version] = on_host(folder / "model.tflite", SAMPLE[np.newaxis])[0]
        self.agent.start()
        self._start_origin()
        self.fleet.wait_online("pi")
        self._version = VERSIONS[0]
        self.fleet.must("push", str(self._folders[self._version]), timeout_s=PUSH_S)

    def run(self, kills: int) -> Iterator[str]:
        """Kill until it was ``kills`` times; yield a sentence after every round.

        Raises:
            AssertionError: Something is stuck, half done or lost; the message names the seed.
        """
        try:
            while self.kills.total() < kills:
                self._round(kills - self.kills.total())
                yield str(self)
            self._check_events()
        except AssertionError as err:
            raise AssertionError(f"{self}\n{err}\n{self.fleet.logs()}") from err

    def __str__(self) -> str:
        slowest_s = max(self.settled_s, default=0)
        kills = ", ".join(f"{count} {victim}" for victim, count in sorted(self.kills.items()))
        ended = ", ".join(f"{count} {how}" for how, count in sorted(self.ended.items()))
        return (
            f"seed {self.seed}: {self.kills.total()} kills ({kills}) in {len(self.settled_s)} rounds;"
            f" settled within {slowest_s:.1f} s; ended: {ended}; pushed again: {self.retried}"
        )

    # A round

    def _round(self, most: int) -> None:
        before = self._version
        self._version = self._random.choice([version for version in VERSIONS if version != before])
        push = self.fleet.start("push", str(self._folders[self._version]), "--retry", "--timeout", str(PUSH_S))
        for victim in self._victims()[:most]:
            pause_s = self._random.uniform(0, PAUSE_S)
            time.sleep(pause_s)
            self.kills[victim] += self._strike(victim, pause_s)
        began_s = time.monotonic()
        if self._is_published(push):
            self._wait_settled()
            self.settled_s.append(time.monotonic() - began_s)
            self._check_ended(before)
        if not self._is_active():
            self.retried += 1
            push.kill()
            done = self.fleet.run("push", str(self._folders[self._version]), "--retry", timeout_s=PUSH_S)
            assert done.exit_code in {0, 3}, done.stderr  # 3: the device had not found the new broker; it gets it yet
            self._wait(self._is_active, f"version {self._version} after its second push")
        self._check_well()
        push.wait(PUSH_S)

    def _victims(self) -> list[str]:
        """Return who is struck in this round; a trial is there only once, and what follows strikes what comes of it."""
        victims = self._random.choices(
            [victim for victim in VICTIMS if victim != "trial"], k=self._random.randint(*STRIKES)
        )
        return ["trial", *victims] if len(self.settled_s) % TRIAL_EVERY == 0 else victims

    def _is_published(self, push: subprocess.Popen[bytes]) -> bool:
        """Wait until the wish has got to the device, or the push has given up before it was published."""

        def is_clear() -> bool:
            return self._record().wanted == self._version or push.poll() == 1

        self._wait(is_clear, f"version {self._version} to be wished")
        return self._record().wanted == self._version

    def _wait_settled(self) -> None:
        def is_settled() -> bool:
            deployment = self._record().deployment
            return deployment is None or deployment.phase is Phase.WATCHING

        self._wait(is_settled, f"version {self._version} to end", lambda: str(self._record()))

    def _check_ended(self, before: int) -> None:
        record = self._record()
        assert record.active is not None
        last = record.last
        assert last is not None
        self.ended[f"{last.outcome} {last.problem.reason}" if last.problem else str(last.outcome)] += 1
        if record.active.version != self._version:
            assert last.problem is not None, record
            assert last.problem.reason in EXPLAINED, record
            assert record.active.version == before, record
            self._wait_answering(before)

    def _check_well(self) -> None:
        """The wished version runs, answers, is reported, and nothing else takes room."""
        self._wait_answering(self._version)
        self._wait(lambda: self.fleet.stable_version("pi") == self._version, f"{self._version} to be reported")
        self._wait(lambda: not self._orphans(), "collection", lambda: f"left over: {self._orphans()}")

    def _wait(self, is_so: Callable[[], object], what: str, tell: Callable[[], str] = str) -> None:
        """Wait for what has to come by itself, and start an origin that has given up again, as its unit does."""

        def is_so_by_now() -> bool:
            if self._origin and self._origin.poll() is not None:
                self._start_origin()
            return bool(is_so())

        wait_until(is_so_by_now, what, patience_s=SETTLE_S, tell=tell)

    # What is on the device

    def _is_active(self) -> bool:
        active = self._record().active
        return active is not None and active.version == self._version

    def _state(self) -> AgentState:
        return decode_state((self.agent.state_dir / "state").read_bytes())

    def _record(self) -> ModelRecord:
        return self._state().models["digits"]

    def _wait_answering(self, version: int) -> None:
        wanted = self._answers[version]
        self._wait(
            lambda: (answer := self._ask()) is not None and np.allclose(answer, wanted, atol=1e-6),
            f"the answers of version {version}",
        )

    def _ask(self) -> np.ndarray | None:
        body = json.dumps({"instances": [SAMPLE.tolist()]}).encode()
        url = f"http://127.0.0.1:{self.agent.http_port}/v1/models/digits:predict"
        with suppress(OSError), urllib.request.urlopen(urllib.request.Request(url, body), timeout=5) as answer:
            return np.array(json.load(answer)["predictions"][0], dtype=np.float32)
        return None

    def _orphans(self) -> set[str]:
        """Return what lies on the disk of the size of a model, or on its way, and is not needed."""
        large = {path.name for path in (self.agent.state_dir / "blobs").iterdir() if path.stat().st_size > 1 << 20}
        return {path.name for path in (self.agent.state_dir / "partial").iterdir()} | large - kept_blobs(self._state())

    def _check_events(self) -> None:
        """Every event has a number of its own, none is missing, and every deployment has told its end."""
        events = newest_events(self.agent.state_dir / "spool", segments=sys.maxsize)
        numbers = [event.seq for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[-1] == self._state().next_seq - 1
        assert {event.outcome for event in events if event.outcome} <= set(Outcome)

    # Strikes

    def _strike(self, victim: str, pause_s: float) -> bool:
        """Kill ``victim``; tell whether it was there."""
        return {
            "agent": self._kill_agent,
            "serving": lambda: self._kill_child(self.agent.serving_pid, pause_s),
            "trial": lambda: self._kill_child(self.agent.trial_pid, pause_s),
            "origin": self._kill_origin,
            "broker": self._kill_broker,
        }[victim]()

    def _kill_agent(self) -> bool:
        self.agent.kill()
        self.agent.start()
        return True

    def _kill_child(self, pid_of: Callable[[], int | None], pause_s: float) -> bool:
        deadline_s = time.monotonic() + ABSENT_S
        while time.monotonic() < deadline_s:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if pid := pid_of():
                    time.sleep(pause_s / 4)
                    os.kill(pid, signal.SIGKILL)
                    return True
            time.sleep(0.005)
        return False

    def _kill_origin(self) -> bool:
        assert self._origin is not None
        self._origin.kill()
        self._origin.wait()
        self._start_origin()
        return True

    def _start_origin(self) -> None:
        self._origin = self.fleet.start("origin")

    def _kill_broker(self) -> bool:
        os.kill(self.fleet.broker.pid, signal.SIGKILL)
        self.fleet.broker.stop()
        self.fleet.broker.start()
        return True


def spree(fleet: System, seed: int) -> Spree:
    """Return a spree on a new device of ``fleet`` that runs a first model."""
    made = Spree(fleet, fleet.add_agent("pi"), seed)
    made.begin()
    return made


def main() -> None:
    """Kill as often as the command line says, and tell after every round."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    began_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_mosquitto(Path(folder)) as broker,
        system(Path(folder) / "system", broker) as fleet,
    ):
        for line in spree(fleet, options.seed).run(options.kills):
            print(f"{time.monotonic() - began_s:6.0f} s  {line}", flush=True)


if __name__ == "__main__":
    main()
