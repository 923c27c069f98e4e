"""HybridNorm and HybridNorm* (Zhuo 2025, 2503.04598): `y = x + F_a(x)` with QKV-norm, `z = N(y)`, `x ← z + F_f(z)`.

The norm that the skip sees too is `Rule.stream`; block 1 of the starred form is a predicate over the site; QKV-norm is an option
of the attention body.
"""

from addnorm_exp.residual import At, NormEnds, Rule, Scheme, norms


def record(star: bool) -> Scheme:
    def block(site, norm):
        if star and site.block == 0:
            return (At("attention", Rule(pre=norm)), At("feed_forward", Rule(pre=norm)))
        return (At("attention", Rule()), At("feed_forward", Rule(stream=norm)))

    return Scheme(
        "hybrid_norm", "HybridNorm", "placement", "y = x + F_a(x), z = N(y), x ← z + F_f(z)", "2503.04598", 2025, "code", block,
        lambda norm: NormEnds(closing=norm), norm=norms.RMS,
        options=lambda site: {"head_norm": norms.RMS} if site.kind == "attention" else {},
    )  # fmt: skip


scheme, starred = record(star=False), record(star=True)
