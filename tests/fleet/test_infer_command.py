"""`infer` as a user runs it, against a fake device on real brokers; it answers with what it was sent."""

from pathlib import Path

import numpy as np
import pytest
from tests.fleet.conftest import Fleet
from tests.fleet.fakes import FakeDevice

pytestmark = pytest.mark.broker


@pytest.fixture
def device(fleet: Fleet) -> FakeDevice:
    fleet.add("pi-1")
    device = fleet.switch_on("pi-1")
    pushed = fleet.run("push", fleet.artifact(7))
    assert pushed.exit_code == 0, pushed.stderr
    return device


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(200, dtype=np.float32).reshape(50, 4))
    return path


def test_every_sample_is_answered_in_its_place(fleet: Fleet, device: FakeDevice, samples: Path, tmp_path: Path) -> None:
    done = fleet.run(
        "infer",
        "pi-1",
        "digits",
        "--input",
        str(samples),
        "--output",
        str(tmp_path / "y.npy"),
        "--concurrency",
        "8",
        "--json",
    )

    assert done.exit_code == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.load(samples))
    assert (done.json["samples"], done.json["versions"], device.infer_requests) == (50, ["7"], 50)


def test_throughput_and_latency_are_told(fleet: Fleet, device: FakeDevice, samples: Path) -> None:
    done = fleet.run("infer", "pi-1", "digits", "--input", str(samples))

    assert done.stdout.startswith("digits 7: 50 answers in ")
    assert "p95" in done.stdout


def test_the_models_own_type_is_sent_as_it_is(fleet: Fleet, device: FakeDevice, tmp_path: Path) -> None:
    x = np.array([[1, -2, 3, -4]], dtype=np.int8)
    np.save(tmp_path / "x.npy", x)

    fleet.run("infer", "pi-1", "digits", "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy"))

    answer = np.load(tmp_path / "y.npy")
    assert answer.dtype == np.int8
    np.testing.assert_array_equal(answer, x)


def test_a_device_that_stays_busy_is_told(fleet: Fleet, device: FakeDevice, samples: Path) -> None:
    device.refuses_inference = True

    done = fleet.run("infer", "pi-1", "digits", "--input", str(samples), "--timeout", "0.5", "--concurrency", "50")

    assert done.exit_code == 1
    assert "50 of 50 samples were not answered; sample 0: no answer within 0.5 s but BUSY: queue is full" in done.stderr
    assert device.infer_requests > 50


def test_a_device_that_was_busy_for_a_moment_is_asked_again(fleet: Fleet, device: FakeDevice, samples: Path) -> None:
    device.refusals_left = 6

    done = fleet.run("infer", "pi-1", "digits", "--input", str(samples), "--json")

    assert done.exit_code == 0, done.stderr
    assert (done.json["samples"], device.infer_requests) == (50, 56)


def test_an_output_that_cannot_be_written_is_told_before_anything_is_asked(
    fleet: Fleet, device: FakeDevice, samples: Path, tmp_path: Path
) -> None:
    done = fleet.run("infer", "pi-1", "digits", "--input", str(samples), "--output", str(tmp_path / "no" / "y.npy"))

    assert done.exit_code == 2
    assert f"{tmp_path / 'no' / 'y.npy'}: there is no folder" in done.stderr
    assert device.infer_requests == 0


def test_silence_ends_at_the_deadline(fleet: Fleet, device: FakeDevice, samples: Path) -> None:
    device.drops_inference = True

    done = fleet.run("infer", "pi-1", "digits", "--input", str(samples), "--timeout", "0.3", "--concurrency", "50")

    assert done.exit_code == 1
    assert "no answer within 0.3 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pi-9", "digits"), "device 'pi-9' is not in the inventory"),
        (("pi-1", "dogs"), "pi-1 does not run 'dogs'; it runs digits"),
    ],
)
def test_an_unknown_name_is_told(
    fleet: Fleet, device: FakeDevice, samples: Path, arguments: tuple[str, str], sentence: str
) -> None:
    done = fleet.run("infer", *arguments, "--input", str(samples))

    assert done.exit_code == 2
    assert sentence in done.stderr


def test_samples_that_do_not_fit_are_told_and_not_sent(fleet: Fleet, device: FakeDevice, tmp_path: Path) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 5), np.float32))

    done = fleet.run("infer", "pi-1", "digits", "--input", str(tmp_path / "wrong.npy"))

    assert done.exit_code == 2
    assert "wrong.npy: input has shape [3, 5], wanted [n, 4]" in done.stderr
    assert device.infer_requests == 0


def test_a_file_that_is_no_array_is_told(fleet: Fleet, device: FakeDevice, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_text("not numpy")

    done = fleet.run("infer", "pi-1", "digits", "--input", str(tmp_path / "x.npy"))

    assert done.exit_code == 2
    assert "is not a .npy file" in done.stderr


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_group_shares_the_samples(fleet: Fleet, samples: Path, tmp_path: Path) -> None:
    for name in ("pi-1", "pi-2"):
        fleet.add(name, "kitchens")
    one, two = fleet.switch_on("pi-1"), fleet.switch_on("pi-2")
    fleet.run("push", fleet.artifact(7))

    done = fleet.run(
        "infer", "group:kitchens", "digits", "--input", str(samples), "--output", str(tmp_path / "y.npy"), "--json"
    )

    assert done.exit_code == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.load(samples))
    assert one.infer_requests + two.infer_requests == 50
    assert min(one.infer_requests, two.infer_requests) > 0


def test_a_group_in_which_nobody_runs_the_model_is_told(fleet: Fleet, samples: Path) -> None:
    fleet.add("pi-1", "kitchens")
    fleet.switch_on("pi-1")

    done = fleet.run("infer", "group:kitchens", "digits", "--input", str(samples))

    assert done.exit_code == 2
    assert "pi-1 does not run 'digits'" in done.stderr
