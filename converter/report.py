"""``report.json``: the whole story of a conversion as data, for people and for tools. Pure, but for `provenance`."""

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeferry.converter.fingerprints import Fingerprints
from edgeferry.converter.selection import Candidate, Choice, Verdict
from edgeferry.converter.toolchain import processor, versions
from edgeferry.device_profiles import Budgets

__all__ = ["evaluation_summary", "host", "provenance", "report", "verdict_row"]

FORMAT = 1


def report(choice: Choice, budgets: Budgets, *, looks: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of one profile.

    Args:
        choice: What the profile got, and why.
        budgets: The profile's.
        looks: By scheme, what was found by looking into a variant: its answers, layers and operations.
        facts: What is the same for all profiles: source, samples, host.
    """
    return {
        "format": FORMAT,
        "profile": choice.profile,
        "scheme": choice.chosen.scheme if choice.chosen else None,
        "budgets": {"model_bytes": budgets.model_bytes, "memory_bytes": budgets.memory_bytes},
        "candidates": [verdict_row(verdict) for verdict in choice.verdicts],
        "repairs": {scheme: [asdict(step) for step in steps] for scheme, steps in choice.steps.items()},
        "looks": dict(looks),
        **facts,
    }


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """Return one scheme's figures, and why it was or was not chosen."""
    candidate = verdict.candidate
    figures = {} if candidate is None else _figures(candidate)
    if verdict.latency is not None and verdict.latency.is_of_device:
        figures["device_latency"] = asdict(verdict.latency)
    state = (
        "chosen" if verdict.reason.startswith("chosen") else "good" if candidate and not verdict.misses else "rejected"
    )
    return {"scheme": verdict.scheme, **figures, "state": state, "verdict": verdict.reason}


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


def provenance(path: Path, fingerprints: Fingerprints) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, or of a folder: its files' names and hashes, in order."""
    found = fingerprints.of(path)
    return {"name": path.name, "size_bytes": found.size_bytes, "sha256": found.sha256}


def host() -> dict[str, Any]:
    """Return on what the figures were measured."""
    packages = versions()
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "python": packages.pop("python"),
        "packages": packages,
    }


def _figures(candidate: Candidate) -> dict[str, Any]:
    return {
        "size_bytes": candidate.size_bytes,
        "memory_bytes": candidate.memory_bytes,
        "host_latency_ms": round(candidate.latency_ms, 4),
        "host_p95_ms": round(candidate.p95_ms, 4),
        "repaired_by": candidate.repaired_by,
        "evaluation": evaluation_summary(candidate),
    }
