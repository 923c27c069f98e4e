"""What records share: plans of a block, ends, and what is counted in a stack."""

from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.ends import Ends
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.vocabulary import OUTPUT_ROLES


def post(site: Site, norm: NormSpec) -> tuple[At, ...]:
    """`x ← N(x + F(x))`."""
    return tuple(At(kind, Rule(post=norm)) for kind in site.sublayers)


def pre(site: Site, norm: NormSpec) -> tuple[At, ...]:
    """`x ← x + F(N(x))`."""
    return tuple(At(kind, Rule(pre=norm)) for kind in site.sublayers)


def plain(site: Site, norm: NormSpec) -> tuple[At, ...]:
    """`x ← x + F(x)`."""
    del norm
    return tuple(At(kind, Rule()) for kind in site.sublayers)


def no_ends(norm: NormSpec) -> Ends:
    """`y = x`."""
    del norm
    return Ends()


def final(norm: NormSpec) -> Ends:
    """`y = N(x)`."""
    return Ends(norm)


def sublayers(site: Site) -> int:
    """Sublayers of the whole stack."""
    return len(site.sublayers) * site.depth


def before(site: Site, kind: str) -> int:
    """Sublayers that come before this one in its stack."""
    return site.block * len(site.sublayers) + site.sublayers.index(kind)


def scaled_outputs(site: Site, role: str) -> float:
    """Megatron's and GPT-2's law of the output projections: one over the root of the number of sublayers."""
    return sublayers(site) ** -0.5 if role in OUTPUT_ROLES else 1.0
