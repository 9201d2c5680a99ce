"""The parent's half of a training: the other workers, the child process, and proof of what it made.

Imports no TensorFlow.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeferry.converter.child import Step, run_child
from edgeferry.converter.errors import ChildError, Code, ConverterError
from edgeferry.converter.preparing.source import prepare, told_by_source
from edgeferry.converter.samples import Samples
from edgeferry.converter.stages import Stages
from edgeferry.converter.training.job import training_job
from edgeferry.converter.training.observing import EPOCHS, STOP
from edgeferry.converter.training.rendezvous import meet
from edgeferry.converter.training.request import TrainingRequest, check_request, key_of
from edgeferry.converter.training.result import Trained, judged, write

__all__ = ["explain", "stop", "train"]


def train(
    request: TrainingRequest, say: Callable[[str], None], watch: Callable[[Step], None], home: Path
) -> Trained | None:
    """Return what ``request`` comes to, its output folder written; None in a worker that is not the chief.

    Args:
        request: What to do.
        say: Called with a sentence at each step and after each epoch.
        watch: Told how far a child process is.
        home: An empty folder for files in between; `stop` ends a training that works there.

    Raises:
        ConverterError: See `errors`; nothing was written.
    """
    check_request(request)
    stages = Stages(None, watch)
    sources = _prepared(request, stages, say, home)
    learnt_from, judged_by = sources[request.data], sources[request.evaluation]
    folder = home / "child"
    with told_by_source(sources):
        Samples.load(learnt_from)
        samples = Samples.load(judged_by)
        key = key_of(request, learnt_from)
        if request.cluster is not None:
            meet(request.cluster, key, say=say, patience_s=request.patience_s)
        say(f"training {request.model.name}: {', '.join(request.recipe.techniques)}")
        job = training_job(
            request.model,
            learnt_from,
            judged_by,
            request.recipe,
            keeps_float=request.keeps_float,
            checkpoints=request.unfinished,
            key=key,
            resumes=request.resumes,
            board=request.board and request.board.absolute(),
            cluster=asdict(request.cluster) if request.cluster else None,
        )
        report = _run(request, job, folder, _EpochTeller(folder / EPOCHS, say, watch))
    if not request.is_chief:
        return None
    say("running the model as it was and as it is on the evaluation samples")
    trained = judged(request, samples, folder, report, stages)
    write(request, trained, folder)
    shutil.rmtree(request.unfinished, ignore_errors=True)
    return trained


def explain(request: TrainingRequest, home: Path) -> str:
    """Return in words which strategy a training would take, and why.

    Raises:
        ConverterError: The model cannot be loaded, or what was asked for makes no sense.
    """
    cluster = asdict(request.cluster) if request.cluster else None
    job = {"model": request.model, "strategy": request.recipe.strategy, "cluster": cluster}
    what = f"looking at {request.model.name}"
    told = run_child("edgeferry.converter.training.explaining", job, folder=home / "child", what=what)
    return str(told["explanation"])


def stop(home: Path) -> None:
    """Let the training that works in ``home`` end soon, with the best weights that it has."""
    (home / "child" / STOP).touch()


def _prepared(request: TrainingRequest, stages: Stages, say: Callable[[str], None], home: Path) -> dict[Path, Path]:
    """Return where the samples of each source can be read."""
    return {
        source: prepare(
            stages,
            source,
            folder=home / f"samples-{number}",
            say=say,
            deadline_s=request.deadline_s,
            preprocessing=request.preprocessing,
        )
        for number, source in enumerate(dict.fromkeys((request.data, request.evaluation)))
    }


def _run(request: TrainingRequest, job: Mapping[str, object], folder: Path, watch: Callable[[Step], None]) -> Any:
    what = f"training {request.model.name}"
    try:
        return run_child(
            "edgeferry.converter.training", job, folder=folder, what=what, deadline_s=request.deadline_s, watch=watch
        )
    except ChildError as err:
        if request.cluster is None:
            raise
        sentence = f"{err}; where another worker is gone, start all again with --resume"
        raise ConverterError(sentence, code=Code.WORKER_LOST) from err  # TensorFlow ends a process that is left alone


class _EpochTeller:
    """Says each epoch that the child has written down, and passes on the rest."""

    def __init__(self, path: Path, say: Callable[[str], None], watch: Callable[[Step], None]) -> None:
        self._path = path
        self._say = say
        self._watch = watch
        self._told = 0

    def __call__(self, step: Step) -> None:
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        for line in lines[self._told :]:
            if line.endswith("\n"):
                self._say(_sentence(json.loads(line)))
                self._told += 1
        self._watch(step)


def _sentence(epoch: Mapping[str, Any]) -> str:
    best = ", best so far" if epoch["is_best"] else ""
    return (
        f"{epoch['phase']}, epoch {epoch['number']} of {epoch['epochs']}: loss {epoch['loss']:.4g}, "
        f"{epoch['held_back_loss']:.4g} on samples held back{best}"
    )
