"""Whether the doctor sees that the runtime loads, is another one, or breaks."""

import sys
from dataclasses import replace

import pytest

from edgeferry.agent.doctor.finding import Finding, Verdict
from edgeferry.agent.doctor.runtime import examine_runtime
from edgeferry.device_profiles import load_profile

PROFILE = load_profile("generic-x86-64").runtime


def seen(script: str) -> Finding:
    (found,) = examine_runtime(PROFILE, [sys.executable, "-c", script])
    return found


def test_the_runtime_of_this_machine_is_loaded_in_a_process_of_its_own() -> None:
    (found,) = examine_runtime(PROFILE)

    assert found.verdict is Verdict.FINE
    assert found.found.startswith("ai-edge-litert 2.3")


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        ("print('ai-edge-litert 9.0')", Verdict.WARNING, "was tried with"),
        ("print('tflite-runtime 2.14.0')", Verdict.WARNING, "the profile wants ai-edge-litert"),
        ("print('no TensorFlow Lite runtime'); raise SystemExit(1)", Verdict.PROBLEM, "no TensorFlow Lite runtime"),
        ("raise SystemExit(1)", Verdict.PROBLEM, "without a word"),
        ("import os; os.kill(os.getpid(), 4)", Verdict.PROBLEM, "SIGILL"),
    ],
)
def test_what_is_wrong_with_it_is_told_and_how_to_install_it(script: str, verdict: Verdict, words: str) -> None:
    found = seen(script)

    assert found.verdict is verdict
    assert words in found.found
    assert "pip install 'ai-edge-litert" in found.advice


def test_a_python_that_the_profile_does_not_know_is_a_warning() -> None:
    first, _ = examine_runtime(replace(PROFILE, python=("3.9",)), [sys.executable, "-c", "print('ai-edge-litert 2.3')"])

    assert (first.subject, first.verdict) == ("python", Verdict.WARNING)


def test_a_program_that_is_not_there_is_told() -> None:
    (found,) = examine_runtime(PROFILE, ["/nowhere/python"])

    assert found.verdict is Verdict.PROBLEM
