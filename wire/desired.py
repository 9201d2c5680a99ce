"""What a device is told to run: signed documents, artifact manifests, and the state they resolve to.

Decides which of several documents wins (the more specific one, model by model) and what identifies a deployment.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field

from edgeferry.wire.codec import Message, WireError, canonical, decode

__all__ = [
    "CANARY",
    "CANARY_PERCENT",
    "FORMAT",
    "MAX_DIFFERENCES",
    "MAX_DOCUMENT_BYTES",
    "MAX_LABELS",
    "MAX_MANIFEST_BYTES",
    "PREVIOUS",
    "ROLE_MODEL",
    "ROLE_SELFTEST",
    "STABLE",
    "ArtifactManifest",
    "BlobRef",
    "DesiredDocument",
    "DifferenceRef",
    "ManifestBlob",
    "ModelWish",
    "Name",
    "Percent",
    "SelfTestSpec",
    "Sha256",
    "Shape",
    "TensorSpec",
    "Wish",
    "all_document_path",
    "block_sha256s",
    "decode_document",
    "decode_manifest",
    "device_document_path",
    "group_document_path",
    "manifest_path",
    "merge_documents",
    "offered_differences",
]

FORMAT = 1
STABLE = "stable"
CANARY = "canary"
PREVIOUS = "previous"
CANARY_PERCENT = "canary_percent"  # the setting with the canary's share
MAX_LABELS = 4  # each holds a version in memory
MAX_DOCUMENT_BYTES = 256 * 1024
MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # the block hashes of a blob of 6 GB
MAX_DIFFERENCES = 16  # of one manifest; a bin of the signed metadata lists them all

# \Z, because $ also matches before a line's end, and these become names of files.
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}\Z")]
Version = Annotated[int, Meta(ge=1, le=2**53)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Size = Annotated[int, Meta(ge=0, le=2**40)]
BlockSize = Annotated[int, Meta(ge=1024, le=1 << 20)]

# 32 is the most that numpy 1 holds. Without limits, the product of a long shape would take minutes.
Shape = Annotated[tuple[Annotated[int, Meta(ge=-1, le=2**40)], ...], Meta(max_length=32)]

ROLE_MODEL = "model"
ROLE_SELFTEST = "selftest"


class BlobRef(Message, frozen=True):
    """Bytes by their name: SHA-256 and size."""

    sha256: Sha256
    size_bytes: Size


class DifferenceRef(Message, frozen=True):
    """A blob that a device can make from an older one: the difference between them, which is a blob itself.

    Attributes:
        base: SHA-256 of the older blob.
        made: SHA-256 of what is made from it.
        sha256: Of the difference; see `wire.difference`.
        size_bytes: Of the difference.
    """

    base: Sha256 = field(name="from")
    made: Sha256 = field(name="to")
    sha256: Sha256
    size_bytes: Size

    def ref(self) -> BlobRef:
        """Return the difference's name and size."""
        return BlobRef(sha256=self.sha256, size_bytes=self.size_bytes)


class ManifestBlob(Message, frozen=True):
    """A blob of an artifact.

    Attributes:
        role: What it is: ``model`` or ``selftest``; a device ignores roles that it does not know.
        path: File name inside the artifact folder, for people.
        block_bytes: Size of the blocks whose hashes follow.
        block_sha256s: Base64 of the blocks' SHA-256 digests, 32 bytes each, in order.
    """

    role: str
    path: str
    sha256: Sha256
    size_bytes: Size
    block_bytes: BlockSize
    block_sha256s: str

    def digests(self) -> bytes:
        """Return the blocks' digests, 32 bytes each, in order."""
        return base64.b64decode(self.block_sha256s)

    def ref(self) -> BlobRef:
        """Return the blob's name and size."""
        return BlobRef(sha256=self.sha256, size_bytes=self.size_bytes)


class TensorSpec(Message, frozen=True):
    """An input or output of the model, as its signature names it.

    Attributes:
        name: The name in the signature, or the tensor's own where there is no signature.
        datatype: In the Open Inference Protocol's words: FP32, INT8, UINT8, ...
        shape: Dimensions; -1 where any size is accepted.
        scale: Real value of one step for quantized tensors; 0.0 for others.
        zero_point: Quantized value of 0.0.
    """

    name: str
    datatype: str
    shape: Shape
    scale: float = 0.0
    zero_point: int = 0


class SelfTestSpec(Message, frozen=True):
    """How near a candidate has to come to the golden outputs of its self-test.

    Attributes:
        samples: Number of golden inputs.
        steps: Greatest allowed difference of a quantized output, in steps of its scale.
        atol: Greatest allowed absolute difference of a float output.
        rtol: Greatest allowed relative difference of a float output.
    """

    samples: int
    steps: int = 4
    atol: float = 1e-5
    rtol: float = 1e-4


class ArtifactManifest(Message, frozen=True):
    """``artifact.json``: one immutable model for one profile.

    Attributes:
        memory_bytes: Peak memory of loading and running it, measured by the converter; 0 when it is unknown.
        labels: Names of the classes, in the order of the output, where the model has any.
        preprocessing: How raw data becomes the input; see docs/samples.md.
        evaluation: What the converter measured; for people and for `status`, never for decisions on a device.
    """

    format: int
    name: Name
    version: Version
    profile: str
    scheme: str
    blobs: tuple[ManifestBlob, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    selftest: SelfTestSpec
    memory_bytes: Size = 0
    labels: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)

    def blob(self, role: str) -> ManifestBlob:
        """Return the blob of ``role``.

        Raises:
            WireError: There is none.
        """
        for blob in self.blobs:
            if blob.role == role:
                return blob
        raise WireError(f"artifact {self.name} {self.version} for {self.profile} has no blob of role {role!r}")


class Wish(Message, frozen=True):
    """What a document says of one model.

    Attributes:
        versions: The versions to hold on the device.
        labels: Names that point at one of them; ``stable`` is the one that answers.
        settings: How to serve it; ``canary_percent`` is the share of requests that the canary answers.
        attempt: Raised by the operator to have a version tried again that has failed before.
        attempts: The same for the versions of other labels, by label.
    """

    versions: tuple[Version, ...]
    labels: dict[Name, Version]
    settings: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    attempts: dict[Name, int] = field(default_factory=dict)

    def bound(self, model: str, label: str, manifest: BlobRef) -> "ModelWish":
        """Return the wish for the version that ``label`` of ``model`` names, bound to the bytes of its manifest."""
        version = self.labels[label]
        if label == STABLE:
            return ModelWish(model, version, manifest, self.attempt)
        percent = int(self.settings.get(CANARY_PERCENT, 0)) if label == CANARY else 0
        return ModelWish(model, version, manifest, self.attempts.get(label, 0), label, percent)


class DesiredDocument(Message, frozen=True):
    """A signed document: ``desired/all.json``, ``desired/group/{g}.json`` or ``desired/device/{id}.json``.

    Attributes:
        models: What is wished, by model name.
        groups: The groups of the device; only a device's own document says it.
    """

    format: int
    models: dict[Name, Wish]
    groups: tuple[str, ...] = ()


class ModelWish(Message, frozen=True):
    """One version that a device shall run, resolved from its documents and bound to the manifest's bytes.

    Attributes:
        label: What names it; empty for ``stable``, so that both sides spell it, and hash it, alike.
        percent: Share of requests without a version that it answers instead of ``stable``.
    """

    model: Name
    version: Version
    manifest: BlobRef
    attempt: int = 0
    label: str = ""
    percent: Percent = 0

    def deployment_id(self) -> str:
        """Return the SHA-256 of this wish: the identity of the deployment that fulfils it."""
        return hashlib.sha256(canonical(self)).hexdigest()


def all_document_path() -> str:
    """Return the TUF target path of the document for every device."""
    return "desired/all.json"


def group_document_path(group: str) -> str:
    """Return the TUF target path of a group's document."""
    return f"desired/group/{group}.json"


def device_document_path(device: str) -> str:
    """Return the TUF target path of a device's own document."""
    return f"desired/device/{device}.json"


def manifest_path(model: str, version: int, profile: str) -> str:
    """Return the TUF target path of an artifact's manifest."""
    return f"models/{model}/{version}/{profile}/artifact.json"


def decode_document(data: bytes) -> DesiredDocument:
    """Return the document that ``data`` spells, with every label pointing at a version that it lists.

    Raises:
        WireError: Not a document, of a later format, or one whose labels point nowhere.
    """
    document = decode(DesiredDocument, data, max_bytes=MAX_DOCUMENT_BYTES)
    _check_format(document.format, "desired document")
    for model, wish in document.models.items():
        _check_labels(model, wish)
    return document


def _check_labels(model: str, wish: Wish) -> None:
    for label, version in wish.labels.items():
        if version not in wish.versions:
            raise WireError(f"desired document: {model!r} has no version {version}, to which {label[:64]!r} points")
    if STABLE not in wish.labels:
        raise WireError(f"desired document: {model!r} has no label {STABLE!r}, so no version of it would answer")
    if len(wish.labels) > MAX_LABELS:
        raise WireError(f"desired document: {model!r} has {len(wish.labels)} labels, wanted at most {MAX_LABELS}")
    percent = wish.settings.get(CANARY_PERCENT, 0)
    if type(percent) is not int or not 0 <= percent <= 100:
        raise WireError(f"desired document: {CANARY_PERCENT} of {model!r} is {percent!r:.40}, wanted 0 to 100")


def decode_manifest(data: bytes) -> ArtifactManifest:
    """Return the manifest that ``data`` spells, complete and with as many block hashes as blocks.

    Raises:
        WireError: Not a manifest, of a later format, without a model or self-test, or with a wrong number of hashes.
    """
    manifest = decode(ArtifactManifest, data, max_bytes=MAX_MANIFEST_BYTES)
    _check_format(manifest.format, "artifact manifest")
    for role in (ROLE_MODEL, ROLE_SELFTEST):
        manifest.blob(role)
    for blob in manifest.blobs:
        _check_digests(blob)
    return manifest


def offered_differences(custom: object) -> tuple[DifferenceRef, ...]:
    """Return the differences that a manifest's entry in the signed metadata offers, in its field ``custom``.

    One that cannot be understood is none: the whole blob is there all the same.
    """
    try:
        offered = msgspec.convert(custom, _Custom).differences
    except msgspec.ValidationError:
        return ()
    return offered[:MAX_DIFFERENCES]


class _Custom(Message, frozen=True):
    differences: tuple[DifferenceRef, ...] = ()


def _check_format(found: int, what: str) -> None:
    if found != FORMAT:
        raise WireError(f"{what}: format {found}, wanted {FORMAT}; update edgeferry on this side")


def _check_digests(blob: ManifestBlob) -> None:
    try:
        found = len(base64.b64decode(blob.block_sha256s, validate=True))
    except ValueError as err:
        raise WireError(f"artifact manifest: block_sha256s of {blob.path!r} is not base64") from err
    wanted = -(-blob.size_bytes // blob.block_bytes) * 32
    if found != wanted:
        raise WireError(f"artifact manifest: {blob.path!r} has {found} bytes of block hashes, wanted {wanted}")


def block_sha256s(blocks: Sequence[bytes | memoryview]) -> str:
    """Return the value of ``ManifestBlob.block_sha256s`` for ``blocks``."""
    return base64.b64encode(b"".join(hashlib.sha256(block).digest() for block in blocks)).decode()


def merge_documents(
    everyone: DesiredDocument | None, groups: Mapping[str, DesiredDocument], device: DesiredDocument | None
) -> dict[str, Wish]:
    """Return what one device shall run, by model: its own document before its groups' before everyone's.

    Raises:
        WireError: Two groups name the same model.
    """
    merged = dict(everyone.models) if everyone else {}
    named_by: dict[str, str] = {}
    for group in sorted(groups):
        for model, wish in groups[group].models.items():
            if model in named_by:
                raise WireError(f"groups {named_by[model]!r} and {group!r} both name model {model!r} for one device")
            named_by[model] = group
            merged[model] = wish
    if device:
        merged.update(device.models)
    return merged
