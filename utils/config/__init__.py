"""Settings as dataclasses: declared once, read from YAML files (2020's too) and flags, checked, written down."""

from utils.config.core import (
    ConfigError,
    build,
    build_parser,
    from_dict,
    group,
    leaves,
    option,
    parse_config,
    read_yaml,
    require_range,
    to_dict,
    to_yaml,
)
from utils.config.values import load_tree, parse_yaml

__all__ = [
    "ConfigError", "build", "build_parser", "from_dict", "group", "leaves", "load_tree", "option", "parse_config",
    "parse_yaml", "read_yaml", "require_range", "to_dict", "to_yaml",
]  # fmt: skip
