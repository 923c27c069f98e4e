"""Configs: the schema with every key and its default, conversion to a ConfigDict, the command line, and reading with full checks."""

from addnorm_exp.config.configdict import as_configdict
from addnorm_exp.config.door import override, read
from addnorm_exp.config.files import load, run_file
from addnorm_exp.config.flags import Arguments, Flag, parse
from addnorm_exp.config.keys import flatten, identity_items, leaves, science
from addnorm_exp.config.schema import Config

__all__ = [
    "Arguments",
    "Config",
    "Flag",
    "as_configdict",
    "flatten",
    "identity_items",
    "leaves",
    "load",
    "override",
    "parse",
    "read",
    "run_file",
    "science",
]
