"""A YAML file as a tree whose every value knows its line.

Decides what YAML may say here: mappings, lists and scalars. Scalars stay text until the schema says what they mean, so
YAML 1.1's guesses (``3.10`` a float, ``no`` a boolean, ``1:30`` ninety) cannot happen. Anchors, aliases and tags are
refused: they only make such a file harder to read. The tree is built from the parser's events, because libyaml's own
composer has no limit of depth and overruns the stack.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

__all__ = ["MAX_FILE_BYTES", "Node", "ProfileError", "parse_tree"]

MAX_FILE_BYTES = 64 * 1024

_MAX_DEPTH = 16
_TOO_DEEP = f"nested more than {_MAX_DEPTH} levels deep"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may have been built without libyaml


class ProfileError(ValueError):
    """A device profile cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a YAML file.

    Attributes:
        value: Text of a scalar, the items of a list, or the entries of a mapping.
        file: Name of the file, for messages.
        line: Where it stands, counted from 1; for an entry of a mapping, where its key stands.
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
        raise ProfileError(f"{file}: more than {MAX_FILE_BYTES} bytes; a profile needs few of them")
    try:
        root = _Builder(yaml.parse(data.decode(), Loader=_LOADER), file).document()
    except UnicodeDecodeError as err:
        raise ProfileError(f"{file}: not UTF-8 at byte {err.start}; save it as UTF-8") from err
    except yaml.MarkedYAMLError as err:
        raise ProfileError(f"{file}{_line_of(err)}: {_sentence(err)}") from err
    except yaml.YAMLError as err:
        raise ProfileError(f"{file}: not YAML: it has a character that is not allowed") from err
    if not isinstance(root.value, dict):
        raise ProfileError(f"{file}: wanted keys and values, such as `title: My board`")
    return root.value


def _sentence(err: yaml.MarkedYAMLError) -> str:
    # libyaml reads ahead of the events, and newer ones have a limit of their own, beyond ours.
    return _TOO_DEEP if "nesting depth" in (err.problem or "") else f"not YAML: {err.problem}"


def _line_of(err: yaml.MarkedYAMLError) -> str:
    return f":{err.problem_mark.line + 1}" if err.problem_mark else ""


class _Builder:
    def __init__(self, events: Iterator[Any], file: str) -> None:
        self._events = events
        self._file = file

    def document(self) -> Node:
        """Return the root of the one document; an empty text where there is none."""
        next(self._events)  # the stream's start
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Node("", self._file, 1)
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._error(after, "a second document begins; wanted one")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self._error(event, "anchors and aliases (&name, *name) cannot be used here; write the value again")
        if event.tag:
            raise self._error(event, f"tag {event.tag[:80]!r} cannot be used here; leave it out")
        if depth > _MAX_DEPTH:
            raise self._error(event, _TOO_DEEP)
        line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            return Node(event.value, self._file, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._items(depth + 1), self._file, line)
        return Node(self._entries(depth + 1), self._file, line)

    def _items(self, depth: int) -> tuple[Node, ...]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth))
        return tuple(items)

    def _entries(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth)
            if not isinstance(key.value, str):
                raise key.error("a key is a list or a mapping; wanted a word")
            if key.value in entries:
                raise key.error(f"{key.value} stands twice, first on line {entries[key.value].line}")
            entries[key.value] = Node(self._node(next(self._events), depth).value, self._file, key.line)
        return entries

    def _error(self, event: Any, sentence: str) -> ProfileError:
        return ProfileError(f"{self._file}:{event.start_mark.line + 1}: {sentence}")
