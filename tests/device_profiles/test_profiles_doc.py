"""docs/profiles.md says what is so."""

import dataclasses
import re
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin

import pytest

from edgeferry.device_profiles import DeviceProfile, ProfileError, Scheme, Source, load_profile, profile_names
from edgeferry.device_profiles.reader import fields_of

DOC = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()


def example() -> str:
    found = re.search(r"```yaml\n# pi4-8gb.yaml\n(.*?)```", DOC, re.DOTALL)
    assert found
    return "# pi4-8gb.yaml\n" + found[1]


def keys_of_the_schema() -> set[str]:
    keys = {"extends"}
    for name, kind in fields_of(DeviceProfile).items():
        parts = get_args(kind) if get_origin(kind) is UnionType else (kind,)  # a section may be left out
        section = next((part for part in parts if dataclasses.is_dataclass(part)), None)
        if isinstance(section, type):
            keys |= {f"{name}.{inner}" for inner in fields_of(section)}
        else:
            keys.add(name)
    return keys - {"name", "sources"}


def test_the_table_has_every_key_of_the_schema_and_no_other() -> None:
    table = DOC.partition("## The schema")[2].partition("## Sources")[0]

    assert set(re.findall(r"^\| `([a-z_.0-9]+)` \| (?:yes|no)", table, re.MULTILINE)) == keys_of_the_schema()


def test_every_profile_and_scheme_is_named() -> None:
    for word in (*profile_names(), *Scheme):
        assert f"`{word}`" in DOC


def test_the_example_is_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "pi4-8gb.yaml"
    path.write_text(example())

    profile = load_profile(str(path))

    assert profile.name == "pi4-8gb"
    assert profile.budgets.latency_ms == 40
    assert profile.sources["hardware.memory_bytes"] == Source(reason="printed on the box")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("memory_bytes: 8 GiB", "memory_byte: 8 GiB"),
        ("model_bytes: 1 GiB", "model_bytes: 1 GB"),
        ("memory_limit_bytes: 4 GiB", "memory_limit_bytes: 16 GiB"),
    ],
)
def test_the_mistakes_are_answered_as_shown(tmp_path: Path, right: str, wrong: str) -> None:
    path = tmp_path / "pi4-8gb.yaml"
    path.write_text(example().replace(right, wrong))

    with pytest.raises(ProfileError) as caught:
        load_profile(str(path))

    assert str(caught.value).replace(str(tmp_path) + "/", "") in DOC
