"""What theory says of a scheme at initialisation, as data: `main.py probe` measures it and gives a verdict."""

from collections.abc import Callable
from dataclasses import dataclass

QUANTITIES = ("stream_ms", "grad_w2", "grad_stream", "sensitivity", "token_similarity", "attn_entropy")
SETTINGS = ("batch", "theory")
# What the catalogue's bands are for. At another size a verdict may be a size effect, and not the scheme's: log(depth) has a slope
# of 0.37 between depths 6 and 48, and of 1 between 2 and 4.
DEPTHS, LEAST_WIDTH, LEAST_SEEDS = (6, 48), 128, 3

Band = tuple[float, float]


@dataclass(frozen=True)
class Slope:
    """`quantity ∝ depth^s` with s inside `band`.

    What is followed over models of rising depth is the value at the end of the model: of the last block (`grad_w2`, `attn_entropy`, and
    `stream_ms`, which is of what that block reads), of the output (`sensitivity`, `token_similarity`), and for `grad_stream` that of the
    first block.
    """

    claim: str
    source: str
    setting: str
    quantity: str
    band: Band


@dataclass(frozen=True)
class Curve:
    """The value at block l of L (0 is the embedding, L the output) lies in `band(l, L)`, at every l and every L."""

    claim: str
    source: str
    setting: str
    quantity: str
    band: Callable[[int, int], Band]


@dataclass(frozen=True)
class Ratio:
    """The value at block 0 over that at the last block lies in `band(L)`, at every depth L."""

    claim: str
    source: str
    setting: str
    quantity: str
    band: Callable[[int], Band]


@dataclass(frozen=True)
class Equal:
    """At every block and depth the value is `times(l, L)` that of another scheme, which is measured beside it, to `tolerance` relative.

    Tensors that two schemes have in common are equal at init (`init.py`), so that two forms of one function are so to rounding.
    """

    claim: str
    source: str
    setting: str
    quantity: str
    scheme: str
    times: Callable[[int, int], float] = lambda block, depth: 1.0
    tolerance: float = 1e-3


Prediction = Slope | Curve | Ratio | Equal
