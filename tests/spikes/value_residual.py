"""Value residual (Zhou 2024, 2410.17897): from block 2 on, attention uses `λ₁ V_1 + λ₂ V_l` for V_l. The residual stream is Pre-LN's;
the first block's values cross the blocks in the memo, and the λ are an option of the attention body."""

from addnorm_exp.residual import Learned, Scheme
from addnorm_exp.residual.catalogue.placement import final, pre

scheme = Scheme(
    "value_residual", "Value residual", "history", "V_l ← λ₁ V_1 + λ₂ V_l", "2410.17897", 2024, "secondary", pre, final,
    options=lambda site: {"value_mix": Learned(0.5)} if site.kind == "attention" and site.block > 0 else {},
)  # fmt: skip
