"""The keys of optimisers: those that all of them have, and each one's own.

A config has the keys of the optimiser that `optim.name` names, with that optimiser's defaults. Setting a key of another one is an error.
The update rules are in addnorm_exp/train/optimisers, a file of the same name each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from addnorm_exp.config.key import (
    COUNT,
    COUNT_OR_OFF,
    HYPER,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    RATE,
    SHARE,
    SIZE,
    SWITCH,
    Range,
    key,
)


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and the learning-rate schedule. A key whose meaning names optimisers, with their defaults, is for these alone, and is
    refused with another one."""

    name: str = key("adamw", neutral="adamw")
    lr: float = key(1e-3, "peak learning rate", POSITIVE, role=HYPER)
    schedule: Literal["cosine", "inverse_sqrt", "constant", "wsd"] = key(
        "cosine", "cosine | inverse_sqrt (from step max(warmup, 1) on) | constant | wsd"
    )
    warmup: int = key(0, "steps of linear warmup", COUNT_OR_OFF, role=HYPER, units=PART)
    final_lr: float = key(
        0.1,
        "final lr divided by peak lr (cosine, wsd)",
        SHARE,
        role=HYPER,
        idle=lambda config: config.optim.schedule not in ("cosine", "wsd"),
    )
    decay: float = key(
        0.2,
        "wsd: share of the run for the final linear decay",
        Range(above=0, maximum=1),
        role=HYPER,
        idle=lambda config: config.optim.schedule != "wsd",
    )
    weight_decay: float = key(
        0.1,
        "of matrices and embeddings; decoupled, multiplied by the learning rate",
        NOT_NEGATIVE,
        role=HYPER,
        neutral=0.0,
    )
    clip: float = key(1.0, "maximum global gradient norm; 0 is off", NOT_NEGATIVE, role=SWITCH, neutral=0.0)
    accumulate: int = key(1, "micro-batches per step; must divide batch_size", COUNT, neutral=1)

    # The factors of a scheme (residual.init.Factors) that have a meaning under this optimiser, by field.
    factors: ClassVar[tuple[str, ...]] = ("lr", "decay")


@dataclass(frozen=True)
class AdamWConfig(OptimConfig):
    """AdamW (Loshchilov & Hutter 2019, 1711.05101)."""

    name: str = "adamw"
    beta1: float = key(0.9, "decay of the running mean of gradients", RATE, role=HYPER)
    beta2: float = key(0.95, "decay of the running mean of squared gradients", RATE, role=HYPER)
    eps: float = key(1e-8, "added to the root of the mean of squares", POSITIVE, role=HYPER)

    factors: ClassVar[tuple[str, ...]] = ("lr", "decay", "eps")


@dataclass(frozen=True)
class SgdConfig(OptimConfig):
    """Stochastic gradient descent with momentum."""

    name: str = "sgd"
    momentum: float = key(0.9, "decay of the sum of gradients; 0 is off", RATE, role=SWITCH)
    nesterov: bool = key(False, "Nesterov's momentum, which looks one step ahead")


@dataclass(frozen=True)
class AdafactorConfig(OptimConfig):
    """Adafactor (Shazeer & Stern 2018, 1804.04235) with the learning rate of the schedule, without momentum."""

    name: str = "adafactor"
    decay_exponent: float = key(
        0.8, "c: at step t, from 1, squared gradients decay by 1 - t^-c", Range(above=0, maximum=1), role=HYPER
    )
    eps: float = key(1e-30, "added to squared gradients", POSITIVE, role=HYPER)
    update_clip: float = key(1.0, "largest RMS of a tensor's update", POSITIVE, role=HYPER)
    factored_size: int = key(
        128, "a tensor keeps a mean per row and column instead of per entry if both are at least this long", SIZE
    )
    parameter_scale: bool = key(True, "an update is relative to the RMS of its tensor, which counts as at least 1e-3")


@dataclass(frozen=True)
class LionConfig(OptimConfig):
    """Lion (Chen et al. 2023, 2302.06675)."""

    name: str = "lion"
    beta1: float = key(0.9, "weight of the running mean of gradients in the update", RATE, role=HYPER)
    beta2: float = key(0.99, "decay of the running mean of gradients", RATE, role=HYPER)


@dataclass(frozen=True)
class MuonConfig(AdamWConfig):
    """Muon (Jordan et al. 2024) for the weight matrices of the blocks, AdamW for everything else. One learning rate serves both (Liu et
    al. 2025, 2502.16982)."""

    name: str = "muon"
    momentum: float = key(0.95, "decay of the running mean of gradients of matrices; 0 is off", RATE, role=SWITCH)
    nesterov: bool = key(True, "Nesterov's momentum, which looks one step ahead")
    update_rms: float = key(0.2, "RMS of a matrix's update, divided by the learning rate", POSITIVE, role=HYPER)

    factors: ClassVar[tuple[str, ...]] = ("lr", "decay")  # most tensors have no ε of Adam


OPTIMISERS: Mapping[str, type[OptimConfig]] = {
    keys.name: keys for keys in (AdamWConfig, SgdConfig, AdafactorConfig, LionConfig, MuonConfig)
}
