"""What the papers predict of schemes at init. The bands allow for width 256 and a mean of three seeds, and would be left by a wrong law."""

from addnorm_exp.residual.predictions import Curve, Prediction, Ratio, Slope

XIONG = "Xiong et al. 2020 (2002.04745)"

POST_LN: tuple[Prediction, ...] = (
    Slope(
        "the last block's gradient does not depend on depth", f"{XIONG}, theorem 1", "theory", "grad_w2", (-0.15, 0.15)
    ),
    Curve("every block returns unit variance", f"{XIONG}, 3.2", "theory", "stream_ms", lambda block, depth: (0.9, 1.1)),
    Slope(
        "the output's change under a perturbation of the weights is O(depth)",
        "Liu et al. 2020, Admin (2004.08249), section 4",
        "batch",
        "sensitivity",
        (0.7, 1.3),
    ),
    Ratio(
        "the stream's gradient shrinks by √(2/3) a block on its way down",
        f"{XIONG}, section 3",
        "theory",
        "grad_stream",
        lambda depth: ((2 / 3) ** ((depth - 1) / 2) / 3, (2 / 3) ** ((depth - 1) / 2) * 3),
    ),
)

PRE_LN: tuple[Prediction, ...] = (
    Slope("the last block's gradient falls as 1/√depth", f"{XIONG}, theorem 1", "theory", "grad_w2", (-0.6, -0.4)),
    Curve(
        "after l blocks the stream's second moment is between 1 + l/2 and 1 + 3l/2",
        f"{XIONG}, lemma 2",
        "theory",
        "stream_ms",
        # Drawn inputs and three seeds: a tenth of room around the expectation.
        lambda block, depth: (0.9 * (1 + block / 2), 1.1 * (1 + 1.5 * block)),
    ),
    Slope(
        "the output's change under a perturbation of the weights is O(log depth)",
        "Liu et al. 2020, Admin (2004.08249), section 4",
        "batch",
        "sensitivity",
        (0.12, 0.62),  # log(depth) itself has slope 0.37 between 6 and 48
    ),
)

DEEPNORM: tuple[Prediction, ...] = (
    Slope(
        "the output's change under a perturbation of the weights does not grow with depth",
        "Wang et al. 2022, DeepNet (2203.00555), section 4",
        "batch",
        "sensitivity",
        (-1.5, 0.1),
    ),
)

IDENTITY: tuple[Prediction, ...] = (
    Slope(
        "the stream is the embedding at every depth",
        "Bachlechner et al. 2020 (2003.04887), 3; Zhang et al. 2019, Fixup (1901.09321), 3",
        "theory",
        "stream_ms",
        (-1e-4, 1e-4),
    ),
    Curve(
        "weights inside the branches have no gradient at step 0",
        "Bachlechner et al. 2020 (2003.04887), 3",
        "theory",
        "grad_w2",
        lambda block, depth: (0.0, 0.0),
    ),
)

PERI_LN: tuple[Prediction, ...] = (
    Curve(
        "each sublayer adds unit variance: 1 + 2l after l blocks",
        "Kim et al. 2025 (2502.02732), 3 and proposition 3.1",
        "theory",
        "stream_ms",
        lambda block, depth: (0.85 * (1 + 2 * block), 1.15 * (1 + 2 * block)),
    ),
)
