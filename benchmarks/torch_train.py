"""Trains the PyTorch twin of our Pre-LN decoder (benchmarks/torch_step.py) once, as a researcher's
script does:

    python torch_train.py --lr=1e-3 --seed=0 --corpus=FILE --attention=sdpa --optimiser=fused --threads=2 [--compile]

attention: sdpa | plain; optimiser: AdamW fused | foreach | compiled (the last with --compile). A
process of benchmarks/grid.py.
"""

import math

import torch
import torch_step
from grid_plan import OPTIM
from torch import nn
from torch_loop import fit, parse, prepare


def xavier(model: nn.Module) -> None:
    """Our law of initial values: query, key and value are three maps there."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            outputs, inputs = module.weight.shape
            bound = math.sqrt(6.0 / (inputs + outputs // (3 if name.endswith("qkv") else 1)))
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def main() -> None:
    arguments = parse(__doc__, "attention", "optimiser")
    splits = prepare(arguments)
    torch_step.DEVICE = torch.device(arguments.device)
    torch_step.STATE["dtype"] = "float32"
    shape = {name: getattr(arguments, name) for name in ("depth", "width", "heads", "batch", "seq")}
    for rate, seed in arguments.runs:
        optim = OPTIM | {"lr": rate, "warmup": arguments.warmup, "steps": arguments.steps}
        trainer = torch_step.Trainer(shape, optim, arguments.attention, arguments.optimiser, arguments.compile, seed)
        xavier(trainer.model)
        fit(trainer.model, lambda x, y, trainer=trainer: trainer.step(x, y)[0], splits, arguments, rate, seed)


if __name__ == "__main__":
    main()
