"""What a training is asked for, and whether that makes sense before anything starts."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeferry.converter.child import DEFAULT_DEADLINE_S
from edgeferry.converter.errors import ArtifactError, RequestError
from edgeferry.converter.fingerprints import Fingerprints
from edgeferry.converter.formats.registry import FormatName, detect
from edgeferry.converter.training.recipe import Recipe
from edgeferry.converter.training.rendezvous import DEFAULT_PATIENCE_S
from edgeferry.converter.training.strategies import Cluster
from edgeferry.wire.codec import canonical

__all__ = ["TrainingRequest", "check_request", "key_of"]


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A training to do.

    Attributes:
        model: A ``.keras`` or ``.h5`` file.
        recipe: As `recipe.checked` returns it, its data named.
        output: Folder that is made.
        keeps_float: Whether layers without an integer form stay in float.
        preprocessing: File that declares how samples that are no arrays become inputs.
        cluster: The machines that take part; None for this one alone.
        patience_s: How long to wait for the others.
        resumes: Whether it goes on where one like it has ended.
        board: Folder for TensorBoard's events.
    """

    model: Path
    recipe: Recipe
    output: Path
    keeps_float: bool = False
    deadline_s: float = DEFAULT_DEADLINE_S
    cluster: Cluster | None = None
    patience_s: float = DEFAULT_PATIENCE_S
    resumes: bool = False
    preprocessing: Path | None = None
    board: Path | None = None

    @property
    def is_chief(self) -> bool:
        """Return whether this process writes the result."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def unfinished(self) -> Path:
        """Return the folder with what is needed to resume; it is gone when all is done."""
        return self.output.with_name(f"{self.output.name}.unfinished")

    @property
    def data(self) -> Path:
        """Return the file to learn from."""
        return Path(self.recipe.data or "")

    @property
    def evaluation(self) -> Path:
        """Return the file that judges."""
        return Path(self.recipe.evaluation or self.recipe.data or "")

    @property
    def is_held_out(self) -> bool:
        """Return whether the result is judged by other samples than those that it learned from."""
        return self.recipe.evaluation is not None


def check_request(request: TrainingRequest) -> None:
    """Do nothing when ``request`` makes sense.

    Raises:
        RequestError: It does not.
        ArtifactError: Its output cannot be written.
    """
    if request.cluster is not None and request.recipe.minutes:
        raise RequestError("--minutes cannot be kept by several machines at the same step; leave it out")
    found = detect(request.model)
    if found.name not in (FormatName.KERAS, FormatName.HDF5):
        raise RequestError(
            f"{request.model}: is a {found.title}; training needs the Keras model that it was made of, .keras or .h5"
        )
    if request.recipe.data is None:
        raise RequestError("no samples to learn from; give --data train.npz, or data: train.npz in the recipe")
    if request.output.exists() and (not request.output.is_dir() or any(request.output.iterdir())):
        raise RequestError(f"{request.output}: is there already; name a new folder with -o")
    try:
        request.output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".edgeferry-", dir=request.output.parent).cleanup()
    except OSError as err:
        raise ArtifactError(f"{request.output}: cannot be written: {err.strerror}") from err


def key_of(request: TrainingRequest, data: Path) -> str:
    """Return what tells this training from every other: the hash of model, recipe and samples.

    Args:
        request: What is asked for.
        data: The samples as they are read.
    """
    fingerprints = Fingerprints()
    told = {
        "model": fingerprints.of(request.model).sha256,
        "data": fingerprints.of(data).sha256,
        "recipe": {
            name: value
            for name, value in msgspec.to_builtins(request.recipe).items()
            if name not in ("data", "evaluation", "minutes")
        },
        "keeps_float": request.keeps_float,
    }
    return hashlib.sha256(canonical(told)).hexdigest()
