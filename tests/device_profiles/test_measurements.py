"""Latencies that were measured on devices are kept, and found again for the next version."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeferry.device_profiles.measurements import (
    MAX_FILE_BYTES,
    MAX_MEASUREMENTS,
    MeasuredLatency,
    MeasurementsError,
    default_path,
    find_similar,
    merged,
    parse,
    read,
    spell,
)

ONE = MeasuredLatency(
    profile="raspberry-pi-4",
    device="kitchen",
    model="digits",
    version=3,
    scheme="int8",
    sha256="a" * 64,
    threads=4,
    runs=812,
    p50_ms=6.125,
    p95_ms=6.5,
    peak_rss_bytes=50_331_648,
    measured_at="2026-01-02T03:04:05+00:00",
)


def test_what_is_spelled_is_parsed() -> None:
    other = replace(ONE, device="workshop", p50_ms=7)

    assert parse(spell([ONE, other]), "here") == (ONE, other)


def test_where_nothing_was_measured_there_is_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "measurements.json") == ()


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "measurements.json").write_bytes(spell([ONE]))

    assert read(tmp_path / "measurements.json") == (ONE,)


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeasurementsError, match=f"{tmp_path}: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "here: does not hold measurements"),
        (b"\xff", "here: does not hold measurements"),
        (b"[" * 100_000, "here: does not hold measurements"),
        (b'{"format": 1}', "here: does not hold measurements .*measurements"),
        (b'{"format": 1, "measurements": [{"p50_ms": "fast"}]}', "here: does not hold measurements"),
        (b'{"format": 2, "measurements": []}', "here: has format 2, wanted 1; update edgeferry"),
        (b" " * (MAX_FILE_BYTES + 1), f"here: more than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_what_is_no_file_of_measurements_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(MeasurementsError, match=said):
        parse(data, "here")


def test_a_new_figure_takes_the_place_of_the_old_one_of_the_same_bytes_and_device() -> None:
    faster = replace(ONE, p50_ms=5.0)
    elsewhere = replace(ONE, device="workshop")

    assert merged([ONE, elsewhere], faster) == (elsewhere, faster)


def test_the_oldest_figures_go_first() -> None:
    many = [replace(ONE, device=f"pi-{at}") for at in range(MAX_MEASUREMENTS)]

    kept = merged(many, ONE)

    assert len(kept) == MAX_MEASUREMENTS
    assert (kept[0].device, kept[-1]) == ("pi-1", ONE)


def test_the_newest_figure_of_a_model_on_a_kind_of_device_is_found() -> None:
    newer = replace(ONE, version=4, sha256="b" * 64, measured_at="2026-01-03T03:04:05+00:00")

    assert find_similar([newer, ONE], "raspberry-pi-4", "digits", "int8") == newer
    assert find_similar([newer, ONE], "raspberry-pi-5", "digits", "int8") is None
    assert find_similar([newer, ONE], "raspberry-pi-4", "letters", "int8") is None
    assert find_similar([newer, ONE], "raspberry-pi-4", "digits", "float16") is None


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/you"}, "/data/edgeferry/measurements.json"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/you"}, "/home/you/.local/share/edgeferry/measurements.json"),
        ({"HOME": "/home/you"}, "/home/you/.local/share/edgeferry/measurements.json"),
    ],
)
def test_they_are_kept_where_data_of_the_user_belongs(environment: dict[str, str], place: str) -> None:
    assert default_path(environment) == Path(place)
