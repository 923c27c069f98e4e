"""Controls: what a part of the block is worth, by its absence."""

from addnorm_exp.residual.catalogue.parts import final
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.scheme import Scheme

no_skip = Scheme(
    name="no_skip",
    title="No skip",
    family="controls",
    equation="x ← F(N(x)),  y = N(x)",
    citation="control; as in Dong et al., Attention is not all you need (2103.03404), but with the norms of Pre-LN",
    year=2021,
    evidence="memory",
    block=lambda site, norm: tuple(At(kind, Rule(pre=norm, skip=0.0)) for kind in site.sublayers),
    ends=final,
    traps=(
        "A control: what Pre-LN's norms are worth without its skip. Two blocks learn to copy (a test); at depth it is not meant to train.",
        "Tokens become similar with depth: without a skip, attention's output loses rank doubly exponentially (2103.03404).",
    ),
)

SCHEMES = (no_skip,)
