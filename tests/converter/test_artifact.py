"""Versions are immutable and appear at once."""

from pathlib import Path

import pytest

from edgeferry.converter.artifact import Draft, check_writable, manifest_blob, next_version, write_version
from edgeferry.converter.errors import ArtifactError
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.desired import ArtifactManifest, SelfTestSpec, TensorSpec, decode_manifest

SPEC = TensorSpec("x", "FP32", (1, 2))


@pytest.fixture
def draft(tmp_path):
    """Return a function that drafts an artifact with given bytes."""

    def make(profile: str, model: bytes = b"model" * 40_000, *, memory_bytes: int = 1) -> Draft:
        files = {"model": tmp_path / f"{profile}.m", "selftest": tmp_path / f"{profile}.s"}
        files["model"].write_bytes(model)
        files["selftest"].write_bytes(b"golden")
        manifest = ArtifactManifest(
            format=1,
            name="cats",
            version=3,
            profile=profile,
            scheme="int8",
            blobs=tuple(manifest_blob(role, path) for role, path in files.items()),
            inputs=(SPEC,),
            outputs=(SPEC,),
            selftest=SelfTestSpec(samples=1),
            memory_bytes=memory_bytes,
        )
        return Draft(manifest, files, {"story.txt": profile.encode()})

    return make


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_version_holds_every_profile_with_all_its_files(tmp_path, draft):
    folder = tmp_path / "out" / "cats" / "3"

    write_version(folder, [draft("a"), draft("b")])

    names = ("artifact.json", "model.tflite", "selftest.npz", "story.txt")
    assert tree(tmp_path / "out") == [f"cats/3/{profile}/{name}" for profile in "ab" for name in names]
    assert (folder / "a" / "story.txt").read_text() == "a"


@pytest.mark.parametrize("home", ["out/cats", "out/deep/er/cats", "."])
def test_a_trial_of_writing_leaves_nothing(tmp_path, home):
    (tmp_path / "out").mkdir()

    check_writable(tmp_path / home)

    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


@pytest.mark.parametrize(
    ("home", "message"),
    [
        ("file/cats", "/file/cats: cannot be written: .*/file is a file; wanted a folder"),
        ("file", "/file: cannot be written: .*/file is a file; wanted a folder"),
        ("broken/cats", "/broken/cats: cannot be written: No such file or directory"),
        ("n" * 300, "cannot be written: File name too long"),
        ("/proc/cats", "^/proc/cats: cannot be written: "),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, home, message):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").symlink_to("nowhere")

    with pytest.raises(ArtifactError, match=message):
        check_writable(tmp_path / home)


def test_the_manifest_describes_the_bytes(tmp_path, draft):
    write_version(tmp_path / "3", [draft("a")])

    blob = decode_manifest((tmp_path / "3" / "a" / "artifact.json").read_bytes()).blob("model")

    assert blob == manifest_blob("model", tmp_path / "3" / "a" / "model.tflite")
    assert (blob.path, blob.size_bytes, blob.block_bytes) == ("model.tflite", 200_000, BLOCK_BYTES)
    assert len(blob.digests()) == 4 * 32


def test_the_same_bytes_again_change_nothing(tmp_path, draft):
    write_version(tmp_path / "3", [draft("a", memory_bytes=1)])
    before = (tmp_path / "3" / "a" / "artifact.json").read_bytes()

    write_version(tmp_path / "3", [draft("a", memory_bytes=2)])

    assert (tmp_path / "3" / "a" / "artifact.json").read_bytes() == before


def test_other_bytes_under_the_same_version_are_refused(tmp_path, draft):
    write_version(tmp_path / "3", [draft("a")])

    with pytest.raises(ArtifactError, match=r"a version never changes; .* to write version 4"):
        write_version(tmp_path / "3", [draft("a", b"other"), draft("b")])

    assert not (tmp_path / "3" / "b").exists()


def test_a_damaged_artifact_is_not_taken_for_the_same(tmp_path, draft):
    write_version(tmp_path / "3", [draft("a")])
    (tmp_path / "3" / "a" / "artifact.json").write_text("{")

    with pytest.raises(ArtifactError, match="other bytes"):
        write_version(tmp_path / "3", [draft("a")])


def test_a_profile_can_be_added(tmp_path, draft):
    write_version(tmp_path / "3", [draft("a")])

    write_version(tmp_path / "3", [draft("a"), draft("b")])

    assert sorted(path.name for path in (tmp_path / "3").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["3"]


def test_a_failure_leaves_nothing(tmp_path, draft):
    lost = draft("b")
    lost.files["selftest"].unlink()

    with pytest.raises(ArtifactError, match="cannot be written: No such file"):
        write_version(tmp_path / "out" / "3", [draft("a"), lost])

    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_in_the_way_is_an_error(tmp_path, draft):
    (tmp_path / "out").write_text("")

    with pytest.raises(ArtifactError, match="cannot be written"):
        write_version(tmp_path / "out" / "3", [draft("a")])


def test_the_next_version_follows_the_newest(tmp_path):
    assert next_version(tmp_path / "none") == 1
    for name in ("2", "10", ".11.x", "notes"):
        (tmp_path / name).mkdir()

    assert next_version(tmp_path) == 11
