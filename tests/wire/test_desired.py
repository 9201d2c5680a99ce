"""Documents, manifests, and the state that they resolve to."""

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.wire.codec import WireError, decode, encode
from edgeferry.wire.desired import (
    MAX_DIFFERENCES,
    ROLE_MODEL,
    ROLE_SELFTEST,
    BlobRef,
    DesiredDocument,
    DifferenceRef,
    ManifestBlob,
    ModelWish,
    SelfTestSpec,
    TensorSpec,
    Wish,
    all_document_path,
    block_sha256s,
    decode_document,
    decode_manifest,
    device_document_path,
    group_document_path,
    manifest_path,
    merge_documents,
    offered_differences,
)

from .examples import DOCUMENT, MANIFEST, SHA256


def document(**versions: int) -> DesiredDocument:
    """Return a document that wishes each model in one version."""
    return DesiredDocument(
        format=1,
        models={name: Wish(versions=(version,), labels={"stable": version}) for name, version in versions.items()},
    )


def stable(merged: dict[str, Wish]) -> dict[str, int]:
    return {model: wish.labels["stable"] for model, wish in merged.items()}


class TestMerging:
    def test_the_more_specific_document_wins_model_by_model(self) -> None:
        merged = merge_documents(document(a=1, b=1, c=1), {"north": document(b=2, c=2)}, document(c=3))

        assert stable(merged) == {"a": 1, "b": 2, "c": 3}

    def test_without_documents_nothing_is_wished(self) -> None:
        assert merge_documents(None, {}, None) == {}

    def test_groups_add_up(self) -> None:
        merged = merge_documents(None, {"north": document(a=1), "kitchen": document(b=2)}, None)

        assert stable(merged) == {"a": 1, "b": 2}

    def test_two_groups_that_name_the_same_model_are_refused(self) -> None:
        with pytest.raises(WireError, match=r"^groups 'kitchen' and 'north' both name model 'a' for one device"):
            merge_documents(None, {"north": document(a=1), "kitchen": document(a=1)}, document(a=3))

    @given(
        everyone=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9)),
        group=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9)),
        device=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9)),
    )
    def test_a_model_is_wished_when_any_document_names_it(
        self, everyone: dict[str, int], group: dict[str, int], device: dict[str, int]
    ) -> None:
        merged = merge_documents(document(**everyone), {"g": document(**group)}, document(**device))

        assert stable(merged) == everyone | group | device

    def test_the_documents_themselves_are_not_changed(self) -> None:
        everyone = document(a=1)

        merge_documents(everyone, {}, document(a=2))

        assert everyone == document(a=1)


class TestDocuments:
    def test_a_label_that_points_at_no_version_is_refused(self) -> None:
        wish = Wish(versions=(1,), labels={"stable": 1, "canary": 2})

        with pytest.raises(WireError, match="'digits' has no version 2, to which 'canary' points"):
            decode_document(encode(DesiredDocument(format=1, models={"digits": wish})))

    def test_a_wish_without_the_label_stable_is_refused(self) -> None:
        wish = Wish(versions=(1,), labels={"canary": 1})

        with pytest.raises(WireError, match="'digits' has no label 'stable'"):
            decode_document(encode(DesiredDocument(format=1, models={"digits": wish})))

    def test_more_labels_than_a_device_holds_versions_are_refused(self) -> None:
        wish = Wish(versions=(1,), labels=dict.fromkeys(("stable", "a", "b", "c", "d"), 1))

        with pytest.raises(WireError, match="'digits' has 5 labels, wanted at most 4"):
            decode_document(encode(DesiredDocument(format=1, models={"digits": wish})))

    @pytest.mark.parametrize("percent", [-1, 101, 0.5, "10", True, None])
    def test_a_share_that_is_no_percentage_is_refused(self, percent: object) -> None:
        wish = Wish(versions=(1,), labels={"stable": 1}, settings={"canary_percent": percent})

        with pytest.raises(WireError, match=r"canary_percent of 'digits' is .*, wanted 0 to 100"):
            decode_document(encode(DesiredDocument(format=1, models={"digits": wish})))

    def test_a_later_format_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(WireError, match="desired document: format 2, wanted 1; update edgeferry on this side"):
            decode_document(encode(msgspec.structs.replace(DOCUMENT, format=2)))

    def test_a_document_over_its_limit_is_refused(self) -> None:
        with pytest.raises(WireError, match="wanted at most 262144"):
            decode_document(b" " * (256 * 1024 + 1))

    @pytest.mark.parametrize("name", ["", ".", "../x", "a/b", "x" * 65, "ä", "a\n"])
    def test_a_models_name_can_stand_in_a_path(self, name: str) -> None:
        with pytest.raises(WireError):
            decode_document(encode(document(**{name: 1})))

    @pytest.mark.parametrize("version", [0, -1, 2**53 + 1])
    def test_a_version_is_a_positive_number_that_every_json_reader_holds(self, version: int) -> None:
        with pytest.raises(WireError):
            decode_document(encode(document(a=version)))


class TestManifests:
    def test_its_blobs_are_found_by_their_role(self) -> None:
        assert MANIFEST.blob(ROLE_MODEL).path == "model.tflite"
        assert MANIFEST.blob(ROLE_SELFTEST).ref() == BlobRef(
            sha256=hashlib.sha256(b"selftest").hexdigest(), size_bytes=8
        )

    def test_the_digests_are_those_of_the_blocks_in_order(self) -> None:
        digests = MANIFEST.blob(ROLE_MODEL).digests()

        assert digests == hashlib.sha256(b"a" * 1024).digest() + hashlib.sha256(b"b" * 476).digest()

    @pytest.mark.parametrize("missing", [0, 1])
    def test_one_without_model_or_self_test_is_refused(self, missing: int) -> None:
        blobs = MANIFEST.blobs[:missing] + MANIFEST.blobs[missing + 1 :]

        with pytest.raises(WireError, match="artifact digits 7 for raspberry-pi-4 has no blob of role"):
            decode_manifest(encode(msgspec.structs.replace(MANIFEST, blobs=blobs)))

    def test_a_blob_of_an_unknown_role_does_no_harm(self) -> None:
        extra = msgspec.structs.replace(MANIFEST.blobs[1], role="delta")
        manifest = msgspec.structs.replace(MANIFEST, blobs=(*MANIFEST.blobs, extra))

        assert decode_manifest(encode(manifest)) == manifest

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda blob: {"size_bytes": blob.size_bytes + 1024}, "has 64 bytes of block hashes, wanted 96"),
            (lambda blob: {"block_bytes": 2048}, "has 64 bytes of block hashes, wanted 32"),
            (lambda _blob: {"block_sha256s": "*"}, "block_sha256s of 'model.tflite' is not base64"),
            (lambda _blob: {"block_sha256s": ""}, "has 0 bytes of block hashes, wanted 64"),
            (lambda _blob: {"block_bytes": 0}, "block_bytes"),
            (lambda _blob: {"size_bytes": -1}, "size_bytes"),
        ],
    )
    def test_block_hashes_that_do_not_fit_the_blob_are_refused(
        self, change: Callable[..., dict[str, object]], said: str
    ) -> None:
        model = MANIFEST.blobs[0]
        wrong = msgspec.structs.replace(model, **change(model))

        with pytest.raises(WireError, match=said):
            decode_manifest(encode(msgspec.structs.replace(MANIFEST, blobs=(wrong, MANIFEST.blobs[1]))))

    def test_a_later_format_is_refused(self) -> None:
        with pytest.raises(WireError, match="artifact manifest: format 2, wanted 1"):
            decode_manifest(encode(msgspec.structs.replace(MANIFEST, format=2)))

    @pytest.mark.parametrize("shape", [(1,) * 33, (-2,), (2**41,)])
    def test_a_shape_that_no_tensor_has_is_refused(self, shape: tuple[int, ...]) -> None:
        spec = msgspec.structs.replace(MANIFEST.inputs[0], shape=shape)

        with pytest.raises(WireError, match="shape"):
            decode_manifest(encode(msgspec.structs.replace(MANIFEST, inputs=(spec,))))

    @pytest.mark.parametrize(
        ("limits", "size_bytes", "block_bytes"),
        [("within", 0, 1024), ("within", 2**40, 1 << 20), ("beyond", 2**40 + 1, 1024), ("beyond", 0, (1 << 20) + 1)],
    )
    def test_sizes_have_limits(self, limits: str, size_bytes: int, block_bytes: int) -> None:
        blob = msgspec.structs.replace(MANIFEST.blobs[0], size_bytes=size_bytes, block_bytes=block_bytes)

        if limits == "within":
            assert decode(ManifestBlob, encode(blob)) == blob
        else:
            with pytest.raises(WireError):
                decode(ManifestBlob, encode(blob))

    def test_what_a_manifest_leaves_out_has_its_default(self) -> None:
        assert SelfTestSpec(samples=1) == SelfTestSpec(samples=1, steps=4, atol=1e-5, rtol=1e-4)
        assert TensorSpec(name="x", datatype="FP32", shape=()) == TensorSpec("x", "FP32", (), 0.0, 0)

    def test_a_manifest_over_4_mib_is_refused_before_it_is_parsed(self) -> None:
        with pytest.raises(WireError, match="ArtifactManifest: 4194305 bytes, wanted at most 4194304"):
            decode_manifest(b"[" * (4 * 1024 * 1024 + 1))

    def test_an_empty_blob_has_no_blocks(self) -> None:
        assert block_sha256s([]) == ""


class TestDeployment:
    WISH = ModelWish(model="digits", version=7, manifest=BlobRef(sha256=SHA256, size_bytes=2048))

    def test_its_identity_is_the_same_on_every_side_and_for_ever(self) -> None:
        spelled = f'{{"manifest":{{"sha256":"{SHA256}","size_bytes":2048}},"model":"digits","version":7}}'

        assert self.WISH.deployment_id() == hashlib.sha256(spelled.encode()).hexdigest()

    @pytest.mark.parametrize(
        "other",
        [
            {"model": "faces"},
            {"version": 8},
            {"attempt": 1},
            {"manifest": BlobRef(sha256=SHA256, size_bytes=2049)},
            {"manifest": BlobRef(sha256=SHA256[::-1], size_bytes=2048)},
        ],
    )
    def test_whatever_is_different_is_another_deployment(self, other: dict[str, object]) -> None:
        assert msgspec.structs.replace(self.WISH, **other).deployment_id() != self.WISH.deployment_id()


def test_the_signed_paths_are_as_ever() -> None:
    assert all_document_path() == "desired/all.json"
    assert group_document_path("north") == "desired/group/north.json"
    assert device_document_path("pi") == "desired/device/pi.json"
    assert manifest_path("digits", 7, "raspberry-pi-4") == "models/digits/7/raspberry-pi-4/artifact.json"


class TestDifferences:
    OFFER = DifferenceRef(base="a" * 64, made="b" * 64, sha256="c" * 64, size_bytes=9)

    def test_what_the_signed_metadata_offers_is_read(self) -> None:
        custom = {"differences": [msgspec.to_builtins(self.OFFER)], "of a later version": 1}

        assert offered_differences(custom) == (self.OFFER,)
        assert self.OFFER.ref() == BlobRef(sha256="c" * 64, size_bytes=9)

    @pytest.mark.parametrize(
        "custom", [None, [], {}, {"differences": 1}, {"differences": [{}]}, {"differences": [{"from": "../state"}]}]
    )
    def test_what_cannot_be_understood_offers_nothing(self, custom: object) -> None:
        assert offered_differences(custom) == ()

    def test_there_are_not_more_than_a_bin_holds(self) -> None:
        custom = {"differences": [msgspec.to_builtins(self.OFFER)] * (MAX_DIFFERENCES + 1)}

        assert len(offered_differences(custom)) == MAX_DIFFERENCES


class TestBinding:
    WISH = Wish(
        versions=(6, 7, 5),
        labels={"stable": 6, "canary": 7, "previous": 5},
        settings={"canary_percent": 10},
        attempt=1,
        attempts={"canary": 2},
    )
    MANIFEST = BlobRef(sha256=SHA256, size_bytes=2048)

    def test_the_stable_version_is_bound_as_ever(self) -> None:
        bound = self.WISH.bound("digits", "stable", self.MANIFEST)

        assert bound == ModelWish(model="digits", version=6, manifest=self.MANIFEST, attempt=1)

    def test_the_canary_has_its_own_attempt_and_its_share(self) -> None:
        bound = self.WISH.bound("digits", "canary", self.MANIFEST)

        assert bound == ModelWish("digits", 7, self.MANIFEST, 2, "canary", 10)

    def test_other_labels_have_no_share(self) -> None:
        assert self.WISH.bound("digits", "previous", self.MANIFEST) == ModelWish(
            "digits", 5, self.MANIFEST, 0, "previous"
        )

    @pytest.mark.parametrize("label", ["stable", "canary", "previous"])
    def test_both_sides_compute_the_same_deployment(self, label: str) -> None:
        document = DesiredDocument(format=1, models={"digits": self.WISH})
        heard = decode_document(encode(document)).models["digits"]

        here, there = (wish.bound("digits", label, self.MANIFEST).deployment_id() for wish in (self.WISH, heard))

        assert here == there
        assert here == decode(ModelWish, encode(heard.bound("digits", label, self.MANIFEST))).deployment_id()
