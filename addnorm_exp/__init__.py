"""addnorm_exp: ablation experiments on the residual connection and the normalisation of Transformers."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`load`: a trained model (addnorm_exp/trained). Imported when it is asked for, because it brings JAX."""
    if name == "load":
        from addnorm_exp.trained.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
