"""`make fuzz`: a million inputs, shared out among the targets, each target in a process of its own.

    python -m tests.fuzz [--inputs N] [--first NUMBER] [--target NAME]

Ends with 1 and keeps the input in tests/fuzz/corpus when a parser does not refuse one in order. A parser that takes its
process with it is a finding, too.
"""

import argparse
import hashlib
import logging
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from tests.fuzz.inputs import input_of
from tests.fuzz.running import Finding, bounded_memory, try_input
from tests.fuzz.targets import Target, targets

CORPUS = Path(__file__).parent / "corpus"
_fork = multiprocessing.get_context("fork")  # the targets are made once


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Feed parsers with what is almost right.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all (default: 1000000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input; others make other inputs")
    parser.add_argument("--target", help="this one alone")
    asked = parser.parse_args()
    chosen = [target for target in targets() if asked.target in {None, target.name}]
    if not chosen:
        parser.error(f"no target {asked.target!r}; there are {', '.join(target.name for target in targets())}")
    return _run(chosen, asked.inputs, asked.first)


def _run(chosen: list[Target], inputs: int, first: int) -> int:
    weights, began, done, findings = sum(target.weight for target in chosen), time.monotonic(), 0, []
    left = inputs
    for at, target in enumerate(chosen):
        count = left if at == len(chosen) - 1 else inputs * target.weight // weights
        left -= count
        tried, finding = _tried(target, range(first, first + count))
        done += tried
        spent = time.monotonic() - began
        remaining = spent * (inputs - done) / max(done, 1)
        found = ", A FINDING" if finding else ""
        print(f"{target.name}: {tried} inputs{found}; {done} of {inputs}, about {remaining:.0f} s left", flush=True)
        if finding:
            findings.append(_kept(finding))
    for line in findings:
        print(line, file=sys.stderr)
    print(f"{done} inputs, {len(chosen)} targets, {len(findings)} findings, {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


def _tried(target: Target, numbers: range) -> tuple[int, Finding | None]:
    """Return how many inputs were tried and the first finding; that, too, of a process that died."""
    tried: Synchronized[int] = _fork.Value("q", 0)
    ours, theirs = _fork.Pipe(duplex=False)
    child = _fork.Process(target=_try_all, args=(target, numbers, tried, theirs))
    child.start()
    theirs.close()
    try:
        finding = ours.recv()
    except EOFError:
        child.join()
        number = numbers.start + tried.value - 1
        data = input_of(target.name, target.seeds, number)
        finding = Finding(target.name, data, f"the process ended with {child.exitcode}")
    child.join()
    return tried.value, finding


def _try_all(target: Target, numbers: range, tried: "Synchronized[int]", theirs: Connection) -> None:
    logging.disable()  # what is refused is logged, and a million lines are nobody's
    bounded_memory()
    finding = None
    for number in numbers:
        tried.value += 1
        finding = try_input(target, input_of(target.name, target.seeds, number))
        if finding:
            break
    theirs.send(finding)


def _kept(finding: Finding) -> str:
    path = CORPUS / finding.target / hashlib.sha256(finding.data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(finding.data)
    return f"{finding.target}: {finding.error}; kept as {path}"


if __name__ == "__main__":
    sys.exit(main())
