"""Figures as people read them."""

from collections.abc import Mapping, Sequence

__all__ = [
    "ERRORS",
    "METRICS",
    "SIZES",
    "TIMES",
    "bytes_of",
    "counted",
    "hash_of",
    "milliseconds",
    "percent",
    "unit_of",
]

SIZES = (("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
TIMES = (("s", 1000.0), ("ms", 1.0), ("µs", 0.001))

ERRORS = frozenset({"mae", "rmse"})  # metrics of which less is better; their loss is told in deviations of the labels

METRICS: Mapping[str, str] = {
    "accuracy": "Share of right classes, of the float model less that of the candidate",
    "top5_accuracy": "Share of classes among the five best, of the float model less that of the candidate",
    "balanced_accuracy": "Mean share of right ones over the classes, of the float model less that of the candidate",
    "roc_auc": "Area under the ROC curve, of the float model less that of the candidate",
    "mean_iou": "Mean overlap with the labelled areas, of the float model less that of the candidate",
    "mae": "Mean absolute error, of the candidate less that of the float model, in deviations of labels",
    "rmse": "Root mean squared error, of the candidate less that of the float model, in deviations of labels",
    "top1_agreement": "Share of samples to which the candidate gives another class than the float model",
    "r2_agreement": "Share of the float outputs' variance that the candidate does not explain",
}


def bytes_of(size_bytes: float) -> str:
    """Return a size: ``830 KiB``, ``1.25 MiB``."""
    if size_bytes >= 2**20:
        return f"{size_bytes / 2**20:.3g} MiB" if size_bytes < 1000 * 2**20 else f"{size_bytes / 2**30:.3g} GiB"
    return f"{size_bytes / 2**10:.3g} KiB" if size_bytes >= 2**10 else f"{size_bytes:.0f} B"


def milliseconds(time_ms: float) -> str:
    """Return a time: ``3.62 ms``, ``48 µs``."""
    if time_ms and time_ms < 0.1:
        return f"{time_ms * 1000:.3g} µs"
    return f"{time_ms:.3g} ms"


def percent(share: float) -> str:
    """Return a share: ``12 %``, ``0.4 %``."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.0f} %"


def unit_of(most: float, units: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """Return the unit in which ``most`` is at least 1, of ``units`` from the largest to the smallest, and its size."""
    return next(((name, size) for name, size in units if most >= size), units[-1])


def counted(count: int, noun: str) -> str:
    """Return ``1 sample`` or ``2 samples``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def hash_of(sha256: str) -> str:
    """Return a hash in groups of eight, which a browser may break."""
    return " ".join(sha256[at : at + 8] for at in range(0, len(sha256), 8))
