"""What a scheme asks of the model around its blocks: at the embedding, at the head, and of whole branches in training."""

import math
from dataclasses import dataclass

from addnorm_exp.residual.init import embedding_multiplier
from addnorm_exp.residual.norms import NormSpec


@dataclass(frozen=True)
class Around:
    """Each of these says nothing at its default.

    `embedding_norm` stands on the embedding, positions included, before the stream opens; `positions_norm` does so only where learned
    positions are added to the embedding (nGPT: their sum has no length of its own). `embedding_scale` multiplies the embedding: by
    1 (`one`), by √width (`root`), by one learned scalar that starts there (`learned`); not set, the init law decides. With `fixed_norm`
    each token's row of the embedding is divided by its length wherever it is used, in a tied head too (FixNorm: Nguyen & Salazar 2019,
    1910.05895, 2.3). With `logit_scale` each logit is times a learned number, 1 at first (nGPT: 2410.01131, 2.1). The logits are
    `logit_cap · tanh(z / logit_cap)` (Gemma 2). `z_loss` times the mean of (log Σ exp z)² is added to the loss in training (PaLM,
    2204.02311, 5). `drop_path` is the last block's rate of stochastic depth.
    """

    embedding_norm: NormSpec | None = None
    positions_norm: NormSpec | None = None
    embedding_scale: str | None = None
    logit_cap: float = 0.0
    z_loss: float = 0.0
    drop_path: float = 0.0
    fixed_norm: bool = False
    logit_scale: bool = False

    def norm_of_embedding(self, rotary: bool) -> NormSpec | None:
        """The norm on the embedding, by whether positions are rotary or added to it."""
        return self.embedding_norm or (None if rotary else self.positions_norm)

    def embedding_factor(self, law: str, width: int) -> float:
        """What multiplies the embedding before the first block; where it is learned, at first."""
        by_law = embedding_multiplier(law, width)
        return {"one": 1.0, "root": math.sqrt(width), "learned": math.sqrt(width)}.get(
            self.embedding_scale or "", by_law
        )


NOTHING = Around()
