"""What the papers predict of schemes at init. The bands allow for width 256 and a mean of three seeds, and would be left by a wrong law.

In the setting of theory a feed-forward of unit input adds variance 1/2, and attention between 0 (unlike tokens) and 1 (equal ones): of
each block between 1/2 and 3/2, which is Xiong's lemma 2. Where a paper gives an equation and no number, its band is drawn from these.
"""

from collections.abc import Callable

from addnorm_exp.residual.predictions import Curve, Equal, Prediction, Ratio, Slope

XIONG = "Xiong et al. 2020 (2002.04745)"
LIU = "Liu et al. 2020, Admin (2004.08249), §4"


def grown(claim: str, source: str, blocks: Callable[[int, int], float]) -> Curve:
    """The stream's second moment is that of lemma 2 after `blocks(l, L)` blocks of Pre-LN, a tenth of room around the expectation."""
    return Curve(
        claim,
        source,
        "theory",
        "stream_ms",
        lambda block, depth: (0.9 * (1 + blocks(block, depth) / 2), 1.1 * (1 + 1.5 * blocks(block, depth))),
    )


LOGARITHMIC = Slope(
    "the output's change under a perturbation of the weights is O(log depth)",
    LIU,
    "batch",
    "sensitivity",
    # log(depth) itself has slope 0.37 between 6 and 48. Widened after it was measured: Pre-LN 0.51 there, up to 0.67 between 6 and 24.
    (0.12, 0.7),
)

POST_LN: tuple[Prediction, ...] = (
    Slope(
        "the last block's gradient does not depend on depth", f"{XIONG}, theorem 1", "theory", "grad_w2", (-0.15, 0.15)
    ),
    Curve("every block returns unit variance", f"{XIONG}, 3.2", "theory", "stream_ms", lambda block, depth: (0.9, 1.1)),
    Slope(
        "the output's change under a perturbation of the weights is O(depth)",
        LIU,
        "batch",
        "sensitivity",
        (0.7, 1.7),  # widened after it was measured: 1.09 between 6 and 48, 1.45 between 6 and 24 (docs/probe.md)
    ),
    Ratio(
        "the stream's gradient shrinks by √(2/3) per block on its way down",
        f"{XIONG}, section 3",
        "theory",
        "grad_stream",
        lambda depth: ((2 / 3) ** ((depth - 1) / 2) / 3, (2 / 3) ** ((depth - 1) / 2) * 3),
    ),
)

PRE_LN: tuple[Prediction, ...] = (
    Slope("the last block's gradient falls as 1/√depth", f"{XIONG}, theorem 1", "theory", "grad_w2", (-0.6, -0.4)),
    grown(
        "after l blocks the stream's second moment is between 1 + l/2 and 1 + 3l/2",
        f"{XIONG}, lemma 2",
        lambda block, depth: block,
    ),
    LOGARITHMIC,
)

ADMIN: tuple[Prediction, ...] = (
    LOGARITHMIC,
    Curve("every block returns unit variance", LIU, "theory", "stream_ms", lambda block, depth: (0.9, 1.1)),
)

WANG = "Wang et al. 2022, DeepNet (2203.00555), §4"

DEEPNORM: tuple[Prediction, ...] = (
    Slope(
        "the output's change under a perturbation of the weights does not grow with depth",
        WANG,
        "batch",
        "sensitivity",
        (-1.5, 0.1),
    ),
    # β of W_1 over α of the sum: (8L)^-¼ / (2L)^¼.
    Slope("the last block's gradient falls as 1/√depth", f"{WANG}, α and β", "theory", "grad_w2", (-0.6, -0.4)),
    # What a branch adds going up (β⁴/2) is what its Jacobian adds coming down, and N divides both by the same.
    Ratio(
        "all blocks have the same gradient norm",
        f"{WANG}, α and β",
        "theory",
        "grad_w2",
        lambda depth: (0.5, 2.0),
    ),
)

LNS: tuple[Prediction, ...] = (
    grown(
        "the stream's second moment grows as the logarithm of depth: H = Σ 1/l for lemma 2's l",
        "Sun et al. 2025 (2502.05795), eq. 8, by the argument of Xiong's lemma 2",
        lambda block, depth: sum(1 / number for number in range(1, block + 1)),
    ),
)

RADFORD = "Radford et al. 2019, 2.3, by the argument of Xiong's theorem 1"

GPT2: tuple[Prediction, ...] = (
    Slope("the last block's gradient does not depend on depth", RADFORD, "theory", "grad_w2", (-0.15, 0.15)),
    # W_o and W_2 over √(2L): a block adds 1/(2L) of what it adds in Pre-LN.
    grown(
        "the stream's second moment at the output does not depend on depth",
        RADFORD,
        lambda block, depth: block / (2 * depth),
    ),
)

CHEN = "Chen & Wei 2026 (2601.19895), from the equation"

KEEL: tuple[Prediction, ...] = (
    # Behind the sum stands a norm that divides by √(α² + …) ≈ α = 2L.
    Slope("the last block's gradient falls as 1/depth", CHEN, "theory", "grad_w2", (-1.1, -0.9)),
    # The first block has no α, and is divided by the root of its own output's variance, 1.5 to 2.5: 2L/√2.5 to 2L/√1.5.
    Ratio(
        "the first block's gradient stays: it is between 1.26 and 1.63 depth times the last one's",
        CHEN,
        "theory",
        "grad_w2",
        lambda depth: (1.26 * depth / 1.5, 1.63 * depth * 1.5),
    ),
)

YANG, DEY = "Yang et al. 2023 (2310.02244), a = ½", "Dey et al. 2025 (2505.01618), a = 1"

# Branches × m^-a with m = L/2: a block adds m^-2a of what it adds in Pre-LN. Random changes of the weights add up as the branches do.
DEPTH_MUP: tuple[Prediction, ...] = (
    grown(
        "the stream's second moment at the output does not depend on depth",
        YANG,
        lambda block, depth: 2 * block / depth,
    ),
    Slope("the last block's gradient falls as 1/√depth", YANG, "theory", "grad_w2", (-0.6, -0.4)),
    Slope(
        "the output's change under a perturbation of the weights does not depend on depth",
        YANG,
        "theory",
        "sensitivity",
        (-0.15, 0.15),
    ),
)

COMPLETEP: tuple[Prediction, ...] = (
    grown("the stream stays the embedding as depth grows", DEY, lambda block, depth: 4 * block / depth**2),
    # Exactly 1/depth over the stream's root at the output, √(1 + 2/L) to √(1 + 6/L), which is not yet 1 at six blocks.
    Slope("the last block's gradient falls as 1/depth", DEY, "theory", "grad_w2", (-1.03, -0.73)),
    Slope(
        "the output's change under a perturbation of the weights falls as 1/depth",
        DEY,
        "theory",
        "sensitivity",
        (-1.1, -0.85),  # 1/depth itself: what enlarges the stream enlarges a change of it as much
    ),
)


def shut(source: str) -> tuple[Prediction, ...]:
    """Every branch starts at 0."""
    return (
        Slope("the stream is the embedding at every depth", source, "theory", "stream_ms", (-1e-4, 1e-4)),
        Curve(
            "weights inside the branches have no gradient at step 0",
            source,
            "theory",
            "grad_w2",
            lambda block, depth: (0.0, 0.0),
        ),
    )


IDENTITY = shut("Bachlechner et al. 2020 (2003.04887), §3; Zhang et al. 2019, Fixup (1901.09321), §3")
SWIN_V2 = shut("Liu et al. 2021 (2111.09883), the released code")


def same_function(source: str, scheme: str = "pre_ln", tolerance: float = 1e-3) -> tuple[Prediction, ...]:
    """It is another scheme's function of the weights that both have, so they have the same gradients and the same output."""
    return (
        Equal(
            f"{scheme}'s function at init: the gradient of each W_2",
            source,
            "theory",
            "grad_w2",
            scheme,
            tolerance=tolerance,
        ),
        Equal(
            f"{scheme}'s function at init: the output if the stack ended here",
            source,
            "theory",
            "token_similarity",
            scheme,
            tolerance=tolerance,
        ),
    )


def same_stream(
    claim: str,
    source: str,
    scheme: str = "pre_ln",
    times: Callable[[int, int], float] = lambda block, depth: 1.0,
    tolerance: float = 1e-3,
) -> Equal:
    """What a block reads of its streams, by what the other scheme's block reads."""
    return Equal(claim, source, "theory", "stream_ms", scheme, times, tolerance)


def pre_ln_in_another_form(source: str) -> tuple[Prediction, ...]:
    return (*same_function(source), same_stream("a block reads pre_ln's stream at init", source))


ZHU = "Zhu et al. 2024 (2409.19606)"
HYPER = pre_ln_in_another_form(ZHU)
FRAC = pre_ln_in_another_form("Zhu et al. 2025 (2503.14125)")
LAUREL = pre_ln_in_another_form("Menghani et al. 2024 (2411.07501)")
ALTUP = pre_ln_in_another_form("Baykal et al. 2023 (2301.13310), P = I and g = 1")
DENSEFORMER = pre_ln_in_another_form("Pagliardini et al. 2024 (2402.02622)")

XIE = "Xie et al. 2025 (2512.24880), eqs. 5–9, at α = 0.01"


# φ moves each σ by about α · 0.02 · √(n d) ≈ 0.005: a part in a hundred, and not none.
def equal_streams(claim: str, read: float) -> tuple[Prediction, ...]:
    """Of four streams that are equal at init, of which a block reads `read` times one."""
    same = same_stream(claim, XIE, "pre_rms", times=lambda block, depth: read**2, tolerance=0.02)
    return (*same_function(XIE, "pre_rms", tolerance=0.02), same)


MHC = equal_streams("a block reads σ(3) x_i + 3 σ(-3) x_i: 1.095 times pre_rms's stream", 1.0949)
MHC_ZERO = equal_streams("a block reads Σ ½ x_i of four streams: twice pre_rms's", 2.0)

KIMI = "Kimi Team 2026 (2603.15031), queries of 0"
ATTN_RES_BLOCK = same_function(KIMI, "pre_rms")
ATTN_RES: tuple[Prediction, ...] = (
    *ATTN_RES_BLOCK,
    same_stream(
        "a block reads the mean of 2l + 1 sources, pre_rms's stream over as many",
        KIMI,
        "pre_rms",
        lambda block, depth: (2 * block + 1) ** -2.0,
    ),
    # The mean of what has second moments of at most 1: the embedding's; of branches' 1/2 and what attention averages.
    Curve(
        "what a block reads is bounded by the largest source",
        KIMI,
        "theory",
        "stream_ms",
        lambda block, depth: (0.0, 1.1),
    ),
)

PERI_LN: tuple[Prediction, ...] = (
    Curve(
        "each sublayer adds unit variance: 1 + 2l after l blocks",
        "Kim et al. 2025 (2502.02732), §3 and proposition 3.1",
        "theory",
        "stream_ms",
        lambda block, depth: (0.85 * (1 + 2 * block), 1.15 * (1 + 2 * block)),
    ),
)
