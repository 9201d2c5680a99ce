"""docs/architecture.md is a true picture of the house."""

import re
import tomllib
from pathlib import Path

import pytest

from edgeferry.agent import effects, events
from edgeferry.agent.fsops import Disk
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import Phase
from edgeferry.agent.store import Store
from edgeferry.wire.messages import Outcome
from tests.docs.documents import ROOT, blocks_of, spans_of, table_below

DOC = ROOT / "docs" / "architecture.md"
ROOMS = ("agent", "client", "converter", "device_profiles", "fleet", "inference", "wire")
INDENT = 4


def picture() -> dict[str, str]:
    """Return what each path of the picture is said to be; folders end in a slash."""
    lines = next(block.text for block in blocks_of(DOC) if "wire/  " in block.text).splitlines()
    found: dict[str, str] = {}
    above: list[str] = []
    for line in filter(None, lines):
        name, description = line.split(maxsplit=1)
        depth = (len(line) - len(line.lstrip())) // INDENT
        above = [*above[:depth], name]
        found["".join(above)] = description
    return found


PICTURE = picture()


def entries_of(folder: Path) -> set[str]:
    """Return the modules and packages in ``folder``, as the picture spells them."""
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    return modules | {f"{path.name}/" for path in folder.iterdir() if any(path.glob("*.py"))}


def shown_in(folder: str) -> set[str]:
    return {path.removeprefix(folder) for path in PICTURE if re.fullmatch(f"{folder}[^/]+/?", path)}


@pytest.mark.parametrize("folder", [path for path in PICTURE if shown_in(path) or path.rstrip("/") in ROOMS])
def test_a_room_or_folder_that_is_shown_from_inside_is_shown_whole(folder: str) -> None:
    assert shown_in(folder) == entries_of(ROOT / folder), f"the picture in docs/architecture.md differs from {folder}"


def test_there_is_no_other_room() -> None:
    assert {path.split("/")[0] for path in PICTURE} == set(ROOMS)
    assert {path.name for path in (ROOT / "src" / "edgeferry").iterdir() if path.is_symlink()} == set(ROOMS)


def test_every_path_of_the_picture_exists() -> None:
    assert [path for path in PICTURE if not (ROOT / path).exists()] == []


def test_what_the_picture_calls_pure_is_a_pure_module() -> None:
    """Told from the module's own imports: what it imports of ours has its own line in the picture."""
    impure = re.compile(r"^(?:import|from) (paho|psutil|click|threading|time|os|socket|subprocess)\b", re.MULTILINE)
    pure = [path for path, description in PICTURE.items() if description.endswith("; pure")]

    assert len(pure) > 10
    assert [path for path in pure if impure.search((ROOT / path).read_text())] == []


def test_every_path_that_is_named_in_the_text_exists() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = [span for span in spans_of(DOC) if "/" in span and span.split("/")[0] in folders]

    assert named
    assert [path for path in named if not (ROOT / path).exists() and not is_on_a_device(path)] == []


def is_on_a_device(path: str) -> bool:
    return path.startswith("models/")


def test_every_rule_of_import_linter_is_told_by_its_name() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    text = " ".join(DOC.read_text().split())

    assert [contract["name"] for contract in contracts if f"**{contract['name']}**" not in text] == []


def test_the_table_of_the_lifecycle_has_every_phase_event_effect_and_outcome() -> None:
    rows = table_below(DOC, "## The lifecycle of a model on a device")
    words = {word for row in rows for cell in row for word in re.findall(r"`(\w+)`", cell)}
    asked_for = {"Load", "Unload", "Collect"}  # no phase begins with them, and nobody waits for them
    from_outside = {"Booted", "ServingStarted", "Noted", "Happened", "LifecycleEvent", "Target"}

    assert {*Phase, *Outcome} <= words
    assert set(effects.__all__) - asked_for - {"Effect"} <= words
    assert set(events.__all__) - from_outside <= words
    assert words <= {*Phase, *Outcome, *effects.__all__, *events.__all__}


def test_the_table_of_the_disk_has_everything_that_an_agent_makes(tmp_path: Path) -> None:
    state_dir, disk = tmp_path / "state", Disk()
    Store(state_dir, disk).open()
    Spool(state_dir / "spool", disk).open()
    rows = table_below(DOC, "## What lies on the disk")
    told = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w./]+)`", row[0])}

    assert {path.name for path in state_dir.iterdir()} <= told
