"""A stack of connections around bodies that are handed in: about what a user of the residual package alone would write."""

from flax import nnx

from addnorm_exp.residual import BlockConnections


class Connections(nnx.Module):
    def __init__(self, scheme, sites, width, rngs):
        self.blocks = nnx.List([BlockConnections(scheme.plan(site), site, width, rngs=rngs) for site in sites])
        self.ends = scheme.connect_ends(width, rngs=rngs)

    def __call__(self, x, bodies, context, memo=None):
        state, memo = self.ends.open(x, context), memo or {}
        for number, (connections, around) in enumerate(zip(self.blocks, bodies, strict=True)):
            state, memo, _ = connections(state, memo, context.fold(number), around)
        return self.ends.close(state, context), memo
