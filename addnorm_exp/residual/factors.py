"""What a scheme puts on the optimiser, in words: a learning rate that one row of a table has to itself is a confound."""

from collections.abc import Collection
from dataclasses import asdict

from addnorm_exp.residual.init import DECAYED, Spec

WORDS = {"lr": "lr", "decay": "decay", "eps": "ε"}


def in_words(specs: Collection[Spec]) -> str:
    """Factors on learning rate, weight decay and Adam's ε of a model's parameters, in the blocks and at the ends, with the groups that
    have them where others there have not: `in the blocks lr × 0.5 (gain)`. Empty where every factor is 1.
    """
    parts = []
    for place, inside in (("in the blocks", True), ("at the ends", False)):
        groups: dict[str, list[str]] = {}
        for spec in specs:
            if spec.in_block == inside:
                same = groups.setdefault(_text(spec), [])
                same += [] if spec.group in same else [spec.group]
        parts += [
            f"{place} {text}" + (f" ({', '.join(names)})" if len(groups) > 1 else "")
            for text, names in groups.items()
            if text
        ]
    return "; ".join(parts)


def _text(spec: Spec) -> str:
    factors = asdict(spec.factors)
    if spec.group not in DECAYED:
        factors.pop("decay")  # it says nothing there
    return ", ".join(f"{WORDS[name]} × {factor:.4g}" for name, factor in factors.items() if factor != 1.0)
