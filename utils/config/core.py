"""The one config core of the scripts: dataclass <-> YAML <-> command line.

A script describes its settings as a dataclass whose fields may be dataclasses that live beside their
consumers (`DaNetConfig`, `LossWeights`, ...). Every leaf field becomes one flat flag of its name.
Precedence: defaults < preset < `--cfg file.yaml` < flags and `--misc KEY VALUE ...`. Nothing here knows a
particular setting; `utils/config/legacy.py` holds the key map of 2020 YAML files.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from utils.command_line import SentenceParser, StoreOnce
from utils.config.legacy import is_2020_tree, translate_2020
from utils.config.values import ConfigError, describe, load_tree, parse_yaml, to_type
from utils.wording import shorten, shown

Config = TypeVar("Config")
log = logging.getLogger(__name__)

RESERVED = ("cfg", "danet_cfg_file", "misc", "help")  # flags of every script
MOST_SHOWN = 20  # unknown keys in a message


def option(default: Any = MISSING, help: str = "", choices: Sequence[Any] | None = None):
    """A dataclass field that says how it appears on the command line. Plain fields work too.

    Args:
        default: none makes the setting required.
        help: a line for `--help`.
        choices: the only values allowed.
    """
    if isinstance(default, list | dict | set):
        raise TypeError("Use a tuple as default: it cannot be changed by accident.")
    metadata = {"help": help, "choices": tuple(choices) if choices else None}
    return dataclasses.field(default=default, metadata=metadata)


def group(config_cls: type, preset_by: str | tuple[str, ...] = (), preset: Callable[..., Any] | None = None):
    """A field that holds another config. `preset(values of the settings preset_by)` gives its defaults."""
    names = (preset_by,) if isinstance(preset_by, str) else preset_by
    return dataclasses.field(default_factory=config_cls, metadata={"preset_by": names, "preset": preset})


def require_range(config: Any, low: float, high: float, *names: str) -> None:
    """Raise ValueError for a setting outside `low`..`high`; of a tuple, every number counts."""
    for name in names:
        value = getattr(config, name)
        if not all(low <= number <= high for number in (value if isinstance(value, tuple) else (value,))):
            raise ValueError(f"--{name} must lie between {low:g} and {high:g}, got {shown(value)}.")


# ------------------------------------------------------------------------------------------------- flattening


@dataclass(frozen=True)
class Leaf:
    """One setting of a config: where it sits and what it accepts."""

    path: tuple[str, ...]  # field names from the top config down
    type: Any
    field: Field

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def choices(self) -> tuple[Any, ...] | None:
        given = self.field.metadata.get("choices")
        return given or (get_args(self.type) if get_origin(self.type) is Literal else None)


def leaves(config_cls: type, path: tuple[str, ...] = ()) -> dict[str, Leaf]:
    """All settings of a config class by flag name.

    Raises TypeError when two settings share a name: flags are flat, so the second could never be set.
    """
    hints = typing.get_type_hints(config_cls)
    found: dict[str, Leaf] = {}
    for field in fields(config_cls):
        kind, here = hints[field.name], path + (field.name,)
        leaf = Leaf(here, kind, field)
        inner = leaves(kind, here) if is_dataclass(kind) else {leaf.name: leaf}
        for name, leaf in inner.items():
            if name in found or name in RESERVED:
                other = ".".join(found[name].path) if name in found else "a flag of every script"
                raise TypeError(f"The setting '{'.'.join(leaf.path)}' has the same flag --{name} as {other}.")
            found[name] = leaf
    return found


def convert(leaf: Leaf, value: Any) -> Any:
    """A value from YAML or the command line as the field's type; raises ConfigError with a sentence."""
    try:
        result = to_type(leaf.type, value)
    except (TypeError, ValueError, OverflowError):
        may_be_text = leaf.type is str and not isinstance(value, str | list | dict)
        quote = " Quote it if it is one." if may_be_text else ""
        raise ConfigError(
            f"The setting '{leaf.name}' takes {describe(leaf.type)}, not {shown(value)}.{quote}"
        ) from None
    if leaf.choices and result is not None and result not in leaf.choices:
        listed = ", ".join(map(str, leaf.choices))
        raise ConfigError(f"The setting '{leaf.name}' takes one of {listed}; it was given {shown(value)}.")
    if _has_infinity(result) and not _has_infinity(leaf.field.default):
        raise ConfigError(f"The setting '{leaf.name}' takes finite numbers, not {shown(value)}.")
    return result


def _has_infinity(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return any(isinstance(v, float) and math.isinf(v) for v in values)


# ----------------------------------------------------------------------------------------------- command line


def build_parser(config_cls: type, description: str = "") -> argparse.ArgumentParser:
    """Command line of a config class: one flat flag for each setting, `--cfg` and `--misc`.

    The namespace holds only what was given, as text; `parse_config` converts and merges it.
    """
    parser = SentenceParser(description=description)
    once = {"action": StoreOnce, "default": argparse.SUPPRESS}
    parser.add_argument("--cfg", "--danet_cfg_file", dest="cfg", metavar="FILE", **once,
                        help="settings file (ours, or a YAML of 2020); flags win over it")  # fmt: skip
    parser.add_argument("--misc", nargs="+", metavar="KEY VALUE", **once, help="more settings as pairs")
    for name, leaf in leaves(config_cls).items():
        default = leaf.field.default
        note = "" if default is MISSING or default in (None, "") else f" (default: {default})"
        text = f"{leaf.field.metadata.get('help') or ''}{note}".replace("%", "%%").strip()
        if leaf.type in (bool, bool | None):
            flag = {"dest": name, "nargs": 0, **once}
            parser.add_argument(f"--{name}", constant=True, help=text, **flag)
            parser.add_argument(f"--no_{name}", constant=False, help=argparse.SUPPRESS, **flag)
            continue
        nargs = "+" if get_origin(leaf.type) is tuple else None
        metavar = "{" + ",".join(map(str, leaf.choices)) + "}" if leaf.choices else name.upper()
        parser.add_argument(f"--{name}", nargs=nargs, metavar=metavar, help=text or None, **once)
    return parser


def parse_config(config_cls: type[Config], argv: Sequence[str] | None = None, description: str = "") -> Config:
    """The config of a command line (`argv` None: the process's): defaults, preset, `--cfg` and flags merged.

    Ends the program with exit code 1 and a sentence on a bad setting.
    """
    parser = build_parser(config_cls, description)
    given = vars(parser.parse_args(argv))
    try:
        from_file = read_yaml(config_cls, given.pop("cfg")) if "cfg" in given else {}
        misc = _misc_values(config_cls, given.pop("misc", []))
        known = leaves(config_cls)
        flags = {name: convert(known[name], value) for name, value in given.items()}
        for name in misc.keys() & flags.keys():
            if misc[name] != flags[name]:
                both = f"{shown(misc[name])} and {shown(flags[name])}"
                raise ConfigError(f"--misc and --{name} give the setting two values, {both}; give it once.")
        return build(config_cls, {**from_file, **misc, **flags})
    except ConfigError as error:
        parser.error(str(error))


def _misc_values(config_cls: type, pairs: Sequence[str]) -> dict[str, Any]:
    if len(pairs) % 2:
        raise ConfigError(f"--misc takes pairs of KEY VALUE, but it was given {len(pairs)} words.")
    values: dict[str, Any] = {}
    for key, text in zip(pairs[::2], pairs[1::2], strict=True):
        tree: Any = parse_yaml(text, f"The value of {shorten(key)} in --misc, {shown(text)},")
        for part in reversed(key.split(".")):
            tree = {part: tree}
        for name, value in _flat(config_cls, tree, "--misc").items():
            if name in values:
                raise ConfigError(f"--misc gives the setting '{name}' twice; give it once.")
            values[name] = value
    return values


# -------------------------------------------------------------------------------------------- trees and files


def build(config_cls: type[Config], values: dict[str, Any]) -> Config:
    """The config of flat {flag name: value}, presets included; the rest keeps its default.

    Raises ConfigError for a contradiction (a ValueError of a config's `__post_init__`) or a missing required setting.
    """
    return _build(config_cls, leaves(config_cls), values, path=())


def _build(
    config_cls: type, known: dict[str, Leaf], values: dict[str, Any], path: tuple[str, ...], base: Any = None
):
    names = {leaf.path: name for name, leaf in known.items()}
    hints = typing.get_type_hints(config_cls)
    arguments: dict[str, Any] = {}
    for field in fields(config_cls):
        here = path + (field.name,)
        name = names.get(here)
        if name is None:
            inner = _preset(field, known, values) or (getattr(base, field.name) if base else None)
            arguments[field.name] = _build(hints[field.name], known, values, here, inner)
        elif name in values:
            arguments[field.name] = values[name]
        elif base is not None:
            arguments[field.name] = getattr(base, field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"The setting --{name} is required.")
    try:
        return config_cls(**arguments)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _preset(field: Field, known: dict[str, Leaf], values: dict[str, Any]) -> Any:
    names = field.metadata.get("preset_by")
    if not names:
        return None
    try:
        return field.metadata["preset"](*(values.get(name, known[name].field.default) for name in names))
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def from_dict(config_cls: type[Config], tree: dict[str, Any]) -> Config:
    """The config of a tree as `to_dict` gives it (nested or flat keys, or a 2020 tree). Raises ConfigError."""
    return build(config_cls, _flat(config_cls, tree, "the settings"))


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config (lists for tuples), ready for YAML or JSON."""
    return {f.name: _plain(getattr(config, f.name)) for f in fields(config)}


def to_yaml(config: Any) -> str:
    """The merged config as YAML; `read_yaml` and `--cfg` read it back to the same values."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def read_yaml(config_cls: type, path: str | Path) -> dict[str, Any]:
    """Settings of a YAML file as flat {flag name: value}. Raises ConfigError."""
    return _flat(config_cls, load_tree(path), f"'{path}'")


def _flat(config_cls: type, tree: dict[str, Any], source: str) -> dict[str, Any]:
    """Check a tree's keys against the config class and flatten it."""
    known = leaves(config_cls)
    if is_2020_tree(tree):
        tree, ignored = translate_2020(tree, set(known), source)
        if ignored:
            log.warning("%s: keys without effect: %s.", source, "; ".join(ignored))
    names = {leaf.path: name for name, leaf in known.items()}
    groups = {leaf.path[:n] for leaf in known.values() for n in range(1, len(leaf.path))}
    values: dict[str, Any] = {}
    unknown: list[str] = []

    def visit(branch: dict[Any, Any], path: tuple[str, ...]) -> None:
        for key, value in branch.items():
            here = path + (str(key),)
            if here in groups and isinstance(value, dict):
                visit(value, here)
                continue
            name = names.get(here) or (key if not path and key in known else None)
            if name is None:
                unknown.append(shorten(".".join(here), 80))
            elif name in values:
                raise ConfigError(f"{source} gives the setting '{name}' twice; give it once.")
            else:
                values[name] = convert(known[name], value)

    visit(tree, ())
    if unknown:
        listed = ", ".join(unknown[:MOST_SHOWN])
        more = f" and {len(unknown) - MOST_SHOWN} more" if len(unknown) > MOST_SHOWN else ""
        raise ConfigError(f"{source} has unknown keys: {listed}{more}. Known here: {', '.join(sorted(known))}.")
    return values
