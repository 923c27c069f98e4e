"""The parallel block (GPT-J; PaLM, 2204.02311): `x ← x + F_a(N(x)) + F_f(N(x))`, one norm for both. A body that is a sum."""

from addnorm_exp.residual import At, NormEnds, Rule, Scheme, Sum


def block(site, norm):
    return (At(Sum(site.sublayers), Rule(pre=norm)),)


scheme = Scheme(
    "parallel", "Parallel", "placement", "x ← x + F_a(N(x)) + F_f(N(x))", "2204.02311, 2", 2021, "paper", block,
    lambda norm: NormEnds(closing=norm),
)  # fmt: skip
