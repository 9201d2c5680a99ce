"""Outputs replace a file in one step, and what cannot become such a file is refused before."""

from pathlib import Path

import numpy as np
import pytest

from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.outputs import check_can_write, check_holds, write_outputs

ONE = {"y": np.arange(3)}
TWO = {"y": np.arange(3), "z": np.zeros(2)}


@pytest.mark.parametrize("name", ["y.npy", "y.npz"])
def test_a_file_of_arrays_in_a_folder_that_is_there_can_be_written(tmp_path: Path, name: str) -> None:
    check_can_write(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("y.csv", r"y\.csv: ends in '\.csv', wanted \.npy, or \.npz"),
        ("y", "ends in 'nothing'"),
        ("missing/y.npy", r"y\.npy: there is no folder .*missing; make it first"),
    ],
)
def test_what_cannot_become_a_file_of_arrays_is_refused(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        check_can_write(tmp_path / name)


def test_a_folder_that_may_not_be_written_to_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the folder /proc/self may not be written to"):
        check_can_write(Path("/proc/self/y.npy"))


def test_several_outputs_need_a_file_for_several() -> None:
    check_holds(Path("y.npz"), ["y", "z"])
    check_holds(Path("y.npy"), ["y"])
    with pytest.raises(UsageError, match=r"y\.npy: holds one array, the outputs are y, z; name a \.npz file"):
        check_holds(Path("y.npy"), ["y", "z"])


def test_outputs_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_outputs(tmp_path / "y.npy", ONE)
    write_outputs(tmp_path / "y.npz", TWO)

    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), ONE["y"])
    with np.load(tmp_path / "y.npz") as found:
        assert sorted(found) == ["y", "z"]
        np.testing.assert_array_equal(found["z"], TWO["z"])


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "y.npy"
    path.mkdir()  # nothing can take its place

    with pytest.raises(FleetError, match=r"y\.npy"):
        write_outputs(path, ONE)

    assert [found.name for found in tmp_path.iterdir()] == ["y.npy"]
