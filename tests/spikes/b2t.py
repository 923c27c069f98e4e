"""B2T (Takase 2022, 2206.00330): `h = N(x + F_a(x))`, `x ← N(x + h + F_f(h))`. The skip that starts at the block's input is a
connection around a chain: its branch is what the inner stream has become before the last norm."""

from addnorm_exp.residual import At, Chain, NormEnds, Rule, Scheme


def block(site, norm):
    *inner, last = site.sublayers
    chain = (*(At(kind, Rule(post=norm)) for kind in inner), At(last, Rule()))
    return (At(Chain(chain), Rule(post=norm)),)


scheme = Scheme(
    "b2t", "B2T", "placement", "x ← N(x + h + F(h))", "2206.00330", 2022, "secondary", block, lambda norm: NormEnds()
)
