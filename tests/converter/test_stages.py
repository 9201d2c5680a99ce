"""Stages: done once for equal work, and again for any other."""

import os
from pathlib import Path

import pytest

from edgeferry.converter.cache import Cache
from edgeferry.converter.errors import ChildError
from edgeferry.converter.fingerprints import Fingerprints
from edgeferry.converter.stages import Stages, UnrepeatableError, files_in, stage_key
from edgeferry.converter.toolchain import own_sources, processor, versions

CHILD = """
import os
from pathlib import Path
from edgeferry.converter.child import child_main

def work(job, folder):
    with open(os.environ["RUNS"], "a") as runs:
        runs.write("x")
    {body}
    (folder / "made").write_text(Path(job["file"]).read_text().upper())
    return {{"done": True}}

child_main(work)
"""


class Kitchen:
    """Runs a stage that makes capitals of a file, and counts how often its child has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "file"
        self.file.write_text("cats")
        self.works = 0
        self.is_told("pass")

    def is_told(self, body: str) -> None:
        (self.folder / "some_stage.py").write_text(CHILD.format(body=body))

    def stages(self, cache: str = "cache") -> Stages:
        return Stages(Cache(self.folder / cache))

    def run(self, stages: Stages, file: Path | None = None) -> str:
        self.works += 1
        work = self.folder / f"work{self.works}"
        job = {"file": file or self.file}
        result = stages.run("some_stage", job, folder=work, what="making cats", outputs=["made"], deadline_s=30)
        assert result == {"done": True}
        return (work / "made").read_text()

    @property
    def ran(self) -> int:
        runs = self.folder / "runs"
        return len(runs.read_text()) if runs.exists() else 0


@pytest.fixture
def kitchen(tmp_path, monkeypatch) -> Kitchen:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return Kitchen(tmp_path)


def test_equal_work_is_done_once_whatever_the_file_is_called(kitchen):
    assert kitchen.run(kitchen.stages()) == "CATS"
    moved = kitchen.file.rename(kitchen.folder / "renamed")

    assert kitchen.run(kitchen.stages(), moved) == "CATS"

    assert kitchen.ran == 1


def test_another_content_is_other_work(kitchen):
    kitchen.run(kitchen.stages())
    kitchen.file.write_text("dogs")

    assert kitchen.run(kitchen.stages()) == "DOGS"


def test_without_a_cache_everything_is_done_anew(kitchen):
    for _ in range(2):
        kitchen.run(Stages())

    assert kitchen.ran == 2
    assert not (kitchen.folder / "cache").exists()


def test_a_failure_is_not_remembered(kitchen):
    kitchen.is_told("raise ValueError('no cats')")
    with pytest.raises(ChildError, match="no cats"):
        kitchen.run(kitchen.stages())

    kitchen.is_told("pass")

    assert kitchen.run(kitchen.stages()) == "CATS"


def test_a_file_that_is_changed_meanwhile_is_not_remembered(kitchen):
    kitchen.is_told("Path(job['file']).write_text('mice')")
    kitchen.run(kitchen.stages())

    assert kitchen.stages()._cache.held() == []


def test_a_cache_that_cannot_be_written_stops_no_conversion(kitchen, caplog):
    (kitchen.folder / "cache").write_text("a file")
    stages = kitchen.stages()

    assert kitchen.run(stages) == "CATS"
    assert kitchen.run(stages) == "CATS"

    assert [record.message.split(": ")[0] for record in caplog.records] == [
        f"the cache in {kitchen.folder / 'cache'} cannot be written, going on without"
    ]


def test_what_was_done_is_recorded_whether_it_was_remembered_or_not(kitchen):
    for _ in range(2):
        stages = kitchen.stages()
        kitchen.run(stages)
        (record,) = stages.records
        assert (record.module, record.what, dict(record.job)) == ("some_stage", "making cats", {"file": kitchen.file})
        assert record.outputs["made"].size_bytes == 4


def test_pruning_follows_what_was_kept(kitchen):
    stages = kitchen.stages()
    kitchen.run(stages)

    stages.prune()

    assert len(stages._cache.held()) == 1


def key(job: dict[str, object], *, module: str = "m", tools: dict[str, str] | None = None) -> str:
    return stage_key(module, job, tools or {"keras": "3"}, Fingerprints())


def test_a_key_names_everything(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    job = {"n": 1, "file": path, "nested": [{"file": path}, (1, 2)], "none": None, "text": "int8", "empty": ""}
    keys = {
        key(job),
        key(job, module="other"),
        key(job, tools={"keras": "4"}),
        key(job | {"n": 2}),
        key(job | {"text": "int16"}),
        key(job | {"nested": [{"file": path}, (2, 1)]}),
    }
    path.write_text("two")
    keys.add(key(job))

    assert len(keys) == 7
    assert key(job) == key(dict(reversed(job.items())))


def test_a_text_that_names_a_file_is_told_with_its_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = key({"text": "int8"})
    Path("int8").write_text("one")
    between = key({"text": "int8"})
    Path("int8").write_text("two")

    assert len({before, between, key({"text": "int8"})}) == 3


def test_a_text_that_names_a_folder_makes_a_stage_unrepeatable(tmp_path):
    with pytest.raises(UnrepeatableError):
        key({"text": str(tmp_path)})


@pytest.mark.parametrize("text", ["n" * 5000, "with\0zero", "n" * 300])
def test_a_text_that_can_be_no_file_is_a_text(text):
    assert len(key({"text": text})) == 64


def test_a_folder_is_told_by_the_names_and_contents_of_its_files(tmp_path):
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "data").write_text("1")
    seen = {Fingerprints().of(folder).sha256}
    (folder / "variables" / "data").write_text("2")
    seen.add(Fingerprints().of(folder).sha256)
    (folder / "variables" / "data").rename(folder / "data")
    seen.add(Fingerprints().of(folder).sha256)
    moved = folder.rename(tmp_path / "elsewhere")

    assert len(seen) == 3
    assert Fingerprints().of(moved).sha256 in seen


def test_files_are_found_wherever_a_job_names_them(tmp_path):
    one, two, three = (tmp_path / name for name in "abc")

    assert list(files_in({"a": one, "b": [two, {"c": (three, "text", 1)}]})) == [one, two, three]


def test_the_tools_are_named_without_being_imported():
    found = versions()

    assert found["edgeferry"]
    assert found["litert-quantizer"]
    assert len(own_sources()) == 64
    assert processor()
