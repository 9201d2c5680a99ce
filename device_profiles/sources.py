"""Where the figures of a profile come from: ``sources`` lists, one in each section and one at the top.

An entry names figures of its own section and either a document with its address, or the reason why the profile's
author chose them:

    sources:
      - figures: [cores, memory_bytes]
        name: Raspberry Pi 4 Model B product brief
        url: https://datasheets.raspberrypi.com/rpi4/raspberry-pi-4-product-brief.pdf
      - figures: [memory_limit_bytes]
        reason: half of the memory; the rest is the system's
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from edgeferry.device_profiles.profile import Source
from edgeferry.device_profiles.reader import read, suggestion
from edgeferry.device_profiles.yaml_tree import Node

__all__ = ["check_source", "read_sources", "split_sources"]

_SOURCES = "sources"


@dataclass(frozen=True, slots=True)
class _Entry:
    figures: tuple[str, ...]
    name: str = ""
    url: str = ""
    reason: str = ""


def split_sources(entries: Mapping[str, Node]) -> tuple[dict[str, Node], dict[str, Node]]:
    """Return the entries of a file without their ``sources`` lists, and these by the section that they stand in."""
    lists = {"": entries[_SOURCES]} if _SOURCES in entries else {}
    rest = {key: node for key, node in entries.items() if key != _SOURCES}
    for key, node in rest.items():
        if isinstance(node.value, dict) and _SOURCES in node.value:
            lists[key] = node.value[_SOURCES]
            figures = {name: figure for name, figure in node.value.items() if name != _SOURCES}
            rest[key] = Node(figures, node.file, node.line)
    return rest, lists


def read_sources(lists: Mapping[str, Node], entries: Mapping[str, Node]) -> dict[str, Source]:
    """Return the source of each figure, by its dotted key, from what `split_sources` returned.

    Raises:
        ProfileError: A source is incomplete, or names a figure that does not stand beside it.
    """
    sources: dict[str, Source] = {}
    for section, node in lists.items():
        figures = entries[section].value if section else entries
        sources |= _sources_of(node, cast("Mapping[str, Node]", figures), f"{section}." if section else "")
    return sources


def check_source(source: Source, node: Node, key: str) -> None:
    """Refuse a source that is neither a document with its address nor a reason.

    Raises:
        ProfileError: It is neither, or both.
    """
    is_cited = bool(source.name) and source.url.startswith(("https://", "http://"))
    has_citation = bool(source.name or source.url)
    if is_cited == bool(source.reason) or has_citation != is_cited:
        raise node.error(f"{key}: wanted a name and a url that begins with http, or else a reason")


def _sources_of(node: Node, figures: Mapping[str, Node], prefix: str) -> dict[str, Source]:
    key = prefix + _SOURCES
    if not isinstance(node.value, tuple):
        raise node.error(f"{key}: wanted a list of entries such as `- {{figures: [cores], name: ..., url: ...}}`")
    sources: dict[str, Source] = {}
    for index, item in enumerate(node.value):
        entry = read(_Entry, item, f"{key}[{index}]")
        source = Source(entry.name, entry.url, entry.reason)
        check_source(source, item, f"{key}[{index}]")
        for figure in entry.figures:
            if figure not in figures:
                raise item.error(f"{key}: {figure} does not stand in this section{suggestion(figure, figures)}")
            if prefix + figure in sources:
                raise item.error(f"{key}: {figure} has two sources; keep one")
            sources[prefix + figure] = source
    return sources
