"""Parametrisations under which one learning rate serves every depth: Pre-LN with the branch over a power of depth, and Adam with it.

Of the papers' rules only those of depth are here. Those of width (init, learning rate and weight decay over width, attention over h,
logits over width) are μP's, hold beside any residual scheme, and are 1 at the base width.
"""

from functools import partial

from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.parts import final
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.init import Factors
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.scheme import Scheme

BASE_DEPTH = 2  # blocks of the model at which all factors are 1 (the released code's)


def deeper(site: Site) -> float:
    """m_L: how many times as deep as the base model."""
    return site.depth / BASE_DEPTH


def branches(exponent: float, site: Site, norm: NormSpec) -> tuple[At, ...]:
    return tuple(At(kind, Rule(pre=norm, scale=deeper(site) ** -exponent)) for kind in site.sublayers)


def factors(exponent: float, site: Site, group: str) -> Factors:
    """Inside the blocks the learning rate × m_L^(a - 1); Adam's ε × m_L^-a everywhere, as in the code of 2505.01618."""
    del group
    m = deeper(site)
    return Factors(lr=1.0 if site.kind == "ends" else m ** (exponent - 1.0), eps=m**-exponent)


_TRAPS = (
    f"m_L = L / {BASE_DEPTH}: the base model has {BASE_DEPTH} blocks, and optim.lr and optim.eps are those of the base model.",
    "Use no depth-scaled init with it (init.depth_scaled): the factor on the branch replaces it.",
    "Adam's ε is scaled for every parameter, as in the released code; table 1 of 2505.01618 scales it only in the residual blocks.",
    "The rules of width (μP) are not part of this record; at one width they are constants.",
)


depth_mup = Scheme(
    name="depth_mup",
    title="Depth-μP",
    family="parametrisation",
    equation="x ← x + m^-½ F(N(x)),  y = N(x);  m = L/2;  in the blocks lr × m^-½;  Adam's ε × m^-½",
    citation="Yang et al., Tensor Programs VI (2310.02244), in the form and code of Dey et al. 2025 (2505.01618), a = ½",
    year=2023,
    evidence="secondary",
    block=partial(branches, 0.5),
    ends=final,
    law="normal",
    factors=partial(factors, 0.5),
    traps=(
        *_TRAPS,
        "Its layers become linear in their weights' change as depth grows, which a = 1 corrects (2505.01618).",
    ),
    predictions=theory.DEPTH_MUP,
)


completep = Scheme(
    name="completep",
    title="CompleteP",
    family="parametrisation",
    equation="x ← x + F(N(x)) / m,  y = N(x);  m = L/2;  Adam's ε / m",
    citation="Dey et al., Don't be lazy: CompleteP enables compute-efficient deep transformers (2505.01618), table 1, and its code",
    year=2025,
    evidence="code",
    block=partial(branches, 1.0),
    ends=final,
    law="normal",
    factors=partial(factors, 1.0),
    traps=(
        *_TRAPS,
        "With a = 1 no learning rate depends on depth, but ε does (code; the README names only the branch).",
    ),
    predictions=theory.COMPLETEP,
)

SCHEMES = (
    depth_mup,
    completep,
)
