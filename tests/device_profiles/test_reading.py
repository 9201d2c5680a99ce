"""What a profile file may say, and what each mistake is answered with."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeferry.device_profiles import (
    DeviceProfile,
    ProfileError,
    Scheme,
    Source,
    Swap,
    WeightGranularity,
    load_profile,
)
from edgeferry.device_profiles.yaml_tree import MAX_FILE_BYTES

from .conftest import WHOLE, Load


def refusal(load: Load, *arguments: str, **replaced: str) -> str:
    """Return what is said of a profile, from the file's name on."""
    with pytest.raises(ProfileError) as caught:
        load(*arguments, **replaced)
    return str(caught.value)[str(caught.value).index("board.yaml") :]


def test_a_whole_profile_is_read(load: Load) -> None:
    profile = load()

    assert profile.name == "board"
    assert profile.schemes == (Scheme.INT8, Scheme.FLOAT32)
    assert profile.weights is WeightGranularity.PER_CHANNEL
    assert profile.hardware.memory_bytes == 1 << 30
    assert profile.runtime.python == ("3.11", "3.13")
    assert profile.budgets.latency_ms is None
    assert profile.serving.swap is Swap.BOTH
    assert not profile.allow_select_tf_ops
    assert profile.sources == {}


def test_optional_keys_are_read(load: Load) -> None:
    text = WHOLE.replace("budgets:", "budgets:\n  latency_ms: 12.5") + (
        "weights: per_tensor\n"
        "allow_select_tf_ops: true\n"
        "latencies:\n"
        "  - {model: MobileNet, scheme: int8, threads: 4, latency_ms: 40.5, source: {name: A, url: 'https://a'}}\n"
    )

    profile = load(text)

    assert profile.budgets.latency_ms == 12.5
    assert profile.weights is WeightGranularity.PER_TENSOR
    assert profile.allow_select_tf_ops
    assert profile.latencies[0].source == Source(name="A", url="https://a")


@pytest.mark.parametrize(("written", "size_bytes"), [("1_000", 1000), ("2 KiB", 2048), ("3MiB", 3 << 20)])
def test_sizes_are_bytes_or_have_a_binary_unit(load: Load, written: str, size_bytes: int) -> None:
    assert load(model_bytes=f"model_bytes: {written}").budgets.model_bytes == size_bytes


@pytest.mark.parametrize(
    ("key", "line", "said"),
    [
        ("cores", "core: 4", '6: hardware.core is not a known key; did you mean "cores"?'),
        ("title", "colour: red", "1: colour is not a known key; wanted one of title, hardware"),
        ("title", "name: mine", "1: name is not a known key"),
        ("cores", "cores: four", "6: hardware.cores: found 'four', wanted a whole number from 1 to 1024"),
        ("cores", "cores: 4.0", "6: hardware.cores: found '4.0', wanted a whole number"),
        ("cores", "cores: -1", "6: hardware.cores: found '-1', wanted a whole number from 1 to 1024"),
        ("cores", "cores:", "6: hardware.cores: found nothing, wanted a whole number"),
        ("cores", "cores: [4]", "6: hardware.cores: found a list, wanted a whole number"),
        ("cores", f"cores: {'9' * 5000}", "6: hardware.cores: found '99999"),
        ("memory_limit_bytes", "memory_limit_bytes: 1 GB", "18: serving.memory_limit_bytes: found '1 GB', wanted a"),
        ("arch", "arch: aarch46", "5: hardware.arch: found 'aarch46'; did you mean \"aarch64\"?"),
        ("arch", "arch: {}", "5: hardware.arch: found keys and values, wanted one of aarch64, armv7l, x86_64"),
        ("schemes", "schemes: [int8, int4]", "2: schemes[1]: found 'int4'; did you mean \"int8\"?"),
        ("schemes", "schemes: int8", "2: schemes: found 'int8', wanted a list"),
        ("schemes", "schemes: []", "2: schemes: wanted at least one, and each only once"),
        ("schemes", "schemes: [int8, int8]", "2: schemes: wanted at least one, and each only once"),
        ("title", "title: [a]", "1: title: found a list, wanted text"),
        ("title", "title: ''", "1: title: found nothing, wanted text"),
        ("version", "version:", "10: runtime.version: found nothing, wanted text"),
        ("python", "python: [three]", "11: runtime.python[0]: found 'three', wanted a version of Python such as 3.11"),
        ("title", "title: a\nallow_select_tf_ops: no", "2: allow_select_tf_ops: found 'no', wanted true or false"),
        ("watch_s", "watch_s: 1:30", "3: watch_s: found '1:30', wanted a whole number from 1 to 86400"),
        ("watch_s", "", "1: watch_s is missing"),
        ("timeout_s", "", "20: trial.timeout_s is missing"),
        ("memory_bytes", "memory_bytes: 1 MiB", "14: budgets.model_bytes: found 67108864, wanted at most budgets"),
    ],
)
def test_a_mistake_is_answered_with_line_key_found_and_wanted(load: Load, key: str, line: str, said: str) -> None:
    assert refusal(load, **{key: line}).startswith(f"board.yaml:{said}")


@pytest.mark.parametrize("bound", [1, 86_400])
def test_the_bounds_are_within_the_range(load: Load, bound: int) -> None:
    assert load(watch_s=f"watch_s: {bound}").watch_s == bound


def test_a_section_must_be_keys_and_values(load: Load) -> None:
    text = WHOLE.replace("budgets:\n  model_bytes: 64 MiB\n  memory_bytes: 128 MiB\n", "budgets: small\n")

    assert refusal(load, text) == "board.yaml:13: budgets: found 'small', wanted keys and values"


@pytest.mark.parametrize("written", ["soon", "nan", "inf", "1e999", "-1", "[]"])
def test_a_latency_is_a_finite_number(load: Load, written: str) -> None:
    text = WHOLE.replace("budgets:", f"budgets:\n  latency_ms: {written}")

    assert "14: budgets.latency_ms: found" in refusal(load, text)


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("  threads: 4\n", "  threads: 5\n", "12: runtime.threads: found 5, wanted at most hardware.cores, which is 4"),
        ("  threads: 3\n", "  threads: 9\n", "17: serving.threads: found 9, wanted at most hardware.cores, which is 4"),
        ("512 MiB", "64 MiB", "15: budgets.memory_bytes: found 134217728, wanted at most serving.memory_limit_bytes"),
        ("512 MiB", "2 GiB", "18: serving.memory_limit_bytes: found 2147483648, wanted at most hardware.memory_bytes"),
    ],
)
def test_figures_have_to_make_sense_together(load: Load, section: str, line: str, said: str) -> None:
    assert refusal(load, WHOLE.replace(section, line)).startswith(f"board.yaml:{said}")


class TestYaml:
    """What is refused before the schema is looked at."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("title: a\ntitle: b\n", "board.yaml:2: title stands twice, first on line 1"),
            ("title: &a x\nwatch_s: *a\n", "board.yaml:1: anchors and aliases (&name, *name) cannot be used here"),
            ("a: 1\nb: [*a]\n", "board.yaml:2: anchors and aliases (&name, *name) cannot be used here"),
            ("title: !!python/object:os.system x\n", "board.yaml:1: tag 'tag:yaml.org,2002:python/object:os.system'"),
            ("!!set {a}\n", "board.yaml:1: tag 'tag:yaml.org,2002:set'"),
            ("[a, b]: c\n", "board.yaml:1: a key is a list or a mapping; wanted a word"),
            ("title: [a\n", "board.yaml:2: not YAML: "),
            ("title: a\n---\ntitle: b\n", "board.yaml:2: a second document begins; wanted one"),
            ("- a\n", "board.yaml: wanted keys and values"),
            ("", "board.yaml: wanted keys and values"),
            ("a: " + "[" * 20 + "]" * 20, "board.yaml:1: nested more than 16 levels deep"),
            ("a: " + "{a: " * 16 + "}" * 16, "board.yaml:1: nested more than 16 levels deep"),
            ("a: " + "[" * 60_000, "board.yaml:1: nested more than 16 levels deep"),
            ("title: '\x01'\n", "board.yaml: not YAML: "),
        ],
    )
    def test_it_is_refused_with_the_reason(self, load: Load, text: str, said: str) -> None:
        assert refusal(load, text).startswith(said)

    def test_a_file_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "board.yaml"
        path.write_bytes(b"title: \xff\n")

        with pytest.raises(ProfileError, match="not UTF-8 at byte 7"):
            load_profile(str(path))

    def test_a_file_may_have_64_kib(self, load: Load) -> None:
        assert load(WHOLE + "#" * (64 * 1024 - len(WHOLE))).title == "A board"

    def test_a_file_that_is_too_large_is_refused(self, load: Load) -> None:
        assert f"more than {MAX_FILE_BYTES} bytes" in refusal(load, WHOLE + "#" * (MAX_FILE_BYTES + 1 - len(WHOLE)))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(data=st.binary(max_size=200))
    def test_any_bytes_are_a_profile_or_refused(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "board.yaml"
        path.write_bytes(data)

        with pytest.raises(ProfileError):
            load_profile(str(path))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
    @given(at=st.integers(0, len(WHOLE) - 1), length=st.integers(0, 12), instead=st.text(max_size=4))
    def test_a_profile_with_a_piece_replaced_is_a_profile_or_refused(
        self, tmp_path: Path, at: int, length: int, instead: str
    ) -> None:
        path = tmp_path / "board.yaml"
        path.write_bytes((WHOLE[:at] + instead + WHOLE[at + length :]).encode())

        with contextlib.suppress(ProfileError):
            assert isinstance(load_profile(str(path)), DeviceProfile)
