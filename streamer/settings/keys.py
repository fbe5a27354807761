"""The keys of the settings, as data: which there are, what each takes, and how each is written."""

from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from streamer.settings.root import Settings
from streamer.settings.types import Reload, Section, Unit

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""


def dotted(where: KeyPath) -> str:
    """`network.layers[0].units`, as messages and overrides name it."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".") or "settings"


def without_positions(where: KeyPath) -> tuple[str, ...]:
    """The keys alone: all items of a list have the same."""
    return tuple(part for part in where if isinstance(part, str))


def paths(section: type[Section] = Settings) -> Iterator[tuple[str, ...]]:
    """Every key of `section`, those of its own sections after each."""
    for name, info in section.model_fields.items():
        yield (name,)
        if inner := _section_of(info):
            yield from ((name, *path) for path in paths(inner))


def secret_paths() -> Iterator[tuple[str, ...]]:
    """The keys whose values are never shown and never in the file."""
    return (path for path in paths() if SecretStr in types_at(path))


def secret_parser(where: KeyPath) -> Callable[..., SecretStr]:
    """What makes the secret at `where` of a text, or raises PydanticCustomError."""
    (annotated,) = (member for member in _members(where) if _bare(member) is SecretStr)
    parser: Callable[..., SecretStr]
    (parser,) = (item.func for item in get_args(annotated)[1:] if isinstance(item, BeforeValidator))
    return parser


def find(where: KeyPath) -> FieldInfo | None:
    """The key at `where`, None for an unknown one."""
    section: type[Section] | None = Settings
    info: FieldInfo | None = None
    for name in without_positions(where):
        info = section.model_fields.get(name) if section else None
        section = _section_of(info) if info else None
    return info


def section_at(where: KeyPath) -> type[Section] | None:
    """The section that the key at `where` opens, None for another one; of no keys, all settings."""
    info = find(where)
    return _section_of(info) if info else None if where else Settings


def types_at(where: KeyPath) -> set[Any]:
    """The types that the key at `where` takes, `NoneType` where it may be null; none for an unknown key."""
    return {_bare(member) for member in _members(where)}


def unit_at(where: KeyPath) -> Unit | None:
    """The unit of the quantity at `where`, None where it is none; a key that may be null has it in its type."""
    info = find(where)
    annotations = [*(info.metadata if info else ()), *(item for member in _members(where) for item in get_args(member))]
    return next((item for item in annotations if isinstance(item, Unit)), None)


def reload_at(where: KeyPath) -> Reload:
    """What a change of the key at `where` asks of a daemon that runs: its own mark, or that of the nearest section."""
    names = without_positions(where)
    infos = (find(names[:length]) for length in range(len(names), 0, -1))
    marks = (mark for info in infos if info for mark in info.metadata if isinstance(mark, Reload))
    mark = next(marks, None)
    if mark is None:
        raise LookupError(f"{dotted(where)} does not say what a reload makes of it: it, or its section, needs a Reload")
    return mark


def reloadable(where: KeyPath) -> bool:
    """Whether a reload takes the key at `where` over; False: a restart alone does."""
    return reload_at(where) is not Reload.RESTART


def changed(before: Section, after: Section) -> Iterator[tuple[str, ...]]:
    """The keys whose values differ, of two sections of one type; a list of sections is one value."""
    for name in type(before).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, Section):
            yield from ((name, *path) for path in changed(old, new))
        elif old != new:
            yield (name,)


def _members(where: KeyPath) -> tuple[Any, ...]:
    """The alternatives in the type of the key at `where`."""
    info = find(where)
    if info is None:
        return ()
    is_union = get_origin(info.annotation) in (Union, UnionType)
    return get_args(info.annotation) if is_union else (info.annotation,)


def _bare(member: Any) -> Any:
    return get_args(member)[0] if get_origin(member) is Annotated else member


def _section_of(info: FieldInfo) -> type[Section] | None:
    """The section that a key opens, or the one that each item of its list is."""
    for candidate in (info.annotation, *get_args(info.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
