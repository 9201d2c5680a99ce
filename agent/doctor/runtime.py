"""Whether Python and the runtime are those that the profile wants, and whether the runtime loads on this machine."""

import platform
import signal
import subprocess
from collections.abc import Iterator, Sequence

from edgeferry.agent.doctor.finding import Finding, fine, problem, warning
from edgeferry.agent.doctor.versions import is_within
from edgeferry.agent.serving.command import child_environment, probe_command
from edgeferry.device_profiles.profile import Runtime

__all__ = ["examine_runtime"]

TIMEOUT_S = 60.0  # a Zero 2 W reads 30 MB of libraries from a slow card


def examine_runtime(runtime: Runtime, command: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield how Python and the runtime are.

    Args:
        runtime: What the profile wants.
        command: Loads the runtime and prints its package and version; the agent's own when it is None.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    if python not in runtime.python:
        wanted = ", ".join(runtime.python)
        yield warning(
            "python", f"{python}; the profile knows {wanted}", f"install edgeferry with Python {runtime.python[-1]}"
        )
    yield _loaded(runtime, list(command or probe_command()))


def _loaded(runtime: Runtime, command: list[str]) -> Finding:
    install = f"install it where edgeferry is: pip install '{runtime.package}{runtime.version}'"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=child_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return problem("runtime", f"it could not be loaded: {err}", install)
    if done.returncode < 0:
        killed = signal.Signals(-done.returncode).name
        advice = "this build is not made for this processor; " + install
        return problem("runtime", f"loading it ended with {killed}", advice)
    if done.returncode:
        return problem("runtime", _last_line(done.stdout or done.stderr), install)
    return _version(runtime, done.stdout.strip(), install)


def _version(runtime: Runtime, found: str, install: str) -> Finding:
    package, _, version = found.rpartition(" ")
    if package != str(runtime.package):
        return warning("runtime", f"{found}; the profile wants {runtime.package} {runtime.version}", install)
    if is_within(version, runtime.version) is False:
        return warning("runtime", f"{found}; the profile was tried with {runtime.version}", install)
    return fine("runtime", f"{found} loads")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it failed without a word"])[-1][:300]
