"""``python -m edgeferry.agent.serving.trial``: loads a candidate, has it prove itself, measures it, and ends.

A file that crashes, hangs or eats memory in the runtime does it here, where nothing is lost. Prints one line of JSON,
a ``TrialReport``; the exit code is 0 when the candidate passed and 1 when it did not.
"""

import math
import os
import resource
import sys
import time
from pathlib import Path
from typing import BinaryIO

from edgeferry.agent.serving.artifact import open_model, read_manifest
from edgeferry.agent.serving.command import TrialOptions
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.lifeline import die_with_parent
from edgeferry.agent.serving.report import TrialReport
from edgeferry.inference.model import Model, ModelError
from edgeferry.inference.selftest import SelfTest, SelfTestError, run_selftest
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import SelfTestSpec
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["run", "try_candidate"]


def try_candidate(options: TrialOptions) -> TrialReport:
    """Return how the candidate did; whatever is wrong with it is in the report."""
    try:
        return _try(options)
    except RequestError as err:
        return _failed(err.code, err.reason, str(err))
    except SelfTestError as err:
        return _failed(Code.FAILED_PRECONDITION, Reason.SELFTEST_INVALID, str(err))
    except ModelError as err:
        return _failed(Code.FAILED_PRECONDITION, Reason.MODEL_INVALID, str(err))
    except MemoryError as err:
        return _failed(
            Code.RESOURCE_EXHAUSTED, Reason.TRIAL_MEMORY, f"no memory was left: {err or 'allocation failed'}"
        )


def _try(options: TrialOptions) -> TrialReport:
    manifest = read_manifest(options.manifest)
    began_s = time.perf_counter()
    model = open_model(options.model, manifest, threads=options.threads)
    load_ms = (time.perf_counter() - began_s) * 1e3
    selftest = SelfTest.load(options.selftest)
    problem = _selftest_problem(model, selftest, manifest.selftest)
    times_ms = [] if problem else _times_ms(model, selftest, options)
    return TrialReport(
        problem=problem,
        load_ms=round(load_ms, 3),
        runs=len(times_ms),
        invoke_p50_ms=_quantile(times_ms, 0.50),
        invoke_p95_ms=_quantile(times_ms, 0.95),
        peak_rss_bytes=_peak_rss_bytes(),
        samples=selftest.samples,
    )


def _selftest_problem(model: Model, selftest: SelfTest, spec: SelfTestSpec) -> Problem | None:
    mismatch = run_selftest(model, selftest, spec)
    return Problem(Code.FAILED_PRECONDITION, Reason.SELFTEST_MISMATCH, str(mismatch)) if mismatch else None


def _times_ms(model: Model, selftest: SelfTest, options: TrialOptions) -> list[float]:
    """Return how long each run took; the self-test has warmed the model up."""
    inputs = [{name: golden[at] for name, golden in selftest.inputs.items()} for at in range(selftest.samples)]
    times_ms: list[float] = []
    left_ms = options.runs_s * 1e3
    while len(times_ms) < options.max_runs and left_ms > 0:
        began_s = time.perf_counter()
        model.run(inputs[len(times_ms) % len(inputs)])
        times_ms.append((time.perf_counter() - began_s) * 1e3)
        left_ms -= times_ms[-1]
    return times_ms


def _quantile(times_ms: list[float], share: float) -> float:
    """Return the time that ``share`` of all runs did not exceed (nearest rank); 0 without runs."""
    rank = max(0, math.ceil(share * len(times_ms)) - 1)
    return round(sorted(times_ms)[rank], 3) if times_ms else 0.0


def _failed(code: Code, reason: Reason, detail: str) -> TrialReport:
    return TrialReport(problem=Problem(code, reason, detail), peak_rss_bytes=_peak_rss_bytes())


def _peak_rss_bytes() -> int:
    # Not ru_maxrss: across exec() the kernel carries over what the agent held when it forked.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(arguments: list[str], output: BinaryIO) -> int:
    """Try the candidate that ``arguments`` name, write the report to ``output``, and return the exit code."""
    options = TrialOptions.parse(arguments)
    die_with_parent(options.parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options.data_limit_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (options.data_limit_bytes, options.data_limit_bytes))
    report = try_candidate(options)
    output.write(encode(report) + b"\n")
    output.flush()
    return 0 if report.passed else 1


def _private_output() -> BinaryIO:
    # What native code prints goes to standard error, so that the report stays the only line.
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], _private_output()))
