"""A canary on a real agent, over a real broker: pushed, asked, compared, promoted, taken back."""

import json
import urllib.request

import pytest

from tests.models import artifact_folder
from tests.system.harness import System, wait_until

pytestmark = pytest.mark.broker

KEYS = [f"user-{number}" for number in range(40)]


def push(fleet: System, version: int, *options: str) -> None:
    folder = artifact_folder(fleet.folder / "build", version=version).parent
    fleet.must("push", str(folder), *options)


def answering(fleet: System) -> dict[str, str]:
    """Return which version answers each key, asked over REST."""
    url = f"http://127.0.0.1:{fleet.agents['pi'].http_port}/v2/models/digits/infer"
    inputs = [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]
    found = {}
    for key in KEYS:
        asked = urllib.request.Request(url, json.dumps({"inputs": inputs}).encode(), {"X-Routing-Key": key})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            found[key] = json.load(answer)["model_version"]
    return found


def answering_or_none(fleet: System) -> set[str]:
    """Return the versions that answer; none while the serving process is starting."""
    try:
        return set(answering(fleet).values())
    except OSError:
        return set()


def labels_of(fleet: System) -> dict[str, int]:
    labels: dict[str, int] = fleet.state_of("pi")["models"]["digits"]["labels"]
    return labels


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_canary_answers_its_share_is_compared_and_promoted_and_another_is_taken_back(fleet: System) -> None:
    agent = fleet.add_agent("pi")
    agent.config.write_text(agent.config.read_text() + "telemetry_interval_s: 1\n")
    agent.start()
    fleet.wait_online("pi")
    push(fleet, 1)

    push(fleet, 2, "--canary", "50%")
    before = answering(fleet)
    assert set(before.values()) == {"1", "2"}
    assert answering(fleet) == before  # the same caller, the same version

    def is_compared() -> bool:
        return all((one["figures"] or {}).get("total") for one in fleet.must("status", "digits", "--json").json)

    wait_until(is_compared, "figures of both versions")
    shown = fleet.must("status", "digits").stdout
    assert "canary 50%" in shown

    fetched = len(agent.lines_of("fetching"))
    fleet.must("promote", "digits")
    assert len(agent.lines_of("fetching")) == fetched
    assert set(answering(fleet).values()) == {"2"}
    assert labels_of(fleet) == {"stable": 2}

    push(fleet, 3, "--canary", "50%")
    assert set(answering(fleet).values()) == {"2", "3"}
    agent.kill()
    agent.start()
    fleet.wait_online("pi")
    wait_until(lambda: answering_or_none(fleet) == {"2", "3"}, "both versions after a restart", tell=fleet.logs)
    fleet.must("rollback", "digits")
    assert set(answering(fleet).values()) == {"2"}
    assert labels_of(fleet) == {"stable": 2}
