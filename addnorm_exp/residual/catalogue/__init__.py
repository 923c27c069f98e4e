"""The catalogue: every scheme under its name, a file for each family. A new scheme is a record in the file of its family, and nothing else
anywhere in the package. What records share is in parts.py and mixing.py, what theory predicts of them in theory.py."""

import difflib
import importlib
import re

from addnorm_exp.residual.checks import SchemeError
from addnorm_exp.residual.scheme import Scheme

# In the order of the tables; a family is a file.
FAMILIES = tuple(
    importlib.import_module(f"{__name__}.{family}")
    for family in (
        "placement",
        "depth_scaled",
        "calibrated",
        "mixed",
        "norm_free",
        "learned_residual",
        "parametrisation",
        "gated",
        "skipless",
        "streams",
        "hyper_connections",
        "history",
        "controls",
        "recipes",
    )
)
_ALL = tuple(scheme for file in FAMILIES for scheme in file.SCHEMES)
_BY_NAME: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}
if len(_BY_NAME) != len(_ALL):
    raise SchemeError("two schemes of the catalogue have one name")


def is_published(name: str) -> bool:
    """Whether the scheme stands in a file of this folder, and not in a notebook or study file that called `add`."""
    return any(name == scheme.name for scheme in _ALL)


def add(scheme: Scheme) -> Scheme:
    """Enters a scheme of one's own for the rest of this process: from a notebook, or from the study file that uses it.

    A later one of the same name takes its place. Raises SchemeError where a published scheme has the name.
    """
    if is_published(scheme.name):
        raise SchemeError(f"the catalogue has a scheme '{scheme.name}'; give yours another name")
    _BY_NAME[scheme.name] = scheme
    return scheme


def names() -> tuple[str, ...]:
    """All names, in the catalogue's order."""
    return tuple(_BY_NAME)


def get(name: str) -> Scheme:
    """The scheme of this name. Raises SchemeError with the nearest names where there is none."""
    if not name.strip():
        raise SchemeError("a scheme's name is empty; expected one like pre_ln")
    if "," in name:
        raise SchemeError(f"unknown scheme '{name}'; give one name (a study compares several)")
    if name not in _BY_NAME:
        same = spelt(name)
        begun = [known for known in _BY_NAME if known.startswith(name.lower())][:3]
        close = [same] if same else begun or difflib.get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.6)
        own = "a scheme defined in a study file is known only to that study (CONTRIBUTING.md)"
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else own
        raise SchemeError(f"unknown scheme '{name}'; {hint}")
    return _BY_NAME[name]


# What people call a scheme beside its name and its title, without `-`, `_` and spaces.
_ALSO = {
    "hyper": ("hc", "dhc", "dynamichyperconnections"),
    "hyper_static": ("shc",),
    "layerscale": ("cait",),
    "mhc": ("mhyperconnections",),
    "no_norm": ("none", "normfree", "nonorm"),
    "post_ln": ("original", "vanilla", "vaswani", "baseline"),
    "pre_ln": ("default",),
    "pre_rms": ("rms", "rmsnorm", "llama"),
    "res_post_norm": ("olmo2", "olmo"),
    "sandwich_ln": ("sandwich", "cogview"),
    "sub_ln": ("magneto",),
    "value_residual": ("resformer",),
}


def spelt(name: str) -> str | None:
    """The name of the scheme that is meant by `name`: the same letters, its title, or what people call it."""
    wanted = _letters(name)
    for key, scheme in _BY_NAME.items():
        title = re.sub(r"\(.*?\)", "", scheme.title)
        if wanted and wanted in {_letters(key), _letters(title), *_ALSO.get(key, ())}:
            return key
    return None


def _letters(name: str) -> str:
    """Without case and separators, and with one word for LayerNorm and RMSNorm: Pre-Norm is pre_ln."""
    letters = re.sub(r"[^a-z0-9*]+", "", name.casefold()).removesuffix("transformer")
    for prefix in ("pre", "post", "peri", "sandwich"):
        for words, kind in (("layernorm", "ln"), ("rmsnorm", "rms"), ("norm", "ln")):
            if letters == prefix + words:
                return prefix + kind
    return letters
