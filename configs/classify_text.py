"""Text classification: the textbook Add & Norm network on snippets of movie reviews.

Command:   main.py train --config=configs/classify_text.py:post_ln --workdir=runs/try
           main.py train --config=configs/classify_text.py --config.data.path=FILE.csv --workdir=runs/mine   (columns text and label)
Cost:      4 epochs of 8,456 texts, 1,057 steps of 32 × 48 tokens: about 75 s on two cores of an AMD EPYC that had other work (68 ms a
           step, 2026-11-30, JAX 0.10.2).
Expected:  79.55 % ± 0.56 of the 1,056 test texts (post_ln, seeds 1 to 5, 95 % interval of the mean over seeds; sweeps/classify_text.py).
           TF-IDF and logistic regression have 79.26 % (benchmarks/tfidf.py), the most frequent class 50.4 %. The standard error of one
           accuracy on so many texts is 1.25, so the network is as good as this baseline, and not better.

An encoder of 2 blocks of width 64 with padding masks, the mean over valid tokens, and a softmax. Dropout and weight decay are high: the
network sees each text four times and has 670,000 parameters, most of them in the embedding. They were chosen on the validation split from
about a dozen settings, among which it could not decide.
"""

from ml_collections import ConfigDict

from addnorm_exp.config import Config, as_configdict


def get_config(scheme: str = "post_ln") -> ConfigDict:
    """`configs/classify_text.py:NAME` is a shorthand for `--config.scheme=NAME`."""
    config = as_configdict(Config())
    config.task.name = "classify_text"
    config.scheme = scheme
    config.seq_len = 48
    config.batch_size = 32
    config.steps = "4epochs"
    config.model.depth, config.model.width = 2, 64
    config.model.dropout = 0.5
    config.optim.lr, config.optim.warmup, config.optim.weight_decay = 3e-3, "10%", 1.0
    config.eval.every, config.eval.sequences = "1epoch", None
    return config
