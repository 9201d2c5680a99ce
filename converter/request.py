"""What a conversion is asked to do, and whether that makes sense before anything is started. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeferry.converter.child import DEFAULT_DEADLINE_S, MAX_DEADLINE_S
from edgeferry.converter.errors import RequestError
from edgeferry.converter.metrics import Metric
from edgeferry.converter.objective import Objective
from edgeferry.converter.schemes import SUPPORTED, Engine, Io, Variant, needs_calibration, variants
from edgeferry.device_profiles import DeviceProfile, Scheme
from edgeferry.device_profiles.measurements import MeasuredLatency

__all__ = ["ConversionRequest", "check_request"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")  # wire.desired.Name


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """A conversion.

    Attributes:
        model: Path of the source model.
        name: Of the model on the devices.
        profiles: Kinds of devices to convert for.
        output: Folder for ``NAME/N/PROFILE``.
        calibration: Real samples from which int8 learns its ranges.
        evaluation: Held-out samples to judge by; the calibration's where there are none.
        version: Of the artifact; None for the one after the newest in ``output``.
        max_drop: Greatest allowed loss of score, for the upper end of its confidence interval.
        schemes: Only these of a profile's schemes; empty for all.
        deadline_s: How long each child process may take.
        metric: What candidates are judged by; None for what suits labels and outputs.
        io: Inputs and outputs of integer models.
        objective: What is best among the candidates that keep the budgets.
        signature: Of the source; None for its serving signature, or the only one.
        shapes: Of the source's inputs, by name, the batch of 1 included; of the only one the name may be empty.
        measurements: Latencies on real devices, as far as they were measured.
        engine: What quantizes.
        keeps_rejected: Whether the candidates of a profile that none of them fits are kept, to look into.
        repairs: Whether a scheme that loses too much is repaired before one that comes later is taken.
        trains: Whether a Keras model may be trained where repairs do not do.
        labels: File with the names of the classes, one a line.
        preprocessing: File that declares how raw data becomes the model's input.
    """

    model: Path
    name: str
    profiles: tuple[DeviceProfile, ...]
    output: Path
    calibration: Path | None = None
    evaluation: Path | None = None
    version: int | None = None
    max_drop: float = 0.01
    schemes: tuple[Scheme, ...] = ()
    deadline_s: float = DEFAULT_DEADLINE_S
    metric: Metric | None = None
    io: Io = Io.OWN
    objective: Objective = Objective.ORDER
    signature: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    measurements: tuple[MeasuredLatency, ...] = ()
    engine: Engine = Engine.LITERT
    keeps_rejected: bool = False
    repairs: bool = True
    trains: bool = False
    labels: Path | None = None
    preprocessing: Path | None = None

    @property
    def judged_by(self) -> Path:
        """Return the samples by which candidates are judged; `check_request` has seen that there are some."""
        samples = self.evaluation or self.calibration
        if samples is None:
            raise RequestError("there are no samples to judge by: give --evaluation Y.npz")
        return samples

    @property
    def is_held_out(self) -> bool:
        """Return whether candidates are judged by samples that calibration does not see."""
        if self.evaluation is None or self.calibration is None:
            return self.evaluation is not None
        return self.evaluation.resolve() != self.calibration.resolve()

    def wanted(self, profile: DeviceProfile) -> tuple[Scheme, ...]:
        """Return the schemes to try for ``profile``, in its order."""
        return tuple(scheme for scheme in profile.schemes if not self.schemes or scheme in self.schemes)

    def variants(self, profile: DeviceProfile) -> dict[Scheme, Variant]:
        """Return what is to be made for ``profile``, by scheme."""
        return variants(self.wanted(profile), profile.weights, self.io)


def check_request(request: ConversionRequest) -> None:
    """Do nothing when ``request`` makes sense.

    Raises:
        RequestError: It does not; nothing was started.
    """
    if not _NAME.fullmatch(request.name):
        raise RequestError(f"--name {request.name!r}: wanted 1 to 64 of a-z A-Z 0-9 _ - . and no dot at first")
    if not math.isfinite(request.max_drop) or not 0 <= request.max_drop <= 1:
        raise RequestError(f"--max-drop {request.max_drop:g}: wanted 0 to 1; 0.01 allows one sample of a hundred")
    if not 1 <= request.deadline_s <= MAX_DEADLINE_S:  # NaN is not, either
        raise RequestError(f"--timeout {request.deadline_s:g}: wanted 1 to {MAX_DEADLINE_S:.0f} seconds")
    names = [profile.name for profile in request.profiles]
    if not names or len(set(names)) != len(names):
        raise RequestError(f"profiles {', '.join(names) or 'none'}: wanted one or more, each once")
    _ = request.judged_by
    for profile in request.profiles:
        _check_schemes(request, profile)


def _check_schemes(request: ConversionRequest, profile: DeviceProfile) -> None:
    possible = request.variants(profile)
    if not possible:
        asked = ", ".join(request.schemes or profile.schemes)
        raise RequestError(
            f"profile {profile.name} allows {', '.join(profile.schemes)}, asked for {asked}, "
            f"and the converter makes {', '.join(SUPPORTED)}: nothing is left; give another --scheme"
        )
    hungry = [scheme for scheme in possible if needs_calibration(scheme)]
    if hungry and request.calibration is None:
        others = " ".join(f"--scheme {scheme}" for scheme in possible if scheme not in hungry)
        way_out = f", or {others}" if others else ""
        raise RequestError(
            f"profile {profile.name} wants {hungry[0]}, which learns its ranges from real samples: "
            f"give --calibration X.npz{way_out}"
        )
