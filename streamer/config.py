"""Loads `Settings` from one YAML file, the environment's `STREAMER_SECTION__KEY`, and overrides.

Errors name the file and line or the variable, the dotted key, what was found and what is expected.
"""

import difflib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from streamer.codec import shown
from streamer.errors import ConfigError
from streamer.settings import Settings, keys, yaml_text
from streamer.settings.keys import KeyPath, dotted
from streamer.settings.origins import Origins
from streamer.settings.types import MASK

__all__ = ["Settings", "SettingsError", "load"]

ENVIRONMENT_PREFIX = "STREAMER_"
_NESTING = "__"
_MAX_FILE_BYTES = 1024**2
_MAX_SECRET_BYTES = 4096
_LONGEST_ITEM = 60
_FLOW = set("[]{}#\"'")  # in a list in brackets they would mean something else

_AnySection = TypeVar("_AnySection", bound=BaseModel)

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "expected": "{what}",
    "conflict": "{what}",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "model_type": "{section}",
    "path_type": "a path",
    "string_too_long": "at most {max_length} characters",
    "string_type": "text (in quotes where it looks like a number)",
    "tuple_type": "{items}",
}
"""What is expected, by pydantic's type of error; other types keep pydantic's own words."""


class SettingsError(ConfigError):
    """Settings that cannot be used. The text is the first problem, on one line; `problems` has them all."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(" ".join(problem.split()) for problem in problems)
        more = len(self.problems) - 1
        suffix = f" (and {more} more; streamer check-config shows all)" if more else ""
        super().__init__(self.problems[0] + suffix)


def load(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] = {}, *, again: bool = False
) -> Settings:
    """Effective settings; of a key given twice, the later source counts: file, environment, overrides.

    path: YAML or JSON file of at most 1 MiB; None for none. An empty one stands for all defaults.
    environ: variables `STREAMER_SECTION__KEY`, deeper keys by more `__`; their values are YAML.
    overrides: by dotted key; a text is read as a variable's value is.
    again: at a reload. A pipe has given what it had, and to open one may wait for ever; an empty file is one that is
    being written: both are refused then.

    Raises `SettingsError`. Reads `path` and the files that hold secrets (`http.token_file`), nothing else.
    """
    raw = _Raw(str(path) if path else "configuration")
    if path:
        raw.add_file(path, again)
    for name in sorted(environ):  # a section's variable before those of its keys
        prefix, rest = name[: len(ENVIRONMENT_PREFIX)], name[len(ENVIRONMENT_PREFIX) :]
        if prefix.upper() == ENVIRONMENT_PREFIX and _NESTING in rest:
            raw.set(tuple(rest.lower().split(_NESTING)), environ[name], name)
    for key, value in overrides.items():
        raw.set(tuple(key.split(".")), value, f"override {key}")
    return _with_secrets(raw.validated(), raw, again)


@dataclass
class _Raw:
    """Values as they were given, with where each came from, and the problems found so far."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_file(self, path: Path, again: bool = False) -> None:
        try:
            text = _read(path, _MAX_FILE_BYTES, again).decode("utf-8-sig")
            document = yaml_text.read(text)
        except yaml_text.YamlError as error:
            raise SettingsError([f"{path}:{error.line}:{error.column}: {error}"]) from None
        except OSError as error:
            raise SettingsError([f"{path}: cannot be read: {error.strerror or error}"]) from None
        except UnicodeDecodeError:
            raise SettingsError([f"{path}: found no text in UTF-8, expected YAML or JSON"]) from None
        except ValueError as error:  # too large
            raise SettingsError([f"{path}: {error}"]) from None
        if document.data is None:
            if again:
                raise SettingsError(
                    [f"{path}: empty: a file that is being written? Take it out of -c to have the defaults"]
                )
            return
        if not isinstance(document.data, dict):
            raise SettingsError([f"{path}: found {shown(document.data)}, expected sections such as 'kafka:'"])
        self.data = document.data
        self.origins = {where: f"{path}:{line}" for where, line in document.lines.items()}
        self._take_out_secrets()

    def _take_out_secrets(self) -> None:
        """Secrets in files end in version control and backups. The mask that `effective` prints is none."""
        for where in keys.secret_paths():
            section: Any = self.data
            for name in where[:-1]:
                section = section.get(name) if isinstance(section, dict) else None
            secret = section.pop(where[-1], None) if isinstance(section, dict) else None
            if secret not in (None, MASK):
                remedy = f"set {_variable(where)} or {dotted(where)}_file"
                self._report(where, f"{dotted(where)}: a secret does not belong in the file: {remedy}")

    def set(self, where: tuple[str, ...], value: Any, origin: str) -> None:
        """Put `value` at `where`, in place of all that stood there."""
        self.origins = {at: by for at, by in self.origins.items() if at[: len(where)] != where}
        self.origins[where] = origin
        section = self.data
        for key in where[:-1]:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        try:
            section[where[-1]] = _parsed(where, value) if isinstance(value, str) else value
        except yaml_text.YamlError as error:
            self._report(where, f"{dotted(where)}: not YAML: {error}")
            section.pop(where[-1], None)

    def validated(self) -> Settings:
        try:
            settings = Settings.model_validate(self.data)
        except ValidationError as error:
            # A mistyped key first: what else is wrong often follows from it.
            errors = sorted(error.errors(), key=lambda details: details["type"] != "extra_forbidden")
            for details in errors:
                where, problem = _worded(details, self._given(details["loc"], details["input"]))
                self._report(where, problem)
            raise SettingsError(self.problems) from None
        if self.problems:
            raise SettingsError(self.problems)
        settings.remember(Origins(self.origins, self.file))
        return settings

    def _given(self, where: KeyPath, otherwise: Any) -> Any:
        """The value as it was written, where pydantic may hold it converted already."""
        value: Any = self.data
        try:
            for part in where:
                value = value[part]
        except (KeyError, IndexError, TypeError):
            return otherwise
        return value

    def origin(self, where: KeyPath) -> str:
        """What gave the key (file and line, variable, override), or a key inside it, or its section."""
        return Origins(self.origins, self.file).of(where)

    def _report(self, where: KeyPath, problem: str) -> None:
        self.problems.append(f"{self.origin(where)}: {problem}")


def _read(path: Path, most: int, again: bool = False) -> bytes:
    if again and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("is no file, so it cannot be read again: restart the daemon")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most} bytes")
    return content


def _with_secrets(settings: Settings, raw: _Raw, again: bool = False) -> Settings:
    """`settings` with the secrets that files hold: `http.token_file` that of `http.token`, and so on."""
    for where in keys.secret_paths():
        in_file = (*where[:-1], f"{where[-1]}_file")
        path = _value(settings, in_file)
        if path is None:
            continue
        try:
            if _value(settings, where) is not None:
                raise ValueError(f"{dotted(where)} is set too, give one of them")
            secret = keys.secret_parser(where)(_read(path, _MAX_SECRET_BYTES, again).decode())
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror or error}"
        except PydanticCustomError as error:
            problem = f"{path}: expected {error.message()}"
        except UnicodeDecodeError:  # its text would show the secret
            problem = f"{path}: expected text"
        except ValueError as error:
            problem = f"{path}: {error}"
        else:
            settings = _replaced(settings, where, secret)
            continue
        raise SettingsError([f"{raw.origin(in_file)}: {dotted(in_file)}: {problem}"])
    return settings


def _value(section: Any, where: tuple[str, ...]) -> Any:
    for name in where:
        section = getattr(section, name)
    return section


def _replaced(section: _AnySection, where: tuple[str, ...], value: Any) -> _AnySection:
    """`section` with `value` at `where`."""
    name, *rest = where
    inner = _replaced(getattr(section, name), tuple(rest), value) if rest else value
    return section.model_copy(update={name: inner})


def _parsed(where: tuple[str, ...], text: str) -> Any:
    """The value that a variable or a command line gives as text: YAML, but text where the key is text.

    So a group named 007 or a token with a `#` stays as it is. Null and nothing stand for null.
    """
    types = keys.types_at(where)
    if type(None) in types and text.strip() in ("", "null"):
        return None
    if SecretStr in types:
        return text
    if not types & {str, Path}:
        return yaml_text.read(text).data
    try:
        value = yaml_text.read(text).data
    except yaml_text.YamlError:
        return text
    return value if isinstance(value, list) else text


def _worded(details: ErrorDetails, given: Any) -> tuple[KeyPath, str]:
    """One of pydantic's errors, of the value `given`: the key that it is about, and a line in our words."""
    context = details.get("ctx", {})
    where: KeyPath = details["loc"]
    if details["type"] == "extra_forbidden":
        return where, f"unknown key {shown(dotted(where))}{_suggestion(where)}"
    if details["type"] == "missing":
        return (
            where,
            f"{dotted(where)}: missing, it has no default: set it in the file or as {_variable(where)}",
        )
    if details["type"] == "conflict":
        where = (*where, *context["key"].split("."))
    template = _EXPECTED.get(details["type"])
    if details["type"] == "model_type":
        context = {"section": _section(where)}
    if details["type"] == "tuple_type":
        context = {"items": _items(given)}
    wanted = template.format(**_readable(where, context)) if template else details["msg"]
    found = context.get("found") or (MASK if SecretStr in keys.types_at(where) else shown(given))
    return where, f"{dotted(where)}: found {found}, expected {wanted}"


def _readable(where: KeyPath, context: Mapping[str, Any]) -> dict[str, Any]:
    """Pydantic's bounds in the unit of the key."""
    unit = keys.unit_at(where)
    bounds = {"ge", "gt", "le", "lt"}
    return {name: unit.render(value) if unit and name in bounds else value for name, value in context.items()}


def _section(where: KeyPath) -> str:
    """What a section is, in words, of which something else was given."""
    section = keys.section_at(where)
    assert section is not None
    names = ", ".join(section.model_fields)
    return f"a value such as {section.EXAMPLE}" if section.EXAMPLE else f"a section with the keys {names}"


def _items(given: Any) -> str:
    """A list, in words, of which `given` may be the only item."""
    is_item = isinstance(given, str) and given.isprintable() and len(given) <= _LONGEST_ITEM and not set(given) & _FLOW
    return f"a list, such as [{given}]" if is_item else "a list"


def _suggestion(where: KeyPath) -> str:
    """The key whose name is nearest: of the same section, else of any."""
    *section, name = keys.without_positions(where)
    known = list(keys.paths())
    siblings = [path[-1] for path in known if path[:-1] == tuple(section)]
    around = keys.section_at(tuple(section))
    if around is not None and name.lower() in around.SYNONYMS:
        example = f" {dotted(where[:-1])} may be {around.EXAMPLE}" if around.EXAMPLE else ""
        return f": did you mean '{dotted((*where[:-1], around.SYNONYMS[name.lower()]))}'?{example}"
    if near := difflib.get_close_matches(name.lower(), siblings, n=1):
        return f": did you mean '{dotted((*where[:-1], near[0]))}'?"
    elsewhere = {path[-1]: dotted(path) for path in reversed(known)}  # of one name, the first in the file counts
    if near := difflib.get_close_matches(name.lower(), elsewhere, n=1):
        return f": did you mean '{elsewhere[near[0]]}'?"
    return f": the keys here are {', '.join(siblings)}"


def _variable(where: KeyPath) -> str:
    return ENVIRONMENT_PREFIX + _NESTING.join(str(part).upper() for part in where)
