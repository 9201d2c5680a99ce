"""The child process that makes the attempts of one rung.

Job: ``model`` (the float ``.tflite``), ``samples``, ``recipe``, ``per_channel``, ``rung`` and ``so_far``. It leaves
``attempt-N.tflite``. Its result: ``attempts``, the ``causes`` for which the plain model may lose, and ``refusals``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.compaction import compacted
from edgeferry.converter.repair.diagnosis import causes
from edgeferry.converter.repair.making import Base, Outputs, deviation, outputs_of
from edgeferry.converter.repair.observation import Sample
from edgeferry.converter.repair.plan import Attempt, Repair, Rung, attempts
from edgeferry.converter.repair.ranges import percentile_range
from edgeferry.converter.repair.sensitivity import worst_layers
from edgeferry.converter.samples import EncodedSamples, Samples, count_of
from edgeferry.inference.model import Model

MAX_SAMPLES = 200  # ranges learn no more from others
COMPARED_SAMPLES = 64
MEASURED_SAMPLES = 16  # for each layer
_SAME = 1e-9  # of the variance; scales are powers of two, so nothing but an underflow changes any bit


@dataclass(frozen=True, slots=True)
class _Bench:
    """What attempts are made of and compared with."""

    bases: Mapping[tuple[bool, bool], Base]
    samples: Sequence[Sample]
    reference: Outputs


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_repair)


def _repair(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    report_step(folder, "looking into the float model")
    samples = _samples(Path(job["model"]), Path(job["samples"]))
    plain = Base(Path(job["model"]).read_bytes(), samples, job["recipe"], per_channel=job["per_channel"])
    compared = samples[:COMPARED_SAMPLES]
    reference = outputs_of(plain.content, compared)
    bench = _Bench(_Prepared(plain, compared, reference), compared, reference)
    so_far = msgspec.convert(job["so_far"], Repair)
    wanted = attempts(Rung(job["rung"]), so_far, _worst(bench, so_far) if job["rung"] == Rung.FLOAT_LAYERS else ())
    made: list[Attempt] = []
    refusals: list[str] = []
    for number, repair in enumerate(wanted):
        if repair.is_equalized and not plain.links:
            refusals.append(f"{repair.sentence}: there are no layers between which channels could be rescaled")
            continue
        report_step(folder, f"trying {repair.sentence}")
        try:
            made.append(_attempt(bench, repair, folder / f"attempt-{number}.tflite"))
        except (
            KeyError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as err:  # as litert-quantizer refuses
            refusals.append(f"{repair.sentence}: {' '.join(str(err).split())[:200]}")
    usual = {index: percentile_range(one) for index, one in plain.histograms.items()}
    found = causes(plain.graph, plain.links, plain.peaks, plain.limits, usual)
    return {"attempts": msgspec.to_builtins(made), "causes": msgspec.to_builtins(found), "refusals": refusals}


def _samples(model: Path, path: Path) -> Sequence[Sample]:
    inputs = Model.load(model).inputs
    bound = Samples.open(path).bind(inputs)
    count = count_of(bound)
    wanted = min(count, MAX_SAMPLES)
    return EncodedSamples(bound, inputs, [at * count // wanted for at in range(wanted)])


class _Prepared(dict[tuple[bool, bool], Base]):
    """The model prepared in each way, made when it is asked for: equalized or not, corrected or not."""

    def __init__(self, plain: Base, samples: Sequence[Sample], reference: Outputs) -> None:
        super().__init__({(False, False): plain})
        self._samples = samples
        self._reference = reference

    def __missing__(self, key: tuple[bool, bool]) -> Base:
        is_equalized, is_corrected = key
        self[key] = self[is_equalized, False].corrected() if is_corrected else self._equalized()
        return self[key]

    def _equalized(self) -> Base:
        """Return the model with rescaled channels, which has been seen to answer as before.

        Raises:
            ValueError: It does not; numbers have run over or under.
        """
        made = self[False, False].equalized()
        error = deviation(self._reference, outputs_of(made.content, self._samples))
        if error > _SAME:
            raise ValueError(
                f"with rescaled channels the float model answers otherwise, by {error:.2g} of the variance"
            )
        return made


def _worst(bench: _Bench, so_far: Repair) -> list[tuple[str, ...]]:
    base = bench.bases[so_far.is_equalized, so_far.is_corrected]
    few = bench.samples[:MEASURED_SAMPLES]
    return worst_layers(base, so_far.ranges, few, [output[: len(few)] for output in bench.reference])


def _attempt(bench: _Bench, repair: Repair, path: Path) -> Attempt:
    base = bench.bases[repair.is_equalized, repair.is_corrected]
    content = compacted(base.quantized(repair.ranges, repair.float_layers))
    error = deviation(bench.reference, outputs_of(content, bench.samples))
    path.write_bytes(content)
    return Attempt(repair, error, path.name)


if __name__ == "__main__":
    main()
