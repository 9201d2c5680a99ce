"""Makes one variant of the float ``.tflite`` with litert-quantizer, in a child process.

`quantize` is the parent's half; run as a module, this file is the child. Job: ``model``, ``recipe``, and ``samples``
where the recipe needs ranges. It leaves ``model.tflite``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import QuantizationError
from edgeferry.converter.schemes import Variant, needs_calibration, recipe
from edgeferry.converter.stages import Stages

if TYPE_CHECKING:
    from edgeferry.converter.samples import EncodedSamples

__all__ = ["main", "quantize"]

_MODEL = "model.tflite"


def quantize(
    stages: Stages,
    float_model: Path,
    variant: Variant,
    calibration: Path | None,
    *,
    folder: Path,
    deadline_s: float,
) -> Path:
    """Return the file of ``variant``, made in ``folder``; of float32 the float model itself.

    Args:
        stages: Does the work, or has done it before.
        float_model: The float ``.tflite``, with one signature.
        variant: What to make of it.
        calibration: Real samples; may be None where the scheme needs none, which `check_request` sees to.
        folder: For the child's files.
        deadline_s: How long it may take.

    Raises:
        ConverterError: The model cannot be quantized this way.
    """
    job: dict[str, object] = {"model": float_model, "recipe": recipe(variant)}
    if not job["recipe"]:
        return float_model
    if needs_calibration(variant.scheme):
        job["samples"] = calibration
    stages.run(
        "edgeferry.converter.quantize",
        job,
        folder=folder,
        what=f"making {variant}",
        outputs=[_MODEL],
        deadline_s=deadline_s,
    )
    return folder / _MODEL


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_quantize)


def _quantize(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    from litert_quantizer import quantizer  # noqa: PLC0415 - the parent must not pay for the child's imports

    from edgeferry.converter.compaction import compacted  # noqa: PLC0415 - see above

    path = Path(job["model"])
    tool = quantizer.Quantizer(path.read_bytes(), job["recipe"])
    ranges = _ranges(path, Path(job["samples"]), job["recipe"], folder) if "samples" in job else None
    report_step(folder, "quantizing")
    try:
        result = tool.quantize(ranges, enable_progress_report=False)
    except (KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as err:
        raise QuantizationError(f"the quantizer refuses the model: {' '.join(str(err).split())[:400]}") from err
    (folder / _MODEL).write_bytes(compacted(result.quantized_model))
    return {}


def _ranges(path: Path, samples: Path, recipe_: list[dict[str, Any]], folder: Path) -> Any:
    from edgeferry.converter.calibration import calibrate  # noqa: PLC0415 - see above
    from edgeferry.converter.samples import EncodedSamples, Samples  # noqa: PLC0415
    from edgeferry.inference.model import Model  # noqa: PLC0415

    report_step(folder, "calibrating")
    inputs = Model.load(path).inputs
    encoded = EncodedSamples(Samples.open(samples).bind(inputs), inputs)
    return calibrate(path.read_bytes(), _signature(path), _counted(encoded, folder), recipe_)


def _counted(samples: "EncodedSamples", folder: Path) -> Iterator[dict[str, Any]]:
    for done, sample in enumerate(samples):
        report_step(folder, "calibrating", done=done, total=len(samples))
        yield sample


def _signature(path: Path) -> str:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - see above

    return str(next(iter(Interpreter(str(path)).get_signature_list())))


if __name__ == "__main__":
    main()
