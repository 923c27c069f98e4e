"""Studies: files in sweeps/ that say which runs a question needs, and the launcher that trains them."""

from addnorm_exp.sweep.combine import axis, chain, product, zip

__all__ = ["axis", "chain", "product", "zip"]
