"""The child process that says which strategy a training would take, and why.

Job: ``model``, ``strategy``, and ``cluster`` (or null). Its result: the ``explanation``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeferry.converter.child import child_main
from edgeferry.converter.formats import keras_model
from edgeferry.converter.training.spreading import gpus
from edgeferry.converter.training.strategies import Cluster, Strategy, explained


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_explain)


def _explain(job: dict[str, Any], _folder: Path) -> Mapping[str, object]:
    cluster = job["cluster"] and Cluster(tuple(job["cluster"]["workers"]), job["cluster"]["index"])
    weights = int(keras_model.load(Path(job["model"])).model.count_params())
    return {"explanation": explained(Strategy(job["strategy"]), cluster, gpus(), weights)}


if __name__ == "__main__":
    main()
