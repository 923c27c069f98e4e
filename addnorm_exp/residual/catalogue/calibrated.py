"""Schemes that the first batch sets before step 0."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.parts import no_ends
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.init import Spec
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.versioned import MeasureBranches, Values, Versioned, own_paths


def rescaled(site: Site, norm: NormSpec) -> tuple[At, ...]:
    return tuple(At(kind, Rule(skip=Learned(1.0, "vector"), post=norm)) for kind in site.sublayers)


Passes = tuple[jax.Array, dict[str, jax.Array], jax.Array]  # how many, ω by path, whether the last one changed any


def profile(specs: Mapping[str, Spec], parameters: Values, measure: MeasureBranches) -> dict[str, jax.Array]:
    """ω of every sublayer: in each stack ω_1 = 1 and ω_(s+1)² = ω_s² Var[x_s] + Var[F(x_s)], all coordinates alike.

    The released code sets each ω while its one pass goes on, so that x_s is what the ω's before it make of it. A pass of `measure` is
    a whole one: it makes at least one more ω right, counted from the first, and after as many passes as there are sublayers all are.
    Of a deep stack most are right much sooner, for each norm takes off what a wrong ω did. A pass that changes none is the last: it would
    be repeated to the bit.
    """
    paths = own_paths(specs, "skip")

    def again(carry: Passes) -> Passes:
        number, omegas, _ = carry
        squares: dict[str, jax.Array] = {}  # what is about to be ω², by stack
        measured = {}
        for label, at in measure({**parameters, **omegas}).items():
            stack, path = label.partition(".")[0], paths[label]
            square = squares.get(stack, jnp.float32(1.0))
            measured[path] = jnp.full_like(parameters[path], jnp.sqrt(square))
            squares[stack] = square * at["stream_variance"] + at["branch_variance"]
        changed = jnp.any(jnp.stack([jnp.any(measured[path] != omegas[path]) for path in paths.values()]))
        return number + 1, measured, changed

    ones = {path: jnp.ones_like(parameters[path]) for path in paths.values()}
    _, omegas, _ = jax.lax.while_loop(
        lambda carry: (carry[0] < len(paths)) & carry[2], again, (jnp.int32(0), ones, jnp.bool_(True))
    )
    return {**parameters, **omegas}


admin = Scheme(
    name="admin",
    title="Admin",
    family="calibrated",
    equation="x ← N(ω ⊙ x + F(x));  before step 0, from the first batch, ω_1 = 1 and ω_(s+1)² = ω_s² Var[x_s] + Var[F(x_s)]",
    citation="Liu et al., Understanding the Difficulty of Training Transformers (2004.08249), §4, and the released code",
    year=2020,
    evidence="code",
    block=rescaled,
    ends=no_ends,
    needs_norm=True,
    calibrate=Versioned(profile, version=1),
    traps=(
        "The measurement uses the training batch of step 0 (with optim.accumulate, its first micro-batch), so ω depends on the data seed; "
        "without the measurement it is Post-LN.",
        "As in the released code ω_1 is 1 whatever the variance of the embedding, which counts from ω_2 on, and each branch is measured "
        "after the ω's that are set already. The paper describes one measurement with every ω = 1.",
        "Encoder and decoder each begin at ω = 1. The code measures with dropout; here there is none.",
        "ω is learned and not decayed. After training it folds into the norm before it and the weights after that: a plain Post-LN.",
        "A later package of the authors (admin-torch) computes ω from the depth and measures nothing.",
    ),
    predictions=theory.ADMIN,
)

SCHEMES = (admin,)
