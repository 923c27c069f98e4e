"""Every key of an experiment, with its type, default and meaning. Defaults are defined only here.

`configs/*.py` build a locked `ml_collections.ConfigDict` from these classes, the command line overrides leaves of it, and
`addnorm_exp.config.door` reads it back into them once; after that the config is trusted. Keys under `execution` say how a run is
carried out and are not part of its identity; every other key can change a number.

`None` as a default means "not set": the key's meaning says what applies then.
"""

from dataclasses import dataclass, field
from typing import Literal

from addnorm_exp.config.key import (
    COUNT,
    COUNT_OR_OFF,
    HOST,
    HYPER,
    LENGTH,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    RATE,
    SEED,
    SHAPE,
    SIZE,
    SWITCH,
    TIMETABLE,
    Range,
    key,
    variants,
)
from addnorm_exp.config.optimisers import OPTIMISERS, AdamWConfig, OptimConfig
from addnorm_exp.config.tasks import DATA, STACKS, TASKS
from addnorm_exp.config.tasks.lm import ByteStreamConfig, LanguageModellingConfig
from addnorm_exp.config.tasks.task import DataConfig, StackSchemes, TaskConfig
from addnorm_exp.residual.norm_kinds import KINDS

Law = Literal["xavier", "normal"]
Kept = Literal["none", "final", "best", "state"]  # each keeps more than the one before it


@dataclass(frozen=True)
class ModelConfig:
    """The Transformer around the residual stream."""

    # Each block is built before anything runs.
    depth: int = key(4, "number of blocks", Range(minimum=1, maximum=4096))
    width: int = key(128, "width of the residual stream", SIZE)
    num_heads: int = key(4, "attention heads; must divide width", SIZE)
    mlp_ratio: float = key(
        4.0, "hidden units of the feed-forward sublayer divided by width", Range(above=0, maximum=1024)
    )
    dropout: float = key(0.0, "rate, on every sublayer's output and on the embedding", RATE, role=SWITCH, neutral=0.0)
    drop_path: float | None = key(
        None, "stochastic depth: rate of the last block, rising from 0; not set: the scheme's", RATE, role=SWITCH
    )
    positions: Literal["learned", "rotary"] = key("learned", "position encoding: learned | rotary")
    activation: Literal["gelu", "swiglu", "relu"] = key(
        "gelu", "activation of the feed-forward sublayer: gelu | swiglu | relu"
    )
    bias: bool = key(True, "biases in linear maps (`norm.affine` sets those of norms)")
    tie_embeddings: bool = key(False, "use the embedding matrix as the output head", neutral=False)
    compute_dtype: Literal["float32", "bfloat16"] = key(
        "float32", "float32 | bfloat16; parameters, norms, softmax and loss stay float32"
    )
    matmul_precision: Literal["highest", "high", "default"] = key(
        "highest", "of float32: highest | high | default (accelerators may round inputs to TF32)", neutral="highest"
    )


@dataclass(frozen=True)
class InitConfig:
    """The law of initial values (addnorm_exp/residual/init.py), which some schemes multiply."""

    law: Law | None = key(None, "xavier | normal; not set: the scheme's published law, else xavier")
    std: float = key(
        0.02,
        "standard deviation of the law `normal`",
        POSITIVE,
        role=HYPER,
        idle=lambda config: config.init.law == "xavier",
    )
    gain: float = key(1.0, "factor on every weight matrix inside the blocks", POSITIVE, role=HYPER, neutral=1.0)
    multipliers: Literal["scheme", "none"] = key(
        "scheme", "scheme (its published ones) | none (the law alone; refused if they are the method)", neutral="scheme"
    )
    depth_scaled: bool = key(
        False, "output projections of all sublayers times 1/sqrt(number of sublayers) (GPT-2)", neutral=False
    )


@dataclass(frozen=True)
class NormConfig:
    """Axes of the norm. A key that is not set takes the scheme's published choice."""

    kind: str | None = key(None, choices=KINDS)
    eps: float | None = key(None, "ε, which prevents division by 0", NOT_NEGATIVE)
    eps_place: Literal["inside", "outside"] | None = key(
        None, "inside (rsqrt(mean + eps)) | outside (1 / (sqrt(mean) + eps))"
    )
    affine: Literal["full", "gain", "scalar", "none"] | None = key(
        None, "full (gain and bias) | gain | scalar (one gain) | none"
    )
    gain: Literal["plain", "unit_offset"] | None = key(
        None, "plain (g = 1 at init) | unit_offset (1 + w, w = 0 at init; as Gemma does)"
    )
    blocks: str | None = key(None, "only in first:N | last:N | every:N | 1,4-6; not set: all blocks and the ends")
    alpha: float | None = key(None, "initial value of the scale inside dyt and derf", POSITIVE)


@dataclass(frozen=True)
class AttentionConfig:
    """Axes inside attention. A key that is not set takes the scheme's published choice; most schemes have none."""

    qk_norm: Literal["none", "head", "full", "l2", "cosine"] | None = key(
        None, "none | head | full | l2 | cosine (addnorm_exp/nn/attention.py)"
    )
    v_norm: Literal["none", "head"] | None = key(None, "none | head")
    soft_cap: float | None = key(None, "c of c tanh(logits / c); 0 is off", NOT_NEGATIVE)
    blocks: str | None = key(None, "only in first:N | last:N | every:N | 1,4-6; not set: everywhere")


@dataclass(frozen=True)
class EmbeddingConfig:
    """Axes of the embedding. A key that is not set takes the scheme's published choice."""

    norm: Literal["layer", "rms", "gemma_rms", "scale", "l2", "none"] | None = key(
        None, "before the stream opens: layer | rms | gemma_rms | scale | l2 | none"
    )
    scale: Literal["one", "root", "learned"] | None = key(
        None, "one | root (√width) | learned (a scalar that starts at √width); not set: by init.law"
    )


@dataclass(frozen=True)
class LogitsConfig:
    """Axes of the head and the loss. A key that is not set takes the scheme's published choice; most schemes have none."""

    soft_cap: float | None = key(None, "c of c tanh(z / c); 0 is off", NOT_NEGATIVE)
    z_loss: float | None = key(
        None, "factor on the mean of (log Σ exp z)²; not in the recorded loss; 0 is off", NOT_NEGATIVE
    )


@dataclass(frozen=True)
class EvalConfig:
    every: int = key(
        100, "steps between validations; the last step is always validated", COUNT, role=TIMETABLE, units=PART
    )
    # An example of lm is a window of seq_len tokens; no two of them share one.
    sequences: int | None = key(
        256, "examples of the validation and of the test split, evenly spaced; not set, or in a small split: all", COUNT
    )


@dataclass(frozen=True)
class DivergenceConfig:
    # The loss of an untrained model is near that of the trivial prediction.
    bound: float = key(
        10.0,
        "a training loss above this multiple of the trivial one (lm: ln(vocabulary)) ends the run, as a non-finite loss does",
        Range(above=1),
        role=HYPER,
    )


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is carried out. These keys change numbers at most by rounding."""

    # The device holds every step's metrics of a chunk.
    chunk_steps: int = key(20, "optimiser steps per dispatch", Range(minimum=1, maximum=100000), role=SHAPE | TIMETABLE)
    scan_layers: Literal["auto", "on", "off"] = key("auto", "auto | on | off")
    attention: Literal["auto", "einsum", "xla", "cudnn"] = key(
        "auto",
        "auto | einsum | xla | cudnn (both by jax.nn.dot_product_attention); auto: cudnn where it computes the same function, on an "
        "NVIDIA GPU in bfloat16, else einsum",
    )
    checkpoint_every: int = key(
        1000,
        "steps, and at least every 5 minutes; 0: only at the end and on SIGTERM",
        COUNT_OR_OFF,
        role=TIMETABLE,
        units=PART,
    )
    keep_checkpoints: int = key(
        2, "newest checkpoints to keep during the run; the best by validation loss is kept as well", COUNT, role=HOST
    )
    keep: Kept | None = key(
        None, "a finished run keeps none|final|best|state; not set: best, in a sweep final, tuning none", role=HOST
    )
    diagnostics: bool = key(True, "per-layer statistics", role=SHAPE | TIMETABLE)
    layers_every: int = key(10, "steps between two rows of per-layer arrays", COUNT, role=TIMETABLE, units=PART)
    attention_every: int = key(
        100,
        "steps between two measurements of attention logits and entropy; 0 is off",
        COUNT_OR_OFF,
        role=TIMETABLE,
        units=PART,
    )


@dataclass(frozen=True)
class Config:
    scheme: str = key("pre_ln", "a name of the catalogue (addnorm_exp/residual/catalogue)")
    seed: int = key(0, "initial values, dropout and (unless data.seed is set) batches", SEED, role=HYPER)
    steps: int = key(1000, "optimiser steps", COUNT, role=HYPER | TIMETABLE, units=LENGTH)
    batch_size: int = key(16, "sequences per step", SIZE)
    seq_len: int = key(128, "tokens per sequence", SIZE)
    task: TaskConfig = variants(TASKS, LanguageModellingConfig, by="task.name")
    schemes: StackSchemes = variants(STACKS, StackSchemes, by="task.name")
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    logits: LogitsConfig = field(default_factory=LogitsConfig)
    optim: OptimConfig = variants(OPTIMISERS, AdamWConfig, by="optim.name")
    data: DataConfig = variants(DATA, ByteStreamConfig, by="task.name")
    eval: EvalConfig = field(default_factory=EvalConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
