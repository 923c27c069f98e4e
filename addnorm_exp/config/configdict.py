"""The ConfigDict that `configs/*.py` return, generated from the dataclasses that hold the defaults."""

from ml_collections import ConfigDict, config_dict

from addnorm_exp.config.keys import leaves, unresolved


def as_configdict(config: object) -> ConfigDict:
    """A config dataclass as a locked, typed ConfigDict: subtrees nested, sequences as tuples, and optional values as
    placeholders of their type, which hold None until they are set. A count of steps accepts any value here, so that it also
    accepts "3epochs" or "5%"; `door.convert` checks it. Keys of all variants of a group are there, and hold None at their default."""
    tree = ConfigDict()
    schema = leaves(type(config))
    for key, value in unresolved(config).items():
        *path, last = key.split(".")
        place = tree
        for name in path:
            if name not in place:
                place[name] = ConfigDict()
            place = place[name]
        leaf = schema[key]
        kind = object if leaf.units else tuple if leaf.sequence else leaf.type
        place[last] = config_dict.FieldReference(value, field_type=kind) if leaf.units or leaf.optional else value
    tree.lock()
    return tree
