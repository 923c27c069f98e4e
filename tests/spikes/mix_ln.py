"""Mix-LN (Li 2024, 2412.13795): Post-LN in the first ⌊L/4⌋ blocks, Pre-LN after. A predicate over the site."""

import math

from addnorm_exp.residual import At, NormEnds, Rule, Scheme


def block(site, norm):
    rule = Rule(post=norm) if site.block < math.floor(0.25 * site.depth) else Rule(pre=norm)
    return tuple(At(kind, rule) for kind in site.sublayers)


scheme = Scheme(
    "mix_ln", "Mix-LN", "placement", "Post-LN, then Pre-LN", "2412.13795", 2024, "code", block,
    lambda norm: NormEnds(closing=norm),
)  # fmt: skip
