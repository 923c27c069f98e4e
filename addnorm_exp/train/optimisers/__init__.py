"""Optimisers: a rule of updates each, by optax, behind one protocol.

    optimiser    the protocol; learning rate, weight decay and a scheme's factors, which are the same for all
    adamw        AdamW
    sgd          stochastic gradient descent with momentum
    adafactor    Adafactor
    lion         Lion
    muon         Muon for the weight matrices of the blocks, AdamW for the rest

To add one: CONTRIBUTING.md.
"""

from collections.abc import Callable, Mapping

from addnorm_exp.experiment import Shape
from addnorm_exp.train.optimisers.adafactor import Adafactor
from addnorm_exp.train.optimisers.adamw import AdamW
from addnorm_exp.train.optimisers.lion import Lion
from addnorm_exp.train.optimisers.muon import Muon
from addnorm_exp.train.optimisers.optimiser import Optimiser
from addnorm_exp.train.optimisers.sgd import Sgd

OPTIMISERS: Mapping[str, Callable[[Shape], Optimiser]] = {
    "adamw": AdamW.of,
    "sgd": Sgd.of,
    "adafactor": Adafactor.of,
    "lion": Lion.of,
    "muon": Muon.of,
}


def make_optimiser(shape: Shape) -> Optimiser:
    """The optimiser of a shape."""
    return OPTIMISERS[shape["optim.name"]](shape)


__all__ = ["OPTIMISERS", "Optimiser", "make_optimiser"]
