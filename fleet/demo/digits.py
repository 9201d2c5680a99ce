"""Real handwritten digits for the demo, and a candidate that cannot pass its self-test.

The digits are those of the UCI repository (NOTICE tells whose); 8 by 8 pixels, 0 to 16.
"""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from edgeferry.wire.desired import ROLE_SELFTEST, ManifestBlob, block_sha256s, decode_manifest

__all__ = ["HELD_OUT", "DigitFiles", "write_digits", "write_spoilt_version"]

HELD_OUT = 400


@dataclass(frozen=True, slots=True)
class DigitFiles:
    """Where the digits were written.

    Attributes:
        train: ``x`` and ``y`` for training and calibration.
        test: ``x`` and ``y`` that training has not seen.
        test_inputs: ``x`` of the same alone, as `edgeferry infer` takes it.
        labels: ``y`` of the same.
    """

    train: Path
    test: Path
    test_inputs: Path
    labels: np.ndarray


def write_digits(folder: Path) -> DigitFiles:
    """Write the digits to ``folder``, parted the same way each time."""
    with (files("edgeferry.fleet.demo") / "digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as data:
        images = (data["images"][..., np.newaxis] / 16).astype(np.float32)
        labels = data["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    held_out, seen = order[:HELD_OUT], order[HELD_OUT:]
    written = DigitFiles(folder / "train.npz", folder / "test.npz", folder / "digits.npy", labels[held_out])
    np.savez(written.train, x=images[seen], y=labels[seen])
    np.savez(written.test, x=images[held_out], y=labels[held_out])
    np.save(written.test_inputs, images[held_out])
    return written


def write_spoilt_version(good: Path, version: int) -> Path:
    """Copy the artifacts in ``good`` as ``version`` whose golden outputs no model can give; return their folder.

    Hashes and manifest are right: only the self-test on the device can tell.
    """
    spoilt = good.parent / str(version)
    shutil.copytree(good, spoilt)
    for artifact in spoilt.iterdir():
        _spoil(artifact, version)
    return spoilt


def _spoil(artifact: Path, version: int) -> None:
    selftest = artifact / "selftest.npz"
    with np.load(selftest, allow_pickle=False) as data:
        arrays = {name: _other(array) if name.startswith("output:") else array for name, array in data.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    selftest.write_bytes(buffer.getvalue())
    path = artifact / "artifact.json"
    manifest = decode_manifest(path.read_bytes())
    said = json.loads(path.read_bytes())
    said["version"] = version
    for blob, entry in zip(manifest.blobs, said["blobs"], strict=True):
        if blob.role == ROLE_SELFTEST:
            entry.update(_described(blob, buffer.getvalue()))
    path.write_text(json.dumps(said))


def _other(array: np.ndarray) -> np.ndarray:
    """Return outputs whose classes have changed places."""
    return np.ascontiguousarray(np.flip(array, axis=-1))


def _described(blob: ManifestBlob, data: bytes) -> dict[str, str | int]:
    blocks = [data[at : at + blob.block_bytes] for at in range(0, len(data), blob.block_bytes)]
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "block_sha256s": block_sha256s(blocks),
    }
