"""The architecture of a model from the keys of a config's `model`, which all tasks share."""

from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.nn.models import hidden_units
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual.recipe import Weights


def architecture(shape: Shape) -> Architecture:
    """Its kernel of attention is the reference where the shape has `auto`, which `experiment.kernels` resolves for a device."""
    width = shape["model.width"]
    return Architecture(
        depth=shape["model.depth"],
        width=width,
        num_heads=shape["model.num_heads"],
        hidden=hidden_units(width, shape["model.mlp_ratio"]),
        activation=shape["model.activation"],
        rotary=shape["model.positions"] == "rotary",
        bias=shape["model.bias"],
        law=shape["init.law"] or shape.scheme.law,
        depth_scaled=shape["init.depth_scaled"],
        attention="einsum" if shape["execution.attention"] == "auto" else shape["execution.attention"],
        scan_layers=shape["execution.scan_layers"],
    )


def weights(experiment: Experiment, outputs: int, *, tied: bool = False) -> Weights:
    """What init laws draw for, in a model with these outputs of its head."""
    arch, config = architecture(experiment.shape), experiment.config
    return Weights(
        arch.law,
        arch.width,
        arch.hidden,
        outputs,
        gated=arch.activation == "swiglu",
        tied=tied,
        rotary=arch.rotary,
        depth_scaled=arch.depth_scaled,
        hypers={"gain": config.init.gain, "std": config.init.std},
    )
