"""Where does the norm belong? The quickstart's question at a size worth a GPU, with init law and warmup as axes.

Command:   main.py sweep sweeps/placement.py --dry_run     (first: runs, parameters, FLOPs and an estimate of time for your machine)
           main.py sweep sweeps/placement.py
           main.py table runs/placement --rows scheme --cols init.law
Cost:      88 tuning runs and 110 report runs of 38 million parameters on 328 million bytes each, 8.7e16 FLOPs a run: about 16 hours of
           one H100 if it reaches 30 % of its bf16 peak. That is arithmetic, not a measurement.
Expected:  not measured yet. At 12 blocks, theory and the literature say: Post-LN without warmup trains only at small learning rates; the
           width of the learning-rate curve tells the schemes apart more than its minimum does.

The four classic schemes go through both init laws and both warmups; DeepNorm and Sandwich-LN keep the law of their papers, ReZero
claims to need no warmup and is asked to show it.
"""

from addnorm_exp.sweep import axis, chain, product

CONFIG = "configs/lm.py"
BASE = {
    "steps": 20_000,
    "batch_size": 32,
    "seq_len": 512,
    "model.depth": 12,
    "model.width": 512,
    "model.num_heads": 8,
    "model.dropout": 0.1,
    "model.compute_dtype": "bfloat16",
    "eval.every": 1000,
    "eval.sequences": 2048,
    "execution.layers_every": 100,
    "execution.attention_every": 1000,
}
TUNED = ("optim.lr",)
BASELINE = "post_ln"

CLASSIC = ("post_ln", "pre_ln", "pre_rms", "no_norm")
WARMUPS = axis("optim.warmup", (0, 1000))
LEARNING_RATES = axis("optim.lr", (1e-4, 3e-4, 1e-3, 3e-3))
CELLS = chain(
    product(axis("scheme", CLASSIC), axis("init.law", ("xavier", "normal")), WARMUPS),
    product(axis("scheme", ("deepnorm", "rezero")), axis("init.law", ("xavier",)), WARMUPS),
    product({"scheme": "sandwich_ln", "init.law": "normal"}, WARMUPS),
)


def tune():
    return product(CELLS, LEARNING_RATES, axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2, 3, 4, 5)))
