"""Two workers on loopback train as one machine does, and go on after one of them is lost."""

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.brokers import free_port

pytestmark = [pytest.mark.acceptance, pytest.mark.tensorflow, pytest.mark.timeout(900)]

RECIPE = ["--technique", "pruning", "--technique", "qat", "--epochs", "2", "--batch-size", "10"]
DEADLINE_S = 300


class Worker:
    """A training as a process."""

    def __init__(self, folder: Path, output: Path, *words: str) -> None:
        samples = ["--data", str(folder / "train.npz"), "--evaluation", str(folder / "test.npz")]
        command = [sys.executable, "-m", "edgeferry.fleet", "train", str(folder / "cnn.keras"), *RECIPE, *samples]
        self.process = subprocess.Popen(
            [*command, "-o", str(output), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"},
            start_new_session=True,
        )

    def wait_for(self, words: str) -> None:
        """Return when a line on standard error has these words."""
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"ended without {words!r}")

    def end(self) -> str:
        """Return what it has said on standard error, ended well or not."""
        return self.process.communicate(timeout=DEADLINE_S)[1]

    def kill(self) -> None:
        """End it without a word; its child goes with it."""
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def start(sources) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def begin(output: Path, *words: str) -> Worker:
        started.append(Worker(sources.folder, output, *words))
        return started[-1]

    yield begin
    for worker in started:
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.communicate(timeout=30)


def together(start: Callable[..., Worker], folder: Path, *words: str) -> list[Worker]:
    addresses = ",".join(f"127.0.0.1:{free_port()}" for _ in range(2))
    return [
        start(folder / str(index), "--workers", addresses, "--worker-index", str(index), *words) for index in range(2)
    ]


def weights_in(folder: Path, tmp_path: Path) -> list[np.ndarray]:
    """Return every array of the trained Keras model, without Keras."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    found: list[np.ndarray] = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda _, one: found.append(one[()]) if isinstance(one, h5py.Dataset) else None)
    return found


def test_two_workers_come_to_what_one_machine_comes_to_and_only_the_chief_writes(start, tmp_path):
    alone = start(tmp_path / "alone")
    said = alone.end()
    assert alone.process.returncode == 0, said

    workers = together(start, tmp_path)
    said = [worker.end() for worker in workers]

    assert [worker.process.returncode for worker in workers] == [0, 0], said
    assert "this worker is done; the first one has written the result" in said[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["0", "alone"]
    for one, other in zip(weights_in(tmp_path / "alone", tmp_path), weights_in(tmp_path / "0", tmp_path), strict=True):
        assert np.allclose(one, other, atol=0.02 * np.abs(one).max())  # sums of gradients in another order


def test_after_a_worker_is_lost_both_go_on_to_the_weights_of_a_training_that_was_never_interrupted(start, tmp_path):
    whole = together(start, tmp_path / "whole")
    assert [worker.end() and worker.process.returncode for worker in whole] == [0, 0]
    chief, other = together(start, tmp_path / "lost")
    chief.wait_for("pruning, epoch 1 of 2")

    other.kill()
    said = chief.end()

    assert chief.process.returncode == 1
    assert "--resume [WORKER_LOST]" in said
    assert [path.name for path in (tmp_path / "lost").iterdir()] == ["0.unfinished"]

    resumed = together(start, tmp_path / "lost", "--resume")
    said = [worker.end() for worker in resumed]

    assert [worker.process.returncode for worker in resumed] == [0, 0], said
    assert "pruning, epoch 1 of 2" not in said[0]
    assert [path.name for path in (tmp_path / "lost").iterdir()] == ["0"]
    found, wanted = (weights_in(tmp_path / name / "0", tmp_path) for name in ("lost", "whole"))
    for one, other in zip(found, wanted, strict=True):
        assert np.allclose(one, other, atol=1e-6)
