"""How the serving and the trial process are started: their command lines and what they get of the environment.

Imported by the control plane, which builds these commands, and by both processes, which parse them.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "TRIAL_RUNS",
    "TRIAL_RUNS_S",
    "ServingOptions",
    "TrialOptions",
    "child_environment",
    "pipelines_command",
    "probe_command",
]

TRIAL_RUNS = 20
TRIAL_RUNS_S = 2.0

_OPTIONAL = ("socket", "http", "blackbox", "grpc", "models", "tls_certificate", "tls_key", "token_file")
_INHERITED = ("HOME", "JOURNAL_STREAM", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a child: none of the agent's secrets, and settings that save memory."""
    source = os.environ if environment is None else environment
    return {name: source[name] for name in _INHERITED if name in source} | {
        "MALLOC_ARENA_MAX": "2",  # glibc's default of 8 per core keeps what other threads have freed
        "OPENBLAS_NUM_THREADS": "1",  # numpy multiplies nothing here; each of its threads would hold a buffer
        "PYTHONUNBUFFERED": "1",
    }


def pipelines_command(config: Path, socket: Path) -> list[str]:
    """Return the command line of the process that runs the pipelines in ``config``, and ends with this one."""
    places = ["--config", str(config), "--socket", str(socket), "--parent-pid", str(os.getpid())]
    return _python(".pipelines") + places


def probe_command() -> list[str]:
    """Return the command line that loads the runtime and says which it is."""
    return _python(".probe")


def _python(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"edgeferry.agent.serving{module}"]  # -P: nothing from the current directory


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """What the serving process is told.

    Attributes:
        socket: Path of the Unix socket; what comes through it may load and unload models. None for no such listener.
        http: HOST:PORT for everybody; None for no such listener.
        threads: Of each interpreter.
        blackbox: File that tells the supervisor which model is being run; None for none.
        parent_pid: Process whose end ends this one; 0 for none.
        queue: Requests that may wait for each version of a model.
        body_limit_bytes: Of one request.
        request_timeout_s: For requests that name no deadline of their own.
        grpc: HOST:PORT for gRPC; None for no such listener.
        models: Folder of models to load at the start; None for none.
        all_versions: Load every version in there, not only the latest of each model.
        tls_certificate: PEM file for both network listeners; with key and token other machines may connect.
        tls_key: PEM file of its private key.
        token_file: File with the token that clients have to show.
    """

    socket: Path | None = None
    http: str | None = None
    threads: int = 1
    blackbox: Path | None = None
    parent_pid: int = 0
    queue: int = 64
    body_limit_bytes: int = 64 * 1024 * 1024
    request_timeout_s: float = 30.0
    grpc: str | None = None
    models: Path | None = None
    all_versions: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None

    def command(self) -> list[str]:
        """Return the command line that says the same."""
        command = [*_python(""), "--threads", str(self.threads)]
        command += ["--parent-pid", str(self.parent_pid), "--queue", str(self.queue)]
        command += ["--body-limit-bytes", str(self.body_limit_bytes)]
        command += ["--request-timeout-s", str(self.request_timeout_s)]
        for name in _OPTIONAL:
            value = getattr(self, name)
            command += [f"--{name.replace('_', '-')}", str(value)] if value else []
        return [*command, "--all-versions"] if self.all_versions else command

    @classmethod
    def parse(cls, arguments: list[str]) -> "ServingOptions":
        """Return what ``arguments`` say; a wrong one ends the process with a usage message and 2."""
        parser = _parser(
            "edgeferry.agent.serving", "Serve models: TensorFlow Serving's and the Open Inference Protocol."
        )
        parser.add_argument("--socket", type=Path, help="path of the Unix socket")
        parser.add_argument("--http", metavar="HOST:PORT", help="listen here")
        parser.add_argument("--grpc", metavar="HOST:PORT", help="listen here for gRPC")
        parser.add_argument("--models", type=Path, metavar="DIR", help="load NAME/VERSION/model.tflite from here")
        parser.add_argument("--all-versions", action="store_true", help="of each model, not only the latest")
        parser.add_argument("--tls-certificate", type=Path, metavar="PEM", help="with key and token: for the network")
        parser.add_argument("--tls-key", type=Path, metavar="PEM", help="the certificate's private key")
        parser.add_argument("--token-file", type=Path, metavar="FILE", help="what clients have to show")
        parser.add_argument("--threads", type=_positive, help="of each interpreter")
        parser.add_argument("--blackbox", type=Path, help="where to note which model is being run")
        parser.add_argument("--parent-pid", type=int, help="end when this process ends")
        parser.add_argument("--queue", type=_positive, help="requests waiting for each version")
        parser.add_argument("--body-limit-bytes", type=_positive)
        parser.add_argument("--request-timeout-s", type=float)
        options = cls(**vars(parser.parse_args(arguments)))
        if not (options.socket or options.http or options.grpc):
            parser.error("nowhere to listen: say --socket, --http or --grpc")
        return options


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """What a trial process is told.

    Attributes:
        data_limit_bytes: Private memory that it may allocate (RLIMIT_DATA); 0 for no limit.
        max_runs: After the self-test, at most, to take the time of one.
        runs_s: How long they may take together.
    """

    model: Path
    manifest: Path
    selftest: Path
    threads: int = 1
    parent_pid: int = 0
    data_limit_bytes: int = 0
    max_runs: int = TRIAL_RUNS
    runs_s: float = TRIAL_RUNS_S

    def command(self) -> list[str]:
        """Return the command line that says the same."""
        command = [*_python(".trial"), "--model", str(self.model), "--manifest", str(self.manifest)]
        command += ["--selftest", str(self.selftest), "--threads", str(self.threads)]
        command += ["--parent-pid", str(self.parent_pid), "--data-limit-bytes", str(self.data_limit_bytes)]
        return [*command, "--max-runs", str(self.max_runs), "--runs-s", str(self.runs_s)]

    @classmethod
    def parse(cls, arguments: list[str]) -> "TrialOptions":
        """Return what ``arguments`` say; a wrong one ends the process with a usage message and 2."""
        parser = _parser("edgeferry.agent.serving.trial", "Try one model once.")
        for name in ("model", "manifest", "selftest"):
            parser.add_argument(f"--{name}", type=Path, required=True, help=f"the artifact's {name}")
        parser.add_argument("--threads", type=_positive, help="of the interpreter")
        parser.add_argument("--parent-pid", type=int, help="end when this process ends")
        parser.add_argument("--data-limit-bytes", type=int, help="private memory; 0 for no limit")
        parser.add_argument("--max-runs", type=_positive, help="after the self-test, at most")
        parser.add_argument("--runs-s", type=float, help="seconds that they may take together")
        return cls(**vars(parser.parse_args(arguments)))


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    # What is not said stays out, so that the defaults stand in one place: the options' own.
    return argparse.ArgumentParser(program, description=description, argument_default=argparse.SUPPRESS)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
