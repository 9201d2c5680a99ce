"""Binds what a conversion made into drafts of artifacts: the model that says what it is, manifest, report and lock."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.converter.artifact import Draft, manifest_blob
from edgeferry.converter.comparison import compare_answers
from edgeferry.converter.embedding import embed
from edgeferry.converter.errors import ConverterError
from edgeferry.converter.formats.registry import Format
from edgeferry.converter.html.page import report_page
from edgeferry.converter.layers import compare_layers
from edgeferry.converter.lock import FORMAT as LOCK_FORMAT
from edgeferry.converter.lock import LOCK, Lock, locked
from edgeferry.converter.preparing.function import is_function
from edgeferry.converter.report import evaluation_summary, host, provenance, report
from edgeferry.converter.request import ConversionRequest
from edgeferry.converter.samples import Samples
from edgeferry.converter.schemes import needs_calibration, selftest_spec
from edgeferry.converter.selection import Choice
from edgeferry.converter.stages import Stages
from edgeferry.converter.stock import Stock
from edgeferry.converter.toolchain import versions
from edgeferry.converter.workshop import Made, Progress
from edgeferry.device_profiles import DeviceProfile
from edgeferry.inference.flatbuffer import FlatbufferError
from edgeferry.inference.metadata import ModelMetadata
from edgeferry.inference.preprocessing import Preprocessing, as_data
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import FORMAT, ROLE_MODEL, ROLE_SELFTEST, ArtifactManifest

__all__ = ["Binder", "Conversion"]

log = logging.getLogger(__name__)

METADATA_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion came to.

    Attributes:
        folder: DIR/NAME/N.
        choices: One per profile, in the order asked for.
        is_held_out: Whether candidates were judged by samples that calibration has not seen.
    """

    name: str
    version: int
    folder: Path
    choices: tuple[Choice, ...]
    is_held_out: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What a model says of itself that nobody can see in it.

    Attributes:
        labels: Names of the classes, in the order of the output; empty where they are not known.
        preprocessing: How raw data becomes the input; None where it was not declared.
    """

    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    @property
    def preprocessing_data(self) -> dict[str, Any]:
        """Return the preprocessing as manifest and metadata hold it."""
        return {} if self.preprocessing is None else as_data(self.preprocessing)


@dataclass(frozen=True, slots=True)
class _Described:
    """A model that says what it is; the metadata is empty where it could not be put in."""

    path: Path
    metadata: bytes


class Binder:
    """Makes the drafts of one conversion."""

    def __init__(
        self,
        request: ConversionRequest,
        conversion: Conversion,
        samples: Samples,
        stages: Stages,
        *,
        told: Told,
        ready: ConversionRequest,
        folder: Path,
    ) -> None:
        self._request = request
        self._conversion = conversion
        self._samples = samples
        self._stages = stages
        self._folder = folder
        self._told = told
        self._ready = ready
        self._looks: dict[str, dict[str, dict[str, Any]]] = {}

    def look(self, float_model: Made, stock: Stock, progress: Progress) -> None:
        """Look into what was chosen, and into what missed a budget or was repaired, for the report.

        Args:
            float_model: What all were made of.
            stock: All that were made.
            progress: Called with a sentence for each.
        """
        seen: dict[Path, dict[str, Any]] = {}
        for choice in self._conversion.choices:
            looks = self._looks.setdefault(choice.profile, {})
            for name, one in self._worth_a_look(choice, stock).items():
                if one.model not in seen:
                    progress(f"comparing {one.variant} with the float model, layer by layer")
                    folder = self._folder / f"layers-{len(seen)}"
                    seen[one.model] = self._look(float_model, one, folder)
                looks[name] = seen[one.model]

    def drafts(self, source_format: Format, stock: Stock) -> list[Draft]:
        """Return a draft for each profile that got a model."""
        self._folder.mkdir(parents=True, exist_ok=True)
        facts = self._facts(source_format, stock.float_model)
        profiles = {profile.name: profile for profile in self._request.profiles}
        return [
            self._draft(choice, profiles[choice.profile], stock.of(choice.chosen), facts)
            for choice in self._conversion.choices
            if choice.chosen is not None
        ]

    def _worth_a_look(self, choice: Choice, stock: Stock) -> dict[str, Made]:
        """Return by name the model that was chosen, the first that missed a budget, and what repairs began with."""
        profile = next(profile for profile in self._request.profiles if profile.name == choice.profile)
        before = {f"{scheme} as it was": stock.plain(profile, scheme) for scheme in choice.steps}
        plain = {name: one for name, one in before.items() if isinstance(one, Made)}
        missed = [verdict for verdict in choice.verdicts if verdict.misses and verdict.scheme not in choice.steps]
        chosen = [verdict for verdict in choice.verdicts if verdict.candidate and verdict.candidate is choice.chosen]
        made = {str(one.scheme): stock.of(one.candidate) for one in [*missed[:1], *chosen] if one.candidate}
        return plain | made

    def _look(self, float_model: Made, one: Made, folder: Path) -> dict[str, Any]:
        wanted, found = float_model.measurement, one.measurement
        answers = compare_answers(wanted.results, found.results, self._samples.labels)
        try:
            inside = compare_layers(
                self._stages,
                float_model.model,
                one.model,
                self._samples.path,
                wanted.inputs,
                is_rescaled=one.variant.repair.is_equalized,
                folder=folder,
                what=f"comparing the layers of {one.variant}",
                deadline_s=self._request.deadline_s,
            )
        except ConverterError as err:  # the report is poorer, the artifact is not
            log.warning("the report goes without layers: %s", err)
            inside = {}
        return {"answers": answers, **inside}

    def _draft(self, choice: Choice, profile: DeviceProfile, made: Made, facts: Mapping[str, Any]) -> Draft:
        described = self._describe(made, profile)
        story = report(choice, profile.budgets, looks=self._looks.get(choice.profile, {}), facts=facts)
        papers = {
            "report.json": _readable(story),
            "report.html": report_page(msgspec.to_builtins(story)).encode(),
            LOCK: _readable(self._lock(choice, made, described)),
        }
        files = {ROLE_MODEL: described.path, ROLE_SELFTEST: made.measurement.selftest}
        return Draft(self._manifest(choice, made, files), files, papers)

    def _manifest(self, choice: Choice, made: Made, files: Mapping[str, Path]) -> ArtifactManifest:
        measurement, scheme = made.measurement, made.variant.stored_as
        return ArtifactManifest(
            format=FORMAT,
            name=self._conversion.name,
            version=self._conversion.version,
            profile=choice.profile,
            scheme=scheme,
            blobs=tuple(manifest_blob(role, path) for role, path in files.items()),
            inputs=measurement.inputs,
            outputs=measurement.outputs,
            selftest=selftest_spec(scheme, samples=measurement.selftest_samples, peak=measurement.peak),
            memory_bytes=measurement.memory_bytes,
            labels=self._told.labels,
            preprocessing=self._told.preprocessing_data,
            evaluation=evaluation_summary(made.candidate),
        )

    def _describe(self, made: Made, profile: DeviceProfile) -> _Described:
        """Return the model with its metadata, or without where that would break the profile's budget for its size."""
        plain = made.model.read_bytes()
        metadata = encode(self._metadata(made))
        try:
            model = embed(plain, metadata)
        except FlatbufferError as err:
            log.warning("%s goes without metadata: %s", made.variant, err)
            return _Described(made.model, b"")
        if len(model) > profile.budgets.model_bytes:
            log.warning("%s goes without metadata: it would be too large for %s", made.variant, profile.name)
            return _Described(made.model, b"")
        path = self._folder / f"{made.model.parent.name}-{made.model.name}"
        path.write_bytes(model)
        return _Described(path, metadata)

    def _metadata(self, made: Made) -> ModelMetadata:
        # Nothing in here differs from run to run: a version that is made again has the same bytes.
        calibration = self._request.calibration if needs_calibration(made.variant.scheme) else None
        return ModelMetadata(
            format=METADATA_FORMAT,
            name=self._conversion.name,
            version=self._conversion.version,
            scheme=made.variant.stored_as,
            inputs=made.measurement.inputs,
            outputs=made.measurement.outputs,
            labels=self._told.labels,
            preprocessing=self._told.preprocessing_data,
            evaluation=evaluation_summary(made.candidate),
            calibration_sha256=self._provenance(calibration)["sha256"] if calibration else "",
        )

    def _lock(self, choice: Choice, made: Made, described: _Described) -> Lock:
        fingerprints = self._stages.fingerprints
        inputs, steps, output = locked(self._stages.records, made.model, self._inputs(), fingerprints)
        return Lock(
            format=LOCK_FORMAT,
            name=self._conversion.name,
            version=self._conversion.version,
            profile=choice.profile,
            scheme=made.variant.stored_as,
            model=fingerprints.of(described.path),
            inputs=inputs,
            steps=steps,
            made=output,
            metadata=described.metadata.decode(),
            options={
                "max_drop": self._request.max_drop,
                "objective": self._request.objective,
                "schemes": list(self._request.schemes),
                "variant": str(made.variant),
            },
            tools=versions(),
        )

    def _inputs(self) -> dict[str, Path]:
        request = self._request
        named = {
            "model": request.model,
            "calibration": request.calibration,
            "evaluation": request.evaluation,
            "labels": request.labels,
            "preprocessing": request.preprocessing,
        }
        return {role: path for role, path in named.items() if path is not None and not is_function(path)}

    def _provenance(self, samples: Path) -> dict[str, Any]:
        """Return name, size and hash of samples; of a function, of what it has yielded."""
        made = self._ready.calibration if samples == self._request.calibration else self._ready.evaluation
        where = made if made is not None and is_function(samples) else samples
        return provenance(where, self._stages.fingerprints) | {"name": samples.name}

    def _facts(self, source_format: Format, float_model: Made) -> dict[str, Any]:
        request, fingerprints = self._request, self._stages.fingerprints
        judged_by = self._provenance(request.judged_by)
        return {
            "name": self._conversion.name,
            "version": self._conversion.version,
            "max_drop": request.max_drop,
            "objective": request.objective,
            "labels": list(self._told.labels),
            "preprocessing": self._told.preprocessing_data,
            "source": {"format": source_format.title, **provenance(request.model, fingerprints)},
            "fusion": msgspec.to_builtins(float_model.measurement.fusion),
            "calibration": self._provenance(request.calibration) if request.calibration else None,
            "evaluation": {"held_out": self._conversion.is_held_out, **judged_by},
            "host": host(),
        }


def _readable(data: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n"
