"""Finds a profile by name or path, follows ``extends``, and checks that its figures make sense together."""

import re
from collections.abc import Mapping
from pathlib import Path

from edgeferry.device_profiles.profile import DeviceProfile, Source, Thermal
from edgeferry.device_profiles.reader import check_names, read, shown, suggestion
from edgeferry.device_profiles.sources import check_source, read_sources, split_sources
from edgeferry.device_profiles.yaml_tree import MAX_FILE_BYTES, Node, ProfileError, parse_tree

__all__ = ["load_profile", "profile_names"]

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # it names a folder and stands in a signed path

LEAST_SHARE = 0.05  # with less a model would seem to hang

_GIVEN = ("name", "sources")  # fields of DeviceProfile that are not keys of a file

# The first may not be larger than the second.
_ORDERED = (
    ("runtime.threads", "hardware.cores"),
    ("serving.threads", "hardware.cores"),
    ("budgets.model_bytes", "budgets.memory_bytes"),
    ("budgets.memory_bytes", "trial.memory_limit_bytes"),
    ("budgets.memory_bytes", "serving.memory_limit_bytes"),
    ("trial.memory_limit_bytes", "hardware.memory_bytes"),
    ("serving.memory_limit_bytes", "hardware.memory_bytes"),
)


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with edgeferry, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_profile(name_or_path: str) -> DeviceProfile:
    """Return one of edgeferry's own profiles by its name, or anybody's by the path of its YAML file.

    Args:
        name_or_path: A path when it has a ``/`` or ends in ``.yaml`` or ``.yml``.

    Raises:
        ProfileError: There is no such profile, or it cannot be used; the message says file, line and key.
    """
    is_path = "/" in name_or_path or name_or_path.endswith((".yaml", ".yml"))
    path = Path(name_or_path) if is_path else _built_in(name_or_path)
    if not _NAME.fullmatch(path.stem):
        raise ProfileError(f"{path}: a profile is named as its file; wanted 1 to 64 of a-z A-Z 0-9 _ - before the dot")
    entries, sources = _resolved(path)
    root = Node(entries, str(path), 1)
    profile = read(DeviceProfile, root, given=dict(zip(_GIVEN, (path.stem, sources), strict=True)))
    _check_together(profile, entries)
    return profile


def _built_in(name: str) -> Path:
    names = profile_names()
    if name not in names:
        raise ProfileError(f"profile {name!r} is neither known nor the path of a YAML file{suggestion(name, names)}")
    return _FOLDER / f"{name}.yaml"


def _resolved(path: Path) -> tuple[dict[str, Node], dict[str, Source]]:
    entries, source_lists = split_sources(parse_tree(_bytes_of(path), str(path)))
    extends = entries.pop("extends", None)
    check_names(DeviceProfile, entries, given=_GIVEN)
    sources = read_sources(source_lists, entries)
    if extends is None:
        return entries, sources
    bases = [name for name in profile_names() if name != path.stem]
    if extends.value not in bases:
        raise extends.error(f"extends: found {shown(extends)}{suggestion(str(extends.value), bases)}")
    base_entries, base_sources = _resolved(_built_in(str(extends.value)))
    inherited = {figure: source for figure, source in base_sources.items() if not _is_given(figure, entries)}
    return _merged(base_entries, entries), inherited | sources


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise ProfileError(f"{path}: cannot be read: {err.strerror}") from err


def _is_given(figure: str, entries: Mapping[str, Node]) -> bool:
    section, _, name = figure.partition(".")
    node = entries.get(section)
    return node is not None and (not name or (isinstance(node.value, dict) and name in node.value))


def _merged(base: Mapping[str, Node], own: Mapping[str, Node]) -> dict[str, Node]:
    merged = dict(base)
    for key, node in own.items():
        below = merged.get(key)
        if below and isinstance(below.value, dict) and isinstance(node.value, dict):
            merged[key] = Node(below.value | node.value, node.file, node.line)
        else:
            merged[key] = node
    return merged


def _check_together(profile: DeviceProfile, entries: Mapping[str, Node]) -> None:
    for smaller, larger in _ORDERED:
        found, most = _figure(profile, smaller), _figure(profile, larger)
        if found > most:
            node = _node_of(smaller, entries)
            raise node.error(f"{smaller}: found {found}, wanted at most {larger}, which is {most}")
    schemes = entries["schemes"]
    if not profile.schemes or len(set(profile.schemes)) != len(profile.schemes):
        raise schemes.error("schemes: wanted at least one, and each only once")
    if profile.thermal:
        _check_thermal(profile.thermal, entries["thermal"])
    if profile.latencies:
        _check_latency_sources(profile, entries["latencies"])


def _check_thermal(thermal: Thermal, node: Node) -> None:
    if thermal.full_below_c >= thermal.slow_above_c:
        found = f"thermal.full_below_c: found {thermal.full_below_c:g}"
        raise node.error(f"{found}, wanted less than thermal.slow_above_c, which is {thermal.slow_above_c:g}")
    if thermal.least_share < LEAST_SHARE:
        raise node.error(f"thermal.least_share: found {thermal.least_share:g}, wanted {LEAST_SHARE} to 1")


def _check_latency_sources(profile: DeviceProfile, node: Node) -> None:
    items = [item for item in node.value if isinstance(item, Node)]
    for index, (latency, item) in enumerate(zip(profile.latencies, items, strict=True)):
        check_source(latency.source, item, f"latencies[{index}].source")


def _figure(profile: DeviceProfile, key: str) -> int:
    section, _, name = key.partition(".")
    return int(getattr(getattr(profile, section), name))


def _node_of(key: str, entries: Mapping[str, Node]) -> Node:
    section, _, name = key.partition(".")
    value = entries[section].value
    return value[name] if isinstance(value, dict) else entries[section]
