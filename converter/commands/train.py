"""``edgeferry train``: a model is trained for the device, where converting it alone costs too much."""

import dataclasses
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edgeferry.converter.child import MAX_DEADLINE_S
from edgeferry.converter.commands.ending import explained_errors
from edgeferry.converter.errors import RequestError

if TYPE_CHECKING:
    from edgeferry.converter.progress import Face
    from edgeferry.converter.training.recipe import Recipe
    from edgeferry.converter.training.request import TrainingRequest
    from edgeferry.converter.training.result import Trained

__all__ = ["train"]

_FILE = click.Path(path_type=Path)
_AGREEMENT = 0.995


@click.command(short_help="Train a model to be small, or to live with int8.")
@click.argument("model", type=_FILE)
@click.option("--recipe", "recipe_file", type=_FILE, help="YAML file that says what to do; options win over it.")
@click.option(
    "--technique", "techniques", multiple=True, help="qat, pruning, clustering or distillation; may be repeated."
)
@click.option("--data", type=_FILE, help="Samples to learn from, with labels where there are any.")
@click.option("--evaluation", type=_FILE, help="Held-out samples; those of --data unless given.")
@click.option("--preprocessing", type=_FILE, help="How pictures, sound or tables become the model's input; YAML.")
@click.option("--epochs", type=click.IntRange(0, 10_000), help="Of each technique; 5 unless given.")
@click.option("--batch-size", type=click.IntRange(1, 65_536), help="Samples in a step; 32 unless given.")
@click.option("--learning-rate", type=click.FloatRange(0, 10, min_open=True), help="At first; 0.001 unless given.")
@click.option(
    "--sparsity", type=click.FloatRange(0, 1, max_open=True), help="Share of weights to prune; 0.5 unless given."
)
@click.option("--pattern", help="What is pruned together: unstructured (as it is), 2:4, block or channels.")
@click.option("--clusters", type=click.IntRange(2, 256), help="Different weights in a layer; 16 unless given.")
@click.option("--teacher", type=_FILE, help="Keras model to distill from; MODEL itself, as it was, unless given.")
@click.option("--student", metavar="width=W", help="Distill into a model with this share of MODEL's channels.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of everything that is drawn; 0 unless given.")
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), help="After that, end with the best weights so far."
)
@click.option(
    "--unsupported",
    type=click.Choice(["stop", "float"]),
    default="stop",
    show_default=True,
    help="What to do with layers that have no integer form.",
)
@click.option("--strategy", help="auto (as it is), none, mirrored or multi-worker: where the steps run.")
@click.option(
    "--workers", metavar="HOST:PORT,...", help="Machines that train together; the first one writes the result."
)
@click.option("--worker-index", type=click.IntRange(0), help="Which of --workers this is, from 0.")
@click.option(
    "--worker-timeout",
    "patience_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=300,
    show_default=True,
    help="Seconds to wait for the other workers.",
)
@click.option("--resume", "resumes", is_flag=True, help="Go on where a training with the same -o has ended.")
@click.option("--tensorboard", "board", type=_FILE, metavar="DIR", help="Write each epoch's losses there, as it ends.")
@click.option("--explain-strategy", is_flag=True, help="Say which strategy fits, and why; nothing is trained.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, MAX_DEADLINE_S),
    default=MAX_DEADLINE_S,
    help="Seconds after which it is given up; a week unless given.",
)
@click.option("-o", "--output", type=_FILE, required=True, help="Folder to make.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train(*, as_json: bool, **options: Any) -> None:
    """Train MODEL (.keras, .h5) with the techniques of a recipe, and write model.tflite and model.keras.

    Ctrl-C ends the training with the best weights so far; a second one drops it.

    Example: edgeferry train digits.keras --technique qat --data train.npz --evaluation test.npz -o trained
    """
    from edgeferry.converter.progress import face_for  # noqa: PLC0415 - `edgeferry --help` shall be quick
    from edgeferry.converter.training.run import train as run  # noqa: PLC0415

    with explained_errors():
        request = _request(options)
        if options["explain_strategy"]:
            _explain(request)
            return
        with (
            face_for(sys.stderr) as face,
            tempfile.TemporaryDirectory(prefix="edgeferry-train-") as home,
            nullcontext() if request.cluster else _stopped_gently(Path(home), face),  # several have to stop together
        ):
            trained = run(request, face.say, face.watch, Path(home))
    if trained is None:
        click.echo("this worker is done; the first one has written the result", err=True)
        return
    _show(request, trained, as_json=as_json)


def _explain(request: "TrainingRequest") -> None:
    from edgeferry.converter.training.run import explain  # noqa: PLC0415 - see above

    with tempfile.TemporaryDirectory(prefix="edgeferry-train-") as home:
        click.echo(explain(request, Path(home)))


def _request(options: dict[str, Any]) -> "TrainingRequest":
    from edgeferry.converter.training.recipe import checked  # noqa: PLC0415 - see above
    from edgeferry.converter.training.request import TrainingRequest  # noqa: PLC0415
    from edgeferry.converter.training.strategies import cluster_from  # noqa: PLC0415

    recipe = checked(_with_options(_recipe(options["recipe_file"]), options))
    return TrainingRequest(
        model=options["model"],
        recipe=recipe,
        output=options["output"],
        keeps_float=options["unsupported"] == "float",
        deadline_s=options["timeout_s"],
        preprocessing=options["preprocessing"],
        cluster=cluster_from(options["workers"], options["worker_index"], os.environ),
        patience_s=options["patience_s"],
        resumes=options["resumes"],
        board=options["board"],
    )


def _recipe(path: Path | None) -> "Recipe":
    from edgeferry.converter.training.recipe import Recipe, parse_recipe  # noqa: PLC0415 - see above

    if path is None:
        return Recipe()
    try:
        return parse_recipe(path.read_bytes(), str(path))
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}; wanted a recipe, a YAML file") from err


def _with_options(recipe: "Recipe", options: dict[str, Any]) -> "Recipe":
    """Return ``recipe`` with what options say in the place of what it says itself."""
    from edgeferry.converter.training.recipe import Pattern, Technique  # noqa: PLC0415 - see above
    from edgeferry.converter.training.strategies import Strategy  # noqa: PLC0415

    techniques = tuple(_named(Technique, name, "--technique") for name in options["techniques"])
    pattern = options["pattern"] and _named(Pattern, options["pattern"], "--pattern")
    given: dict[str, Any] = _given(
        techniques=techniques, **{name: options[name] for name in ("epochs", "batch_size", "seed", "minutes")}
    )
    given |= _given(strategy=options["strategy"] and _named(Strategy, options["strategy"], "--strategy"))
    paths = {name: str(options[name]) for name in ("data", "evaluation") if options[name] is not None}
    return dataclasses.replace(
        recipe,
        **{**given, **paths},
        optimizer=dataclasses.replace(recipe.optimizer, **_given(learning_rate=options["learning_rate"])),
        pruning=dataclasses.replace(recipe.pruning, **_given(sparsity=options["sparsity"], pattern=pattern)),
        distillation=dataclasses.replace(
            recipe.distillation,
            **_given(teacher=options["teacher"] and str(options["teacher"]), width=_width(options["student"])),
        ),
        clustering=dataclasses.replace(recipe.clustering, **_given(clusters=options["clusters"])),
    )


def _width(student: str | None) -> float | None:
    if student is None:
        return None
    found = re.fullmatch(r"width=(0?\.[0-9]{1,6}|1)", student)
    if found is None:
        raise RequestError(f"--student {student!r}: wanted the share of channels that it keeps, such as width=0.5")
    return float(found[1])


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, ())}


def _named(kind: Any, name: str, option: str) -> Any:
    if name not in list(kind):
        raise RequestError(f"{option} {name!r} is not known; wanted one of {', '.join(kind)}")
    return kind(name)


@contextmanager
def _stopped_gently(home: Path, face: "Face") -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the training with what it has, and the second one end it at once."""
    from edgeferry.converter.training.run import stop  # noqa: PLC0415 - see above

    if threading.current_thread() is not threading.main_thread():  # Python's rule for signal handlers
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        face.say("ending with the best weights so far; press Ctrl-C again to drop them")
        stop(home)

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(request: "TrainingRequest", trained: "Trained", *, as_json: bool) -> None:
    from edgeferry.converter.selection import in_mib  # noqa: PLC0415 - see above
    from edgeferry.converter.table import text_table  # noqa: PLC0415 - see above

    evaluation = trained.evaluation
    if not request.is_held_out:
        click.echo("judged by the samples that it learned from; give held-out ones with --evaluation", err=True)
    for phase in () if request.resumes else trained.idle_phases:  # of one that goes on, not all epochs are known
        click.echo(f"no epoch of {phase} was better than its start; a smaller --learning-rate may be", err=True)
    if trained.agreement < _AGREEMENT:
        click.echo(f"model.tflite answers as the trained model on {_agreement(trained)} only", err=True)
    if as_json:
        click.echo((request.output / "training.json").read_text(), nl=False)
        return
    scores = f"{evaluation.float_score:.4f}", f"{evaluation.score:.4f}"
    rows = [
        (name, score, in_mib(sizes.file_bytes), in_mib(sizes.compressed_bytes), f"{latency_ms:.3g} ms")
        for name, score, sizes, latency_ms in zip(
            ("before", "after"), scores, (trained.before, trained.after), trained.latency_ms, strict=True
        )
    ]
    click.echo(text_table(("", evaluation.metric, "size", "compressed", "latency here"), rows))
    low, high = evaluation.interval
    click.echo(f"drop {evaluation.drop:+.4f} ({low:+.4f} to {high:+.4f}, 95 %)")
    click.echo(f"model.tflite answers as the trained model: {_agreement(trained)}")
    click.echo(f"Wrote {request.output}")


def _agreement(trained: "Trained") -> str:
    if trained.is_agreement_of_classes:
        return f"{trained.agreement:.2%} of {trained.evaluation.samples} samples"
    return f"R2 {trained.agreement:.4f} over {trained.evaluation.samples} samples"
