"""``python -m edgeferry.agent.serving.trial``: loads a candidate, has it prove itself, measures it, and ends.

A file that crashes, hangs or eats memory in the runtime does it here, where nothing is lost. Prints one line of JSON,
a ``TrialReport``; the exit code is 0 when the candidate passed and 1 when it did not.
"""

import os
import resource
import statistics
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

_RUNS = 20
_RUNS_BUDGET_S = 2.0


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
    return TrialReport(
        problem=problem,
        load_ms=round(load_ms, 3),
        invoke_p50_ms=0.0 if problem else round(_invoke_p50_ms(model, selftest), 3),
        peak_rss_bytes=_peak_rss_bytes(),
        samples=selftest.samples,
    )


def _selftest_problem(model: Model, selftest: SelfTest, spec: SelfTestSpec) -> Problem | None:
    mismatch = run_selftest(model, selftest, spec)
    return Problem(Code.FAILED_PRECONDITION, Reason.SELFTEST_MISMATCH, str(mismatch)) if mismatch else None


def _invoke_p50_ms(model: Model, selftest: SelfTest) -> float:
    inputs = {name: samples[0] for name, samples in selftest.inputs.items()}
    times_s: list[float] = []
    while len(times_s) < _RUNS and sum(times_s) < _RUNS_BUDGET_S:
        began_s = time.perf_counter()
        model.run(inputs)
        times_s.append(time.perf_counter() - began_s)
    return statistics.median(times_s) * 1e3


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
