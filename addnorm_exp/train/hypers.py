"""Hypers: the numbers of a config that change neither shape nor structure. They are traced: runs with different hypers share a program."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from addnorm_exp.config import scheme
from addnorm_exp.config.schema import Config

Hypers = dict[str, Any]  # scalars: numpy, on the device, or traced


def hypers(config: Config) -> Hypers:
    """Name → scalar: float32, or uint32 for the seeds."""
    optim = config.optim
    numbers = {
        "lr": optim.lr,
        "warmup": optim.warmup,
        "final_lr": optim.final_lr,
        "decay": optim.decay,
        "beta1": optim.beta1,
        "beta2": optim.beta2,
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
        "clip": optim.clip,
        "dropout": config.model.dropout,
        "drop_path": scheme.resolve(config).around.drop_path,
        "steps": config.steps,
        "bound": config.divergence.bound,
        "gain": config.init.gain,
        "std": config.init.std,
    }
    seeds = {"seed": config.seed, "data_seed": config.seed if config.data.seed is None else config.data.seed}
    return {
        **{name: np.asarray(value, jnp.float32) for name, value in numbers.items()},
        **{name: np.asarray(value, jnp.uint32) for name, value in seeds.items()},
    }


def static(config: Config) -> Config:
    """The config with every hyper set to a fixed value; it keys a compiled program.

    A number that also switches something on (dropout, clipping) becomes 0 or 1.
    """
    zeros: dict[str, Any] = dict.fromkeys(("lr", "final_lr", "decay", "beta1", "beta2", "eps", "weight_decay"), 0.0)
    drop_path = None if config.model.drop_path is None else float(config.model.drop_path > 0.0)
    optim = replace(config.optim, **zeros, warmup=0, clip=float(config.optim.clip > 0.0))
    return replace(
        config,
        seed=0,
        steps=0,
        model=replace(config.model, dropout=float(config.model.dropout > 0.0), drop_path=drop_path),
        init=replace(config.init, gain=0.0, std=0.0),
        optim=optim,
        data=replace(config.data, name="", path=None, seed=None),
        eval=replace(config.eval, every=0),
        divergence=replace(config.divergence, bound=0.0),
        execution=replace(config.execution, checkpoint_every=0, keep_checkpoints=0, keep=None, attention_every=0),
    )
