"""The child process that trains a model.

Job: ``model``, ``data`` and ``evaluation`` (paths), ``recipe``; ``keeps_float``: whether layers without an integer form
stay in float; ``checkpoints``, a folder (or null), ``key``, which names this training there, and ``resumes``: whether
it goes on from it; ``cluster`` (or null): the machines that take part, and which of them this one is;
``board`` (or null): a folder for TensorBoard.

While it works, it writes a line for each epoch into ``epochs.jsonl``, and ends early when a file ``stop`` appears. It
leaves ``source.tflite`` and ``model.tflite``, ``model.keras``, and in ``answers`` what the trained model says to the
evaluation samples. Its result is a `trainer.Report`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.converter.child import child_main
from edgeferry.converter.training.checkpoints import Checkpoints
from edgeferry.converter.training.recipe import Recipe
from edgeferry.converter.training.strategies import Cluster

__all__ = ["main"]


def main() -> None:
    """Do the job in the folder named on the command line."""
    os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")  # read when TensorFlow is imported
    child_main(_train)


def _train(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    from edgeferry.converter.training.trainer import Training  # noqa: PLC0415 - after the line above

    cluster = job["cluster"] and Cluster(tuple(job["cluster"]["workers"]), job["cluster"]["index"])
    os.environ.pop("TF_CONFIG", None)
    if cluster:
        os.environ["TF_CONFIG"] = cluster.tf_config
    recipe = msgspec.convert(job["recipe"], Recipe)
    training = Training(
        model=Path(job["model"]),
        data=Path(job["data"]),
        evaluation=Path(job["evaluation"]),
        recipe=recipe,
        keeps_float=job["keeps_float"],
        folder=folder,
        cluster=cluster,
        checkpoints=job["checkpoints"] and Checkpoints(Path(job["checkpoints"]), job["key"]),
        resumes=job["resumes"],
        board=job["board"] and Path(job["board"]),
    )
    report: dict[str, object] = msgspec.to_builtins(training.run())
    return report


if __name__ == "__main__":
    main()
