"""A YAML file as a tree whose every value knows its line.

Decides what YAML may say here: mappings, lists and scalars. Scalars stay text until the schema says what they mean, so
YAML 1.1's guesses (``3.10`` a float, ``no`` a boolean, ``1:30`` ninety) cannot happen. Anchors, aliases and tags are
refused: they only make such a file harder to read.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

__all__ = ["MAX_FILE_BYTES", "Node", "ProfileError", "parse_tree"]

MAX_FILE_BYTES = 64 * 1024

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")}
_MAX_DEPTH = 16


class ProfileError(ValueError):
    """A device profile cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a YAML file.

    Attributes:
        value: Text of a scalar, the items of a list, or the entries of a mapping.
        file: Name of the file, for messages.
        line: Where it begins, counted from 1.
    """

    value: "Value"
    file: str
    line: int

    def error(self, sentence: str) -> ProfileError:
        """Return an error that begins with where this node stands."""
        return ProfileError(f"{self.file}:{self.line}: {sentence}")


Value: TypeAlias = "str | tuple[Node, ...] | dict[str, Node]"


def parse_tree(data: bytes, file: str) -> dict[str, Node]:
    """Return the entries of the YAML in ``data``.

    Raises:
        ProfileError: It is too large, not UTF-8, not YAML, or says what a profile cannot say.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ProfileError(f"{file}: {len(data)} bytes, wanted at most {MAX_FILE_BYTES}")
    try:
        root = yaml.compose(data.decode(), Loader=_LOADER)
    except UnicodeDecodeError as err:
        raise ProfileError(f"{file}: not UTF-8 at byte {err.start}; save it as UTF-8") from err
    except (yaml.YAMLError, RecursionError) as err:
        raise ProfileError(f"{file}{_line_of(err)}: not YAML: {_problem_of(err)}") from err
    if not isinstance(root, yaml.MappingNode):
        raise ProfileError(f"{file}: wanted keys and values, such as `title: My board`")
    return _TreeBuilder(file).entries(root, 0)


def _line_of(err: Exception) -> str:
    mark = getattr(err, "problem_mark", None)
    return f":{mark.line + 1}" if mark else ""


def _problem_of(err: Exception) -> str:
    return getattr(err, "problem", None) or "nested too deeply or with characters that YAML does not allow"


class _TreeBuilder:
    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: set[int] = set()

    def build(self, source: yaml.Node, depth: int) -> Node:
        line = source.start_mark.line + 1
        self._check(source, line, depth)
        value: Value
        if isinstance(source, yaml.MappingNode):
            value = self.entries(source, depth)
        elif isinstance(source, yaml.SequenceNode):
            value = tuple(self.build(item, depth + 1) for item in source.value)
        else:
            value = str(source.value)
        return Node(value, self._file, line)

    def _check(self, source: yaml.Node, line: int, depth: int) -> None:
        if id(source) in self._seen:
            raise ProfileError(f"{self._file}:{line}: aliases (*name) cannot be used here; write the value again")
        self._seen.add(id(source))
        if depth > _MAX_DEPTH:
            raise ProfileError(f"{self._file}:{line}: nested more than {_MAX_DEPTH} levels deep")
        if source.tag not in _TAGS:
            raise ProfileError(f"{self._file}:{line}: tag {source.tag!r} cannot be used here; leave it out")

    def entries(self, source: yaml.MappingNode, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key_node, value_node in source.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ProfileError(f"{self._file}:{line}: a key is a list or a mapping; wanted a word")
            if key in entries:
                raise ProfileError(f"{self._file}:{line}: {key} stands twice, first on line {entries[key].line}")
            entry = self.build(value_node, depth + 1)
            entries[key] = Node(entry.value, self._file, line)
        return entries
