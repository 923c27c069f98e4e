"""Every key of an experiment, with its type, default and meaning. Defaults are defined only here.

`configs/*.py` build a locked `ml_collections.ConfigDict` from these classes, the command line overrides leaves of it, and
`addnorm_exp.config.door` reads it back into them once; after that the config is trusted. Keys under `execution` say how a run is
carried out and are not part of its identity; every other key can change a number.

`None` as a default means "not set": the meaning is in the key's comment.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelConfig:
    """The Transformer around the residual stream."""

    depth: int = 4  # number of blocks
    width: int = 128  # width of the residual stream
    num_heads: int = 4  # attention heads; must divide width
    mlp_ratio: float = 4.0  # hidden units of the feed-forward sublayer divided by width
    dropout: float = 0.0  # rate, on every sublayer's output and on the embedding
    drop_path: float | None = None  # stochastic depth: rate of the last block, rising from 0; not set: the scheme's
    positions: str = "learned"  # position encoding: learned | rotary
    activation: str = "gelu"  # activation of the feed-forward sublayer: gelu | swiglu | relu
    bias: bool = True  # biases in linear maps (`norm.affine` sets those of norms)
    tie_embeddings: bool = False  # use the embedding matrix as the output head
    compute_dtype: str = "float32"  # float32 | bfloat16; parameters, norms, softmax and loss stay float32
    matmul_precision: str = "highest"  # of float32: highest | high | default (accelerators may round inputs to TF32)


@dataclass(frozen=True)
class InitConfig:
    """The law of initial values (addnorm_exp/residual/init.py), which some schemes multiply."""

    law: str | None = None  # xavier | normal; not set: the scheme's published law, else xavier
    std: float = 0.02  # standard deviation of the law `normal`
    gain: float = 1.0  # factor on every weight matrix inside the blocks
    multipliers: str = "scheme"  # scheme (its published ones) | none (the law alone; refused if they are the method)
    depth_scaled: bool = False  # output projections of all sublayers times 1/sqrt(number of sublayers) (GPT-2)


@dataclass(frozen=True)
class NormConfig:
    """Axes of the norm. A key that is not set takes the scheme's published choice."""

    kind: str | None = None  # layer|layer_no_affine|rms|prms|gemma_rms|crms|scale|l2|ada|detach|dyt|derf|none
    eps: float | None = None  # ε, which prevents division by 0
    eps_place: str | None = None  # inside (rsqrt(mean + eps)) | outside (1 / (sqrt(mean) + eps))
    affine: str | None = None  # full (gain and bias) | gain | scalar (one gain) | none
    gain: str | None = None  # plain (g = 1 at init) | unit_offset (1 + w, w = 0 at init; as Gemma does)
    blocks: str | None = None  # only in first:N | last:N | every:N | 1,4-6; not set: all blocks and the ends
    alpha: float | None = None  # initial value of the scale inside dyt and derf


@dataclass(frozen=True)
class AttentionConfig:
    """Axes inside attention. A key that is not set takes the scheme's published choice; most schemes have none."""

    qk_norm: str | None = None  # none | head | full | l2 | cosine (addnorm_exp/nn/attention.py)
    v_norm: str | None = None  # none | head
    soft_cap: float | None = None  # c of c tanh(logits / c); 0 is off
    blocks: str | None = None  # only in first:N | last:N | every:N | 1,4-6; not set: everywhere


@dataclass(frozen=True)
class EmbeddingConfig:
    """Axes of the embedding. A key that is not set takes the scheme's published choice."""

    norm: str | None = None  # before the stream opens: layer | rms | gemma_rms | scale | l2 | none
    scale: str | None = None  # one | root (√width) | learned (a scalar that starts at √width); not set: by init.law


@dataclass(frozen=True)
class LogitsConfig:
    """Axes of the head and the loss. A key that is not set takes the scheme's published choice; most schemes have none."""

    soft_cap: float | None = None  # c of c tanh(z / c); 0 is off
    z_loss: float | None = None  # factor on the mean of (log Σ exp z)²; not in the recorded loss; 0 is off


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and the learning-rate schedule."""

    lr: float = 1e-3  # peak learning rate
    schedule: str = "cosine"  # cosine | inverse_sqrt (from step max(warmup, 1) on) | constant | wsd
    warmup: int = 0  # steps of linear warmup
    final_lr: float = 0.1  # final lr divided by peak lr (cosine, wsd)
    decay: float = 0.2  # wsd: share of the run for the final linear decay
    beta1: float = 0.9  # decay of the running mean of gradients
    beta2: float = 0.95  # decay of the running mean of squared gradients
    eps: float = 1e-8  # added to the root of the mean of squares
    weight_decay: float = 0.1  # of matrices and embeddings; decoupled, multiplied by the learning rate
    clip: float = 1.0  # maximum global gradient norm; 0 is off
    accumulate: int = 1  # micro-batches per step; must divide batch_size


@dataclass(frozen=True)
class DataConfig:
    name: str = "enwik8"  # enwik8 | shakespeare | file (implied by data.path)
    path: str | None = None  # train on this file, split 90/5/5; compressed text and UTF-16 are read as text
    seed: int | None = None  # order of batches; not set: `seed`


@dataclass(frozen=True)
class EvalConfig:
    every: int = 100  # steps between validations; the last step is always validated
    sequences: int = 256  # fixed windows of seq_len tokens in each of validation and test split; in a small file all


@dataclass(frozen=True)
class DivergenceConfig:
    bound: float = 10.0  # a training loss above this multiple of ln(vocabulary) ends the run, as a non-finite loss does


@dataclass(frozen=True)
class ExecutionConfig:
    """How the run is carried out. These keys change numbers at most by rounding."""

    chunk_steps: int = 20  # optimiser steps per dispatch
    scan_layers: str = "auto"  # auto | on | off
    attention: str = "einsum"  # einsum | xla | cudnn (xla and cudnn use jax.nn.dot_product_attention)
    checkpoint_every: int = 1000  # steps, and at least every 5 minutes; 0: only at the end and on SIGTERM
    keep_checkpoints: int = 2  # newest checkpoints to keep during the run; the best by validation loss is kept as well
    keep: str | None = None  # a finished run keeps none|final|best|state; not set: best, in a sweep final, tuning none
    diagnostics: bool = True  # per-layer statistics
    layers_every: int = 10  # steps between two rows of per-layer arrays
    attention_every: int = 100  # steps between two measurements of attention logits and entropy; 0 is off


@dataclass(frozen=True)
class Config:
    scheme: str = "pre_ln"  # a name of the catalogue (addnorm_exp/residual/catalogue)
    seed: int = 0  # initial values, dropout and (unless data.seed is set) batches
    steps: int = 1000  # optimiser steps
    batch_size: int = 16  # sequences per step
    seq_len: int = 128  # tokens per sequence
    task: str = "lm"  # lm: predict the next byte
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    logits: LogitsConfig = field(default_factory=LogitsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
