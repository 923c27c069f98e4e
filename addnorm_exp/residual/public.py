"""The names of the library: what `from addnorm_exp.residual import …` gives."""

from addnorm_exp.residual import axes, catalogue, init, keys, norms
from addnorm_exp.residual.around import Around
from addnorm_exp.residual.checks import SchemeError
from addnorm_exp.residual.contract import (
    Body,
    Connection,
    Context,
    Depths,
    Memo,
    PreNormed,
    Site,
    State,
    Stats,
    Topology,
)
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.norms import Norm, NormSpec
from addnorm_exp.residual.plan import At, BlockConnections, Chain, Ramp, Sum, rms
from addnorm_exp.residual.rule import Learned, Rule, constant
from addnorm_exp.residual.scheme import Scheme, sites
from addnorm_exp.residual.taps import tap
from addnorm_exp.residual.variables import Bound, Coefficient, Constant, Running, bound
from addnorm_exp.residual.versioned import Versioned

__all__ = [
    "Around", "At", "BlockConnections", "Body", "Bound", "Chain", "Coefficient", "Connection", "Constant", "Context",
    "Depths", "Ends", "EndsModule", "Learned", "Memo", "Norm", "NormSpec", "PreNormed", "Ramp", "Rule", "Running",
    "Scheme", "SchemeError", "Site", "State", "Stats", "Sum", "Topology", "Versioned", "axes", "bound", "catalogue",
    "constant", "init", "keys", "norms", "rms", "sites", "tap",
]  # fmt: skip
