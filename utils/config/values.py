"""What `utils/config/core.py` reads: YAML trees, and text or YAML values as the type of a dataclass field."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from utils.wording import shorten, shown

LARGEST_WHOLE = 2**62
LONGEST_TEXT = 4096  # characters of a setting: as many as a path may have
MAX_TEXT = 2**18  # characters of a settings file
MAX_VALUES = 100_000  # with each alias written out
MAX_DIGITS = 3000  # of a whole number; Python writes out no more than 4300
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ConfigError(ValueError):
    """A setting that cannot be used; the message is a sentence for the user."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, and aliases stand for a bounded number of values."""

    def get_single_node(self):
        node = super().get_single_node()
        _count(node, {})
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if isinstance(key, list | dict | set):
                raise ConfigError(f"A key must be a text or a number{node.start_mark}.")
            if key in seen:
                raise ConfigError(f"The key {shown(key)} stands twice{node.start_mark}.")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _count(node: yaml.Node | None, counted: dict[int, int]) -> int:
    """Number of values below a node, aliases written out. Raises ConfigError for too many, and for a loop."""
    if id(node) not in counted:
        counted[id(node)] = MAX_VALUES + 1  # until it is known: for a node that holds itself
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:
            raise ConfigError("it has a whole number of too many digits")
        counted[id(node)] = 1 + sum(_count(part, counted) for part in inner)
    if counted[id(node)] > MAX_VALUES:
        raise ConfigError(f"it has more than {MAX_VALUES:,} values when its aliases are written out")
    return counted[id(node)]


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text, read without running anything; raises ConfigError beginning with `source`."""
    if len(text) > MAX_TEXT:
        raise ConfigError(f"{source} has more than {MAX_TEXT:,} characters; is it a file of settings?")
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
    except RecursionError as error:
        raise ConfigError(f"{source} is not valid YAML: its values are nested too deeply.") from error
    except Exception as error:  # PyYAML's rules for values raise many types, such as for the date 2020-13-45
        known = isinstance(error, ValueError | yaml.YAMLError)
        reason = shorten(error, 400) if known else "a value does not fit its tag"
        raise ConfigError(f"{source} is not valid YAML: {reason}") from error


def load_tree(path: str | Path) -> dict[str, Any]:
    """The keys and values of a YAML file; empty for an empty file. Raises ConfigError."""
    source = f"The settings file '{path}'"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not valid YAML: {error}") from error
    tree = parse_yaml(text, source)
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{source} must hold keys and values.")
    return tree or {}


def to_type(kind: Any, value: Any) -> Any:
    """`value` (from YAML or the command line) as `kind`; raises TypeError or ValueError."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _to_optional(kind, value)
    if origin is tuple:
        return _to_tuple(get_args(kind), value)
    if origin is Literal:
        return to_type(type(get_args(kind)[0]), value)
    if kind is bool:
        if not isinstance(value, str | int) or str(value).lower() not in WORDS:
            raise ValueError
        return WORDS[str(value).lower()]
    if kind in (int, float):
        return _to_number(kind, value)
    if kind in (str, Path):
        return kind(_to_text(value))
    raise TypeError(f"no rule for settings of type {kind}")


def _to_optional(kind: Any, value: Any) -> Any:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        return None
    for candidate in get_args(kind):
        if candidate is not type(None):
            try:
                return to_type(candidate, value)
            except (TypeError, ValueError, OverflowError):
                continue
    raise ValueError


def _to_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = value.strip("[]() ").replace(",", " ").split()
    if isinstance(value, int | float):
        value = [value]
    if not isinstance(value, list | tuple):
        raise ValueError
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    return tuple(to_type(k, v) for k, v in zip(kinds, value, strict=True))


def _to_text(value: Any) -> str:
    # YAML reads `yes`, `on` and dates as other things than text: what was meant is asked for, not guessed.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    text = str(value)
    if len(text) > LONGEST_TEXT or "\0" in text:
        raise ValueError
    return text


def _to_number(kind: type, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if isinstance(value, str) and not value.isascii():  # digits of other scripts
        raise ValueError
    number = kind(value)  # OverflowError: infinity as a whole number
    if number != number or (kind is int and float(value) != number):  # 2.5 is not silently 2
        raise ValueError
    if kind is int and not -LARGEST_WHOLE <= number <= LARGEST_WHOLE:
        raise ValueError
    return number


def describe(kind: Any) -> str:
    """Text on what `kind` accepts, for an error message."""
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
    inner = get_args(kind)
    if kind in names:
        return names[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join("nothing" if k is type(None) else describe(k) for k in inner)
    if get_origin(kind) is tuple:
        many = len(inner) == 2 and inner[1] is Ellipsis
        return f"a list of values, each {describe(inner[0])}" if many else f"{len(inner)} values"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, inner))
    return str(kind)
