"""An artifact folder is taken as it was converted, or not at all."""

import json

import pytest
from tests.models import artifact_folder
from tests.trust.simulator import PROFILE, write_artifact

from edgeferry.fleet.artifacts import checked_blocks, read_artifacts
from edgeferry.fleet.errors import ArtifactError


def check(folder) -> None:
    for artifact in read_artifacts(folder):
        for blob in artifact.manifest.blobs:
            for _ in checked_blocks(artifact, blob):
                pass


def test_what_the_converter_writes_is_an_artifact(tmp_path):
    folder = artifact_folder(tmp_path, version=3).parent
    artifact_folder(tmp_path, version=3, profile="coral-dev-board")

    artifacts = read_artifacts(folder)

    assert [artifact.manifest.profile for artifact in artifacts] == ["coral-dev-board", "generic-x86-64"]
    blob = artifacts[0].manifest.blob("model")
    assert b"".join(checked_blocks(artifacts[0], blob)) == (artifacts[0].folder / "model.tflite").read_bytes()
    check(folder)


def test_an_empty_file_is_an_artifacts_too(tmp_path):
    folder = write_artifact(tmp_path)
    manifest = json.loads((folder / PROFILE / "artifact.json").read_text())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    manifest["blobs"][1] |= {"sha256": empty, "size_bytes": 0, "block_sha256s": ""}
    (folder / PROFILE / "artifact.json").write_text(json.dumps(manifest))
    (folder / PROFILE / "selftest.npz").write_bytes(b"")

    check(folder)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "is not a folder; wanted DIR/NAME/N"),
        ("digits", "has no PROFILE/artifact.json below it, so it is not an artifact folder$"),
        (f"digits/1/{PROFILE}", "give the folder above it"),
    ],
)
def test_a_folder_that_is_none_is_told(tmp_path, place, message):
    write_artifact(tmp_path)

    with pytest.raises(ArtifactError, match=message):
        read_artifacts(tmp_path / place)


@pytest.mark.parametrize(
    "move", [("digits", "owls"), ("digits/1", "digits/2"), (f"digits/1/{PROFILE}", "digits/1/coral")]
)
def test_a_folder_in_a_place_that_says_something_else_is_told(tmp_path, move):
    write_artifact(tmp_path)
    (tmp_path / move[0]).rename(tmp_path / move[1])

    with pytest.raises(ArtifactError, match=f"is for digits/1/{PROFILE} but lies in "):
        read_artifacts(next(tmp_path.glob("*/*")))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format":2}', b"\xff", b" " * 5_000_000])
def test_a_manifest_that_cannot_be_understood_is_told(tmp_path, content):
    folder = write_artifact(tmp_path)
    (folder / PROFILE / "artifact.json").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"artifact\.json: .*; convert the model again"):
        read_artifacts(folder)


@pytest.mark.parametrize("file", ["model.tflite", "selftest.npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its block . has another SHA-256"),
        (lambda data: data + b"x", "has another SHA-256"),
        (lambda data: b"", "0 bytes, SHA-256 e3b0c44298fc"),
    ],
)
def test_a_file_with_other_bytes_is_told(tmp_path, file, change, message):
    folder = write_artifact(tmp_path)
    path = folder / PROFILE / file
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(ArtifactError, match=f"{file}: differs from its artifact.json: .*{message}"):
        check(folder)


def test_a_file_that_is_missing_is_told(tmp_path):
    folder = write_artifact(tmp_path)
    (folder / PROFILE / "model.tflite").unlink()

    with pytest.raises(ArtifactError, match=r"model\.tflite: is named by artifact\.json but is not there"):
        check(folder)


def test_a_manifest_cannot_reach_outside_its_folder(tmp_path):
    folder = write_artifact(tmp_path)
    path = folder / PROFILE / "artifact.json"
    (tmp_path / "secret").write_bytes(b"golden")
    path.write_bytes(path.read_bytes().replace(b'"selftest.npz"', b'"../../../secret"'))

    with pytest.raises(ArtifactError, match="is named by"):
        check(folder)
