"""``report.json``: the whole story of a conversion as data, for people and for tools. Pure, but for `provenance`."""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeferry.converter.selection import Candidate, Choice, Verdict

__all__ = ["evaluation_summary", "host", "provenance", "report", "verdict_row"]

FORMAT = 1
_PACKAGES = ("edgeferry", "tensorflow", "tensorflow-cpu", "keras", "litert-quantizer", "ai-edge-litert", "numpy")


def report(choice: Choice, *, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of one profile.

    Args:
        choice: What the profile got, and why.
        facts: What is the same for all profiles: source, samples, host.
    """
    return {
        "format": FORMAT,
        "profile": choice.profile,
        "scheme": choice.chosen.scheme if choice.chosen else None,
        "candidates": [verdict_row(verdict) for verdict in choice.verdicts],
        "repairs": {scheme: [asdict(step) for step in steps] for scheme, steps in choice.steps.items()},
        **facts,
    }


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """Return one scheme's figures, and why it was or was not chosen."""
    candidate = verdict.candidate
    figures = {} if candidate is None else _figures(candidate)
    return {"scheme": verdict.scheme, **figures, "verdict": verdict.reason}


def evaluation_summary(candidate: Candidate) -> dict[str, Any]:
    """Return what a manifest says of the evaluation."""
    evaluation = candidate.evaluation
    return {
        "metric": evaluation.metric,
        "float": evaluation.float_score,
        "candidate": evaluation.score,
        "drop": evaluation.drop,
        "drop_95": list(evaluation.interval),
        "samples": evaluation.samples,
    }


def provenance(path: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, or of a folder: its files' names and hashes, in order."""
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for entry in files:
        with entry.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        if entry == path:
            digest = content
        else:
            digest.update(f"{entry.relative_to(path)}\0{content.hexdigest()}\n".encode())
    size_bytes = sum(entry.stat().st_size for entry in files)
    return {"name": path.name, "size_bytes": size_bytes, "sha256": digest.hexdigest()}


def host() -> dict[str, Any]:
    """Return on what the figures were measured."""
    return {"machine": platform.machine(), "python": platform.python_version(), "packages": _versions()}


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of tensorflow and tensorflow-cpu is always absent
    return installed


def _figures(candidate: Candidate) -> dict[str, Any]:
    return {
        "size_bytes": candidate.size_bytes,
        "memory_bytes": candidate.memory_bytes,
        "host_latency_ms": round(candidate.latency_ms, 4),
        "repaired_by": candidate.repaired_by,
        "evaluation": evaluation_summary(candidate),
    }
