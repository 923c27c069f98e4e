"""The ConfigDict that `configs/*.py` return, generated from the dataclasses that hold the defaults."""

import dataclasses

from ml_collections import ConfigDict, config_dict

from addnorm_exp.config.keys import leaves


def as_configdict(config: object) -> ConfigDict:
    """A config dataclass as a locked, typed ConfigDict: subtrees nested, sequences as tuples, and optional values as
    placeholders of their type, which hold None until they are set. A count of steps accepts any value here, so that it also
    accepts "5%"; `door.convert` checks it."""
    tree = _tree(config)
    tree.lock()
    return tree


def _tree(config: object) -> ConfigDict:
    assert dataclasses.is_dataclass(config)
    tree = ConfigDict()
    schema = leaves(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name not in schema:
            tree[item.name] = _tree(value)
            continue
        leaf = schema[item.name]
        if leaf.share:
            tree[item.name] = config_dict.FieldReference(value, field_type=object)
            continue
        kind = tuple if leaf.sequence else leaf.type
        tree[item.name] = config_dict.FieldReference(value, field_type=kind) if leaf.optional else value
    return tree
