"""The residual connection and the normalisation of Transformers, as a library. Imports nothing else of addnorm_exp.

The contract is in `contract.py`, the record that most schemes are in `rule.py`, the schemes in `catalogue/`. To use a scheme in a
model of one's own: make `BlockConnections(scheme.plan(site), site, width, rngs=rngs)` for each block and
`scheme.connect_ends(width, rngs=rngs)` for the model, pass the sublayers by name, and open and close the stream around them
(docs/library.md has a complete example). The model must itself apply what the record asks of weights, sublayers and optimiser:
`Scheme.init`, `options`, `around`, `factors`, `calibrate`, `project`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from addnorm_exp.residual.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """The names of public.py, which needs JAX, imported with the first of them: norm_kinds.py is read by rooms that start without it."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(importlib.import_module("addnorm_exp.residual.public"), name)
