"""YAML for settings, by the core schema of YAML 1.2: JSON loads too, and the symbols ON and NO are text.

Stricter than a YAML library: a key stands once, aliases and tags are refused (with them a short file unfolds
into a huge one), and every key's line is kept for messages.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_TEXT_TAG = "tag:yaml.org,2002:str"
_COLLECTION_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}


_DEEPEST = 32
"""Levels of nesting, of which the settings need five: PyYAML takes a second for the brackets of a thousand."""

_Where = tuple[str | int, ...]


class YamlError(ValueError):
    """Text that is not the YAML read here: `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.column = column


@dataclass(frozen=True)
class Document:
    """A text read: its data, and the line (from 1) of every key and list item by its path."""

    data: Any
    lines: Mapping[_Where, int]


def read(text: str) -> Document:
    """Read one document; an empty one is None.

    Raises `YamlError`.
    """
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, which YAML refuses
    reader = _Reader()
    try:
        node = yaml.compose(text, Loader=_Loader)
        return Document(None if node is None else reader.value(node, ()), reader.lines)
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _at(error.problem_mark or error.context_mark, reason) from None
    except yaml.reader.ReaderError as error:
        raise _unprintable(text, error.position) from None


def write(data: Any) -> str:
    """Block-style YAML that `read` gives back equal, keys in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.BaseLoader):
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark
            reason = "aliases are not read here, write the value out"
            raise yaml.composer.ComposerError(None, None, reason, mark)
        if self._level > _DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "nested too deeply", mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that PyYAML, of YAML 1.1, would leave bare and `read` would take for a number: `1e3`."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


@dataclass
class _Reader:
    """Turns nodes into plain values, and notes where they stood."""

    lines: dict[_Where, int] = field(default_factory=dict)

    def value(self, node: yaml.Node, path: _Where) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if node.tag not in _COLLECTION_TAGS:
            raise _at(node.start_mark, f"the tag {node.tag} is not read here")
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _item(self, node: yaml.Node, path: _Where) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _mapping(self, node: yaml.Node, path: _Where) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _at(key_node.start_mark, "a key has to be text")
            key = key_node.value
            if key in mapping:
                first = self.lines[(*path, key)]
                raise _at(key_node.start_mark, f"the key {key!r} stands twice, first in line {first}")
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = self.value(value_node, (*path, key))
        return mapping


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.tag != _TEXT_TAG:
        raise _at(node.start_mark, f"the tag {node.tag} is not read here")
    if node.style is not None:  # quoted or a block
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        try:
            return int(text)
        except ValueError:  # thousands of digits
            raise _at(node.start_mark, "an integer of too many digits") from None
    return float(text) if _FLOAT.fullmatch(text) else text


def _at(mark: yaml.Mark | None, reason: str) -> YamlError:
    return YamlError(mark.line + 1, mark.column + 1, reason) if mark else YamlError(1, 1, reason)


def _unprintable(text: str, position: int) -> YamlError:
    line_start = text.rfind("\n", 0, position) + 1
    line = text.count("\n", 0, position) + 1
    return YamlError(line, position - line_start + 1, f"the character {text[position]!a} is not allowed")
