"""On which processors and machines the steps of a training run. Pure.

Data parallelism is all there is: each replica has the whole model and a share of each batch, and gradients are summed.
A model that trains on a workstation and runs on a small device fits into every machine; splitting the model itself
would only add traffic.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edgeferry.converter.errors import RequestError

__all__ = ["Cluster", "Strategy", "chosen", "cluster_from", "explained"]

_ADDRESS = re.compile(r"[A-Za-z0-9.-]{1,253}:[0-9]{1,5}")
_FEW_WEIGHTS = 50_000_000  # 200 MB of gradients for each step


class Strategy(StrEnum):
    """How steps are spread."""

    AUTO = "auto"
    NONE = "none"
    MIRRORED = "mirrored"
    MULTI_WORKER = "multi-worker"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The machines of a training.

    Attributes:
        workers: ``host:port`` of each; the first one is the chief, which writes the result.
        index: Which of them this process is.
    """

    workers: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Return whether this process writes the result."""
        return self.index == 0

    @property
    def tf_config(self) -> str:
        """Return the cluster as TensorFlow reads it."""
        task = {"type": "worker", "index": self.index}
        return json.dumps({"cluster": {"worker": list(self.workers)}, "task": task})


def cluster_from(workers: str | None, index: int | None, environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster that options or ``TF_CONFIG`` tell; None where neither does.

    Raises:
        RequestError: What they tell makes no sense.
    """
    if workers is not None:
        return _checked(tuple(workers.split(",")), index, "--workers")
    if index is not None:
        raise RequestError("--worker-index needs --workers host:port,host:port")
    if "TF_CONFIG" not in environment:
        return None
    try:
        told = json.loads(environment["TF_CONFIG"])
        addresses, task = tuple(told["cluster"]["worker"]), told["task"]
        kind, number = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError) as err:
        raise RequestError('TF_CONFIG: wanted {"cluster": {"worker": [...]}, "task": {"type": "worker", ...}}') from err
    if set(told["cluster"]) != {"worker"} or kind != "worker":
        raise RequestError("TF_CONFIG: wanted workers alone; the first of them writes the result")
    return _checked(addresses, number, "TF_CONFIG")


def chosen(wanted: Strategy, cluster: Cluster | None, gpus: int) -> Strategy:
    """Return the strategy that ``wanted`` comes to.

    Args:
        wanted: What was asked for.
        cluster: The machines, where there are several.
        gpus: Of this machine, as TensorFlow sees them.

    Raises:
        RequestError: A strategy for several machines was asked for without naming them, or the other way round.
    """
    if wanted is Strategy.AUTO:
        return Strategy.MULTI_WORKER if cluster else Strategy.MIRRORED if gpus > 1 else Strategy.NONE
    if wanted is Strategy.MULTI_WORKER and cluster is None:
        raise RequestError(
            "--strategy multi-worker needs --workers host:port,host:port and --worker-index, or TF_CONFIG"
        )
    if wanted is not Strategy.MULTI_WORKER and cluster is not None:
        raise RequestError(f"--strategy {wanted} runs on one machine; leave --workers and TF_CONFIG out")
    return wanted


def explained(wanted: Strategy, cluster: Cluster | None, gpus: int, weights: int) -> str:
    """Return in words which strategy fits, and why.

    Args:
        wanted: What was asked for.
        cluster: The machines.
        gpus: Of this one.
        weights: Of the model.
    """
    strategy = chosen(wanted, cluster, gpus)
    machines = len(cluster.workers) if cluster else 1
    share = "each has the whole model and a share of each batch"
    why = {
        Strategy.NONE: f"one machine with {gpus or 'no'} GPU: TensorFlow uses all of its processors by itself",
        Strategy.MIRRORED: f"one machine with {gpus} GPUs: {share}",
        Strategy.MULTI_WORKER: f"{machines} machines: {share}; gradients are summed over the network after each step",
    }[strategy]
    sentences = [f"strategy {strategy}: {why}."]
    if strategy is Strategy.MULTI_WORKER:
        sentences.append(_traffic(weights, machines))
    sentences.append(
        f"The model has {weights:,} weights, {weights * 16 / 2**20:.3g} MiB with gradients and optimizer, which fits "
        "into one machine: there is no need to split the model itself (model parallelism)."
        if weights < _FEW_WEIGHTS
        else f"The model has {weights:,} weights; one that large is no model for a small device."
    )
    return "\n".join(sentences)


def _traffic(weights: int, workers: int) -> str:
    sent = 2 * (workers - 1) / workers * weights * 4  # ring all-reduce: each worker sends that much in a step
    return (
        f"Each worker sends {sent / 2**20:.3g} MiB for each step, which takes {sent * 8 / 1e9:.2g} s at 1 Gbit/s; "
        "where a step computes for less, one machine alone is as fast. A larger --batch-size has fewer steps."
    )


def _checked(workers: tuple[str, ...], index: int | None, where: str) -> Cluster:
    for address in workers:
        if not _ADDRESS.fullmatch(address):
            raise RequestError(f"{where}: {address!r} is no address; wanted host:port")
    if len(workers) < 2 or len(set(workers)) != len(workers):
        raise RequestError(f"{where}: wanted two workers or more, each once")
    if index is None or not 0 <= index < len(workers):
        raise RequestError(f"{where}: wanted a --worker-index from 0 to {len(workers) - 1}, found {index}")
    return Cluster(workers, index)
