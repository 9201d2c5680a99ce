"""The profiles that come with edgeferry: complete, sourced, and quick to load."""

import dataclasses
import subprocess
import sys
import time

import pytest

from edgeferry.device_profiles import (
    Arch,
    DeviceProfile,
    RuntimePackage,
    Scheme,
    Swap,
    load_profile,
    profile_names,
)

NAMES = (
    "coral-dev-board",
    "generic-aarch64",
    "generic-x86-64",
    "jetson-nano",
    "orange-pi-5",
    "raspberry-pi-3",
    "raspberry-pi-32bit",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
)
# These are names or carry their own source; everything else is a figure.
NOT_FIGURES = {"name", "title", "sources", "latencies", "thermal"}
CHOICES_WITH_DEFAULTS = {"weights", "allow_select_tf_ops"}


def figures(profile: DeviceProfile) -> set[str]:
    """Return the dotted key of every value that the profile's files give."""
    found = set()
    for field in dataclasses.fields(profile):
        value = getattr(profile, field.name)
        if field.name in NOT_FIGURES:
            continue
        if dataclasses.is_dataclass(value):
            found |= {
                f"{field.name}.{inner.name}"
                for inner in dataclasses.fields(value)
                if getattr(value, inner.name) not in (None, "", ())
            }
        else:
            found.add(field.name)
    return found


def test_the_ten_profiles_are_there() -> None:
    assert profile_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_its_source(name: str) -> None:
    profile = load_profile(name)

    assert profile.name == name
    assert set(profile.sources) == figures(profile)


@pytest.mark.parametrize("name", NAMES)
def test_a_source_is_a_document_with_an_address_or_a_reason(name: str) -> None:
    for figure, source in load_profile(name).sources.items():
        cited = bool(source.name) and source.url.startswith("https://")
        assert cited != bool(source.reason), figure


@pytest.mark.parametrize("name", NAMES)
def test_a_scheme_that_every_model_can_be_converted_to_is_among_them(name: str) -> None:
    assert Scheme.FLOAT32 in load_profile(name).schemes


@pytest.mark.parametrize("name", NAMES)
def test_where_both_versions_serve_at_once_the_memory_holds_two(name: str) -> None:
    profile = load_profile(name)

    holds_two = profile.serving.memory_limit_bytes >= 2 * profile.budgets.memory_bytes

    assert holds_two == (profile.serving.swap is Swap.BOTH)


def test_the_32_bit_raspberry_pi_has_the_last_runtime_that_was_built_for_it() -> None:
    profile = load_profile("raspberry-pi-32bit")

    assert profile.hardware.arch is Arch.ARMV7L
    assert profile.runtime.package is RuntimePackage.TFLITE_RUNTIME
    assert profile.runtime.version == "==2.14.0"
    assert profile.runtime.python == ("3.11",)


def test_the_coral_board_names_its_delegate_as_an_optional_library() -> None:
    (delegate,) = load_profile("coral-dev-board").runtime.delegates

    assert delegate.library == "libedgetpu.so.1"


def test_a_profile_loads_within_20_ms() -> None:
    load_profile("raspberry-pi-4")

    fastest = min(_seconds_to_load(name) for name in NAMES for _ in range(3))

    assert fastest < 0.020


def _seconds_to_load(name: str) -> float:
    begun = time.perf_counter()
    load_profile(name)
    return time.perf_counter() - begun


def test_loading_needs_no_more_than_yaml_and_the_standard_library() -> None:
    script = (
        "import sys; from edgeferry.device_profiles import load_profile; load_profile('raspberry-pi-4');"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )

    clean = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    foreign = {name.strip("' ") for name in clean.stdout.strip()[1:-1].split(",")}
    assert not foreign & {"numpy", "click", "msgspec", "tensorflow", "ai_edge_litert", "psutil", "paho"}
