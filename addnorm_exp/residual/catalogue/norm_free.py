"""Schemes without a norm, kept trainable by a learned residual or by their init."""

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue.placement import no_ends
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme

rezero = Scheme(
    name="rezero",
    title="ReZero",
    family="norm-free",
    equation="x ← x + a F(x),  a = 0 at init, one a per block",
    citation="Bachlechner et al., ReZero is All You Need (2003.04887), eq. 1, and the released code",
    year=2020,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(scale=Learned(0.0, shared="a"))) for kind in site.sublayers),
    ends=no_ends,
    norm=norms.NONE,
    traps=(
        "The identity at init: in the first step only a, the embedding and the head have a gradient.",
        "No norm at all, not even a final one.",
        "Narang 2021 (2102.11972) found it worse than Pre-LN in T5, and in need of warmup.",
    ),
)

SCHEMES = (rezero,)
