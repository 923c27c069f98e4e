"""The residual connection and the normalisation of Transformers, as a library. Imports nothing else of addnorm_exp.

The contract is in `contract.py`, the record that most schemes are in `rule.py`, the schemes in `catalogue/`. To use a scheme in a
model of one's own: make `BlockConnections(scheme.plan(site), site, width, rngs=rngs)` for each block and
`scheme.connect_ends(width, rngs=rngs)` for the model, pass the sublayers by name, and open and close the stream around them
(docs/library.md has a complete example). The model must itself apply what the record asks of weights, sublayers and optimiser:
`Scheme.init`, `options`, `around`, `factors`, `calibrate`, `project`.
"""

from addnorm_exp.residual import axes, catalogue, init, norms
from addnorm_exp.residual.around import Around
from addnorm_exp.residual.contract import Body, Connection, Context, Depths, Memo, Site, State, Stats, Topology
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.norms import Norm, NormSpec
from addnorm_exp.residual.plan import At, BlockConnections, Chain, Ramp, Sum, rms
from addnorm_exp.residual.rule import Constant, Learned, Rule, constant
from addnorm_exp.residual.scheme import Scheme, SchemeError, Versioned, sites
from addnorm_exp.residual.taps import tap

__all__ = [
    "Around", "At", "BlockConnections", "Body", "Chain", "Connection", "Constant", "Context", "Depths", "Ends",
    "EndsModule", "Learned", "Memo", "Norm", "NormSpec", "Ramp", "Rule", "Scheme", "SchemeError", "Site", "State", "Stats",
    "Sum", "Topology", "Versioned", "axes", "catalogue", "constant", "init", "norms", "rms", "sites", "tap",
]  # fmt: skip
