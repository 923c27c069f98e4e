"""The valid name that was probably meant: by its letters, and by what other codebases call the same thing.

Every function returns a name that is valid, or None. `config/slips.py` uses them for the command line.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

# What other codebases call a config key. Words are normalised (`normal`); a word may name several keys, the nearest group wins.
_KEYS = {
    "steps": (
        "maxsteps numsteps nsteps trainsteps numtrainsteps totalsteps iterations iters maxiters numiterations "
        "updates maxupdates epoch epochs numepochs nepochs maxepochs"
    ),
    "batch_size": "batch bs bsz batchsz trainbatchsize globalbatchsize perdevicetrainbatchsize",
    "seq_len": (
        "sequencelength seqlength context contextlength contextsize ctx ctxlen nctx blocksize maxlen "
        "maxlength maxseqlen maxpositionembeddings length"
    ),
    "seed": "randomseed rngseed rng seeds",
    "scheme": "variant residual placement normplacement normposition arch schemes",
    "model.depth": (
        "layers nlayer nlayers numlayers numhiddenlayers numblocks nblocks blocks numdecoderlayers decoderlayers"
    ),
    "model.width": (
        "dmodel dim modeldim embeddim embdim embeddingdim nembd nembed hidden hiddensize hiddendim "
        "embeddingsize modelsize emb"
    ),
    "model.num_heads": "heads nhead nheads numattentionheads attentionheads headcount",
    "model.mlp_ratio": (
        "dff ffdim ffndim mlpdim mlpwidth intermediatesize ffnratio ffmult expansion mlpexpansion ffnmult"
    ),
    "model.dropout": "dropoutrate pdrop residpdrop dropoutprob hiddendropoutprob drop",
    "model.drop_path": "stochasticdepth droppathrate layerdrop survivalprob",
    "model.positions": "posemb posembedding positionembedding positionalencoding positionencoding rope rotary pos",
    "model.activation": "act actfn hiddenact activationfn nonlinearity",
    "model.bias": "usebias biases",
    "model.tie_embeddings": "tied tieweights tiewordembeddings weighttying tieembedding",
    "model.compute_dtype": "dtype precision mixedprecision amp bf16 torchdtype",
    "init.std": "initstd initializerrange initscale",
    "norm.kind": "normtype normlayer normalization normalisation normkind norm",
    "norm.eps": "layernormeps rmsnormeps normeps epsilon layernormepsilon lneps",
    "optim.lr": "learningrate lrpeak peaklr maxlr baselr stepsize eta",
    "optim.final_lr": "minlr lrmin endlr lrend minlrratio",
    "optim.schedule": "lrschedule scheduler lrscheduler lrschedulertype lrdecay",
    "optim.warmup": "warmupsteps warmupratio warmupiters numwarmupsteps lrwarmup warmupfraction",
    "optim.name": "optimizer optimiser opt optimizertype optimizername optimtype",
    "optim.beta1": "b1 adambeta1 betas momentum",
    "optim.beta2": "b2 adambeta2 decayexponent",
    "optim.momentum": "sgdmomentum muonmomentum beta1 beta2",
    "optim.nesterov": "usenesterov nesterovmomentum",
    "optim.decay_exponent": "beta2 beta2decay",
    "optim.update_clip": "clippingthreshold clipthreshold",
    "optim.factored_size": "mindimsizetofactor mindimtofactor",
    "optim.parameter_scale": "scaleparameter multiplybyparameterscale relativestep",
    "optim.update_rms": "consistentrms rmsscale",
    "optim.eps": "adameps adamepsilon epsilon",
    "optim.weight_decay": "wd decayrate l2reg",
    "optim.clip": "updateclip gradclip clipnorm maxgradnorm gradientclipping gradclipnorm clipgradnorm",
    "optim.accumulate": (
        "gradaccum gradaccumsteps gradientaccumulation gradientaccumulationsteps accumulationsteps "
        "microbatches accumgrad"
    ),
    "task.name": "task taskname objective problem",
    "task.pooling": "pool pooltype pooler aggregation",
    "data.name": "dataset datasetname",
    "data.tokens": "tokenizer tokeniser tokenization tokentype",
    "data.vocabulary": "vocab vocabsize maxwords maxvocab vocabularysize",
    "data.path": "datapath file text corpus datafile trainfile datadir",
    "eval.every": "evalinterval evalsteps evalfreq validateevery valevery valinterval",
    "eval.sequences": "evalbatches evaliters evalwindows valbatches",
    "execution.checkpoint_every": "saveevery savesteps saveinterval checkpointinterval checkpointsteps",
    "execution.keep_checkpoints": "savetotallimit maxtokeep keep",
}
KEYS: Mapping[str, tuple[str, ...]] = {key: tuple(words.split()) for key, words in _KEYS.items()}

# Of words whose unit is another than the key's: the key's.
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("epoch", "epochs", "numepochs", "nepochs", "maxepochs"), "in optimiser steps, or as 3epochs"),
    **dict.fromkeys(
        ("dff", "ffdim", "ffndim", "mlpdim", "mlpwidth", "intermediatesize"), "as a multiple of model.width"
    ),
    **dict.fromkeys(("minlr", "lrmin", "endlr", "lrend"), "as a share of optim.lr"),
    **dict.fromkeys(("warmupratio", "warmupfraction"), "in steps, or as a share such as 5%"),
    "survivalprob": "the rate of dropping",
    "evaliters": "in examples",
    "evalbatches": "in examples",
    "valbatches": "in examples",
}

# What people call one of several choices; the first that is among them holds.
VALUES: Mapping[str, tuple[str, ...]] = {
    "bf16": ("bfloat16",),
    "fp32": ("float32",),
    "f32": ("float32",),
    "float": ("float32",),
    "rope": ("rotary",),
    "absolute": ("learned",),
    "layernorm": ("layer",),
    "ln": ("layer",),
    "rmsnorm": ("rms",),
    "glorot": ("xavier",),
    "glorotuniform": ("xavier",),
    "gaussian": ("normal",),
    "markdown": ("md",),
    "table": ("md",),
    "tex": ("latex",),
    "tsv": ("csv",),
    "on": ("online",),
    "true": ("online", "on"),
    "yes": ("online", "on"),
    "off": ("disabled", "off"),
    "no": ("disabled", "off"),
    "false": ("disabled", "off"),
    "finished": ("done",),
    "completed": ("done",),
    "crashed": ("failed",),
    "killed": ("stopped",),
    "linearwarmup": ("constant",),
    "rsqrt": ("inverse_sqrt",),
    "noam": ("inverse_sqrt",),
    "adam": ("adamw",),
    "signsgd": ("lion",),
    "nesterov": ("sgd",),
}

# What people call a flag; the first that the command has holds.
FLAGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        [
            "out",
            "workdir",
            "runs",
            "output",
            "outputdir",
            "outdir",
            "o",
            "logdir",
            "dir",
            "directory",
            "save",
            "savedir",
            "folder",
        ],
        ("workdir", "out", "runs"),
    ),
    **dict.fromkeys(["force", "y", "f", "delete", "remove", "confirm"], ("yes",)),
    **dict.fromkeys(["plan", "preview", "n", "dry", "list"], ("dry_run",)),
    "project": ("wandb_project",),
    **dict.fromkeys(("entity", "team"), ("wandb_entity",)),
    **dict.fromkeys(("limit", "max"), ("max_runs",)),
    **dict.fromkeys(("only", "select", "where"), ("filter",)),
    **dict.fromkeys(("scheme", "names"), ("schemes",)),
    **dict.fromkeys(("ref", "reference", "against"), ("baseline",)),
    **dict.fromkeys(("type", "fmt", "as"), ("format",)),
    "index": ("rows",),
    "column": ("columns", "cols"),
    **dict.fromkeys(("layers", "nlayers"), ("depths",)),
    **dict.fromkeys(("dmodel", "hiddensize", "dim"), ("width",)),
    **dict.fromkeys(("text", "file", "datapath", "corpus"), ("data",)),
    **dict.fromkeys(("pvalue", "p"), ("p_values",)),
    **dict.fromkeys(("configfile", "cfg", "conf", "c"), ("config",)),
}

# What people call a command.
COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("fit", "run", "trainer", "finetune"), "train"),
    **dict.fromkeys(("study", "tune", "grid", "ablate", "ablation"), "sweep"),
    **dict.fromkeys(("report", "results", "latex", "print"), "table"),
    **dict.fromkeys(("figure", "figures", "draw", "pictures", "graph"), "plot"),
    **dict.fromkeys(("ls", "list", "status", "ps"), "runs"),
    **dict.fromkeys(("clean", "prune", "rm", "cleanup"), "gc"),
    **dict.fromkeys(("compare", "cmp"), "diff"),
    **dict.fromkeys(("upload", "push", "wandb"), "sync"),
    **dict.fromkeys(("catalogue", "catalog", "variants", "norms"), "schemes"),
    **dict.fromkeys(("html", "page", "ui", "view", "web"), "dashboard"),
    **dict.fromkeys(("retry", "again"), "rerun"),
    **dict.fromkeys(("join", "combine", "collect", "union"), "merge"),
}


def normal(name: str) -> str:
    """A name without what people vary: the case of its letters, `-`, `_`, `.`, `/` and spaces."""
    return re.sub(r"[-_./\s]+", "", name.casefold())


def match(name: str, known: Iterable[str], also: Mapping[str, tuple[str, ...]] | None = None) -> str | None:
    """The one of `known` that is `name` in another spelling, or that `also` (normalised word → names) calls so."""
    names, wanted = list(known), normal(name)
    spelt = [one for one in names if normal(one) == wanted]
    called = [one for one in (also or {}).get(wanted, ()) if one in names]
    short = [one for one in names for ending, letters in _SHORT if normal(one) == _with_ending(wanted, ending, letters)]
    return next(iter([*spelt, *called, *short]), None)


_SHORT = (("layernorm", "ln"), ("rmsnorm", "rms"), ("norm", "ln"))  # Pre-Norm and Pre-LayerNorm are pre_ln


def _with_ending(name: str, ending: str, letters: str) -> str | None:
    return name.removesuffix(ending) + letters if name.endswith(ending) and name != ending else None


def near(
    name: str, known: Iterable[str], also: Mapping[str, tuple[str, ...]] | None = None, cutoff: float = 0.6
) -> str | None:
    """As `match`, or else the one of `known` whose letters are the nearest."""
    names = sorted(known)
    exact = match(name, names, also)
    if exact is not None:
        return exact
    spelt = {normal(one): one for one in reversed(names)}
    close = difflib.get_close_matches(normal(name), spelt, n=1, cutoff=cutoff)
    return spelt[close[0]] if close else None


def keys(name: str, known: Iterable[str], *, fuzzy: bool = True) -> tuple[str, ...]:
    """The config keys that `name` may stand for: one, or those of several groups. `lr`, `optm.lr`, `optim-lr` and
    `learning_rate` are all `optim.lr`. Without `fuzzy`, no misspelt ones."""
    names = list(known)
    whole = match(name, names)
    if whole is not None:
        return (whole,)
    group, _, tail = name.rpartition(".")
    inside = [one for one in names if group and one.startswith(f"{group}.")]
    for pool in (inside, names):
        exact = [one for one in pool if normal(_tail(one)) == normal(tail)]
        called = [one for one in pool if normal(tail) in KEYS.get(one, ())]
        if exact and called and any(one.startswith(f"{name}.") for one in names):
            return (*called, *exact)  # `norm` is a group, and what people call norm.kind; it is also embedding.norm
        if exact or called:
            return tuple(called if pool is inside and not exact else exact or called)
    if not fuzzy:
        return ()
    for pool in (inside, names):  # the last word tells most: whole keys are alike by their group alone
        words: dict[str, list[str]] = {}
        for one in pool:
            for word in (normal(_tail(one)), *KEYS.get(one, ())):
                words.setdefault(word, []).append(one)
        close = difflib.get_close_matches(normal(tail), words, n=1, cutoff=0.6 if pool is inside else 0.7)
        if close:
            return tuple(words[close[0]])
    return ()


def unit(name: str) -> str:
    """` (in …)` where the key that is meant by `name` counts in another unit, else ""."""
    said = UNITS.get(normal(_tail(name)))
    return f" ({said})" if said else ""


def _tail(key: str) -> str:
    return key.rpartition(".")[2]
