"""A lock names what led to a model, and nothing else; and can be read again."""

from pathlib import Path

import msgspec
import pytest

from edgeferry.converter.errors import ArtifactError
from edgeferry.converter.fingerprints import Fingerprint, Fingerprints
from edgeferry.converter.lock import Lock, decode_lock, locked, restored
from edgeferry.converter.stages import Record


@pytest.fixture
def story(tmp_path) -> tuple[list[Record], dict[str, Path]]:
    """Return the stages of a conversion, of which two led to ``quantized/model``."""
    files = {role: tmp_path / role for role in ("model", "calibration", "evaluation", "labels", "settings")}
    for role, path in files.items():
        path.write_text(role)

    def record(name: str, job: dict[str, object]) -> Record:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model").write_text(name)
        return Record("edgeferry.converter.x", name, job, folder, {"model": Fingerprints().of(folder / "model")})

    hub = record("hub", {"model": files["model"], "samples": [files["evaluation"]]})
    records = [
        hub,
        record("other", {"model": tmp_path / "hub" / "model"}),
        record(
            "quantized",
            {"model": tmp_path / "hub" / "model", "samples": {"of": files["calibration"], "by": files["settings"]}},
        ),
    ]
    return records, {role: path for role, path in files.items() if role != "settings"}


def test_only_what_led_to_the_model_is_locked(story):
    records, named = story

    inputs, steps, made = locked(records, records[2].folder / "model", named, Fingerprints())

    assert [step.what for step in steps] == ["hub", "quantized"]
    assert steps[1].job == {
        "model": {"$step": 0, "output": "model"},
        "samples": {"of": {"$input": "calibration"}, "by": {"$input": "file 5"}},
    }
    assert made == {"$step": 1, "output": "model"}
    assert [one.role for one in inputs] == ["model", "calibration", "evaluation", "labels", "file 5"]
    assert inputs[0].sha256 == Fingerprints().of(named["model"]).sha256


def test_a_file_with_two_roles_has_the_first(story):
    records, named = story
    named["evaluation"] = named["calibration"]

    inputs, steps, _ = locked(records, records[2].folder / "model", named, Fingerprints())

    assert [one.role for one in inputs][:2] == ["model", "calibration"]
    assert steps[1].job["samples"]["of"] == {"$input": "calibration"}


def test_a_job_is_restored_with_other_paths(story, tmp_path):
    records, named = story
    _, steps, _ = locked(records, records[2].folder / "model", named, Fingerprints())
    elsewhere = {"model": Path("m"), "calibration": Path("c"), "file 5": Path("f"), "evaluation": Path("e")}

    job = restored(steps[1].job, elsewhere, [Path("again/0")])

    assert job == {"model": Path("again/0/model"), "samples": {"of": Path("c"), "by": Path("f")}}
    assert restored(steps[0].job, elsewhere, []) == {"model": Path("m"), "samples": [Path("e")]}


@pytest.mark.parametrize(
    "job",
    [
        {"$input": "nobody"},
        {"$step": 1, "output": "model"},
        {"$step": -1, "output": "model"},
        {"$step": 0, "output": "../model"},
        {"$step": 0},
        {"$input": 3},
    ],
)
def test_a_job_that_names_what_is_not_there_is_refused(job):
    with pytest.raises(ArtifactError, match="names nothing that it lists"):
        restored({"model": job}, {"model": Path("m")}, [Path("0")])


def test_a_lock_can_be_read_again():
    lock = Lock(1, "cats", 3, "pi", "int8", Fingerprint("0" * 64, 5), (), (), {}, "", {}, {"keras": "3"})

    assert decode_lock(msgspec.json.encode(lock), where="lock.json") == lock


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_lock_is_said_to_be_none(data):
    with pytest.raises(ArtifactError, match=r"lock\.json: is not a lock"):
        decode_lock(data, where="lock.json")


def test_a_lock_of_a_later_format_is_refused():
    lock = Lock(2, "cats", 3, "pi", "int8", Fingerprint("0" * 64, 5), (), (), {}, "", {}, {})

    with pytest.raises(ArtifactError, match="has format 2, wanted 1"):
        decode_lock(msgspec.json.encode(lock), where="lock.json")
