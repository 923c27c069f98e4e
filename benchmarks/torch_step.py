"""The same training step in PyTorch, as well as we can write it; a worker of benchmarks/step.py.

A Pre-LN decoder with our parameters one for one (query, key and value are one map here, as they are one matrix product there), the same
loss, clipping, AdamW, weight-decay groups and schedule; `step.py --check` compares them on copied weights. Of the ways that
PyTorch has for attention and for the optimiser, each is tried and the fastest is timed. Nothing here waits for the device or reads a number
back inside the loop, there is no divergence check, and no statistics: it may do less than our step, never more.
"""

import itertools
import json
import math
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from worker import Answer, cores, serve

EPS = 1e-5  # of the norms
keep_memory = runpy.run_path(str(Path(__file__).parents[1] / "addnorm_exp/train/platform.py"))["keep_memory"]


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, attention: str):
        super().__init__()
        self.heads, self.attention = heads, attention
        self.norm_1, self.norm_2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.attention == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            logits = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-1, -2) + mask
            mixed = logits.softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """Learned positions, embedding times √width, final norm, a head of its own without bias."""

    def __init__(self, shape: dict[str, int], attention: str):
        super().__init__()
        width, length = shape["width"], shape["seq"]
        self.multiplier = math.sqrt(width)
        self.tokens, self.positions = nn.Embedding(256, width), nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        nn.init.normal_(self.positions, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, shape["heads"], 4 * width, attention) for _ in range(shape["depth"]))
        self.norm, self.head = nn.LayerNorm(width, EPS), nn.Linear(width, 256, bias=False)
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = (self.tokens(inputs) + self.positions) * self.multiplier
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())


class Trainer:
    """One way to train. `compiled` puts `torch.compile` over the loss (so over its gradient too), and over clipping and AdamW where
    `optimiser` is `compiled`."""

    def __init__(
        self,
        shape: dict[str, int],
        optim: dict[str, float],
        attention: str,
        optimiser: str,
        compiled: bool,
        seed: int = 0,
    ):
        torch.manual_seed(seed)
        self.optim, self.number, self.half = optim, 0, STATE["dtype"] == "bfloat16"
        self.model = Decoder(shape, attention).to(DEVICE)
        self.loss: Callable[..., torch.Tensor] = torch.compile(self._loss) if compiled else self._loss
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim == 1]
        rate: Any = torch.tensor(0.0) if optimiser == "compiled" else 0.0  # a number would be compiled in
        self.adam = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=rate,
            betas=(optim["beta1"], optim["beta2"]),
            eps=optim["eps"],
            weight_decay=optim["weight_decay"],
            **{} if optimiser == "compiled" else {optimiser: True},  # fused or foreach
            capturable=optimiser == "compiled" and DEVICE.type == "cuda",
        )
        self.update = torch.compile(self._update) if optimiser == "compiled" else self._update

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.half):
            return self.model.loss(inputs, targets)

    def _update(self) -> torch.Tensor:
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.optim["clip"], foreach=True)
        self.adam.step()
        return norm

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """→ loss, gradient norm before clipping."""
        self.number += 1
        warm = max(self.optim["warmup"], 1)
        past = (self.number - self.optim["warmup"]) / max(self.optim["steps"] - self.optim["warmup"], 1)
        last = self.optim["final_lr"]
        factor = last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * min(max(past, 0.0), 1.0)))
        for group in self.adam.param_groups:
            rate = self.optim["lr"] * min(1.0, self.number / warm) * factor
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss(inputs, targets)
        loss.backward()
        return loss.detach(), self.update()

    def train(self, corpus: torch.Tensor, shape: dict[str, int], steps: int) -> float:
        """Seconds of that many steps on random windows of the corpus."""
        ahead = torch.arange(shape["seq"] + 1, device=DEVICE)
        _wait()
        begun = time.perf_counter()
        losses = []
        for _ in range(steps):
            starts = torch.randint(corpus.numel() - shape["seq"], (shape["batch"], 1), device=DEVICE)
            windows = corpus[starts + ahead].long()
            losses.append(self.step(windows[:, :-1], windows[:, 1:])[0])
        told = torch.stack(losses).tolist()  # waits for the device, as reading a chunk's metrics does
        seconds = time.perf_counter() - begun
        if not all(map(math.isfinite, told)):
            raise FloatingPointError("the loss is not finite, so the time says nothing")
        return seconds


DEVICE = torch.device("cpu")
STATE: dict[str, Any] = {}  # shape, dtype, optim, corpus, and trainer by row


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def hello(platform: str, shape: dict[str, int], dtype: str, optim: dict[str, float], corpus: str) -> Answer:
    global DEVICE
    if platform != "cpu":
        if not torch.cuda.is_available():
            raise RuntimeError(f"this PyTorch has no CUDA, and JAX runs on {platform}")
        DEVICE = torch.device("cuda")
        torch.set_float32_matmul_precision("highest")  # no TF32, as in `model.matmul_precision`
    kept = keep_memory()
    torch.set_num_threads(cores())
    torch.set_flush_denormal(True)  # XLA's threads do so
    tokens = torch.frombuffer(bytearray(Path(corpus).read_bytes()), dtype=torch.uint8).to(DEVICE)
    STATE.update(shape=shape, dtype=dtype, optim=optim, corpus=tokens)
    model = Decoder(shape, "sdpa")
    return {
        "version": torch.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "mallopt": kept,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _ways(compiled: bool) -> list[tuple[str, str]]:
    """(attention, optimiser) to try."""
    return list(itertools.product(("sdpa", "plain"), ("fused", "foreach", *(["compiled"] if compiled else []))))


def prepare(row: str, quick: bool) -> Answer:
    """Compiles and warms up every way of a row and keeps the fastest, by the best of a few short goes taken in turn."""
    compiled, shape = row == "compile", STATE["shape"]
    begun = time.perf_counter()
    found: dict[str, Trainer] = {}
    failed: dict[str, Exception] = {}
    ways = {
        f"{attention} attention, {optimiser} AdamW": (attention, optimiser) for attention, optimiser in _ways(compiled)
    }
    for way, (attention, optimiser) in itertools.islice(ways.items(), 2 if quick else None):
        try:
            trainer = Trainer(shape, STATE["optim"], attention, optimiser, compiled)
            trainer.train(STATE["corpus"], shape, 3)
            found[way] = trainer
        except FloatingPointError:
            raise
        except Exception as error:  # a way that this build of PyTorch lacks; the others stand
            failed[way] = error
    if not found:
        raise next(iter(failed.values()))
    goes, steps = (2, 3) if quick else (4, 10)
    timed = dict.fromkeys(found, math.inf)
    for _, (way, trainer) in itertools.product(range(goes), found.items()):
        timed[way] = min(timed[way], trainer.train(STATE["corpus"], shape, steps) / steps)
    best = min(timed, key=timed.__getitem__)
    found.clear()
    torch.compiler.reset()  # what was compiled for the other ways would be looked through at every call
    STATE[row] = Trainer(shape, STATE["optim"], *ways[best], compiled)
    STATE[row].train(STATE["corpus"], shape, steps)
    return {
        "way": best,
        "tried_ms": {way: 1e3 * seconds for way, seconds in timed.items()},
        "failed": {way: (str(error).strip().splitlines() or [""])[0] for way, error in failed.items()},
        "seconds": time.perf_counter() - begun,
    }


def run(row: str, steps: int) -> Answer:
    return {"seconds": STATE[row].train(STATE["corpus"], STATE["shape"], steps)}


def check(folder: str) -> Answer:
    """Trains every way on the weights and batches in `folder` (our_step.check) → by way: logits' largest difference, losses' and gradient
    norms' largest relative difference, and distance of the trained weights over the way that ours went."""
    ours = _read(Path(folder))
    batches = ours.pop("inputs").long(), ours.pop("targets").long()
    optim = json.loads((Path(folder) / "optim.json").read_text())
    results = {}
    for compiled in (False, True):
        for attention, optimiser in _ways(compiled):
            trainer = Trainer(STATE["shape"], optim, attention, optimiser, compiled)
            _load(trainer.model, ours, "start")
            with torch.no_grad():
                logits = trainer.model(batches[0][0].to(DEVICE)).flatten(0, 1).cpu()
            told = [trainer.step(x.to(DEVICE), y.to(DEVICE)) for x, y in zip(*batches, strict=True)]
            losses, norms = (torch.stack(values).cpu() for values in zip(*told, strict=True))
            aim = Decoder(STATE["shape"], attention)
            _load(aim, ours, "end")
            start = Decoder(STATE["shape"], attention)
            _load(start, ours, "start")
            results[f"{'compile' if compiled else 'eager'}, {attention}, {optimiser}"] = {
                "logits": float((logits - ours["logits"]).abs().max()),
                "loss": float((losses / ours["loss"] - 1.0).abs().max()),
                "grad_norm": float((norms / ours["grad_norm"] - 1.0).abs().max()),
                "weights": _distance(trainer.model, aim) / _distance(start, aim),
            }
    return {"ways": results}


def _read(folder: Path) -> dict[str, torch.Tensor]:
    """Arrays by name: raw bytes with an index, for PyTorch may be there without NumPy."""
    blob = bytearray((folder / "arrays.bin").read_bytes())
    index = json.loads((folder / "arrays.json").read_text())
    return {
        name: torch.frombuffer(
            blob, dtype=getattr(torch, at["dtype"]), count=math.prod(at["shape"]), offset=at["offset"]
        ).view(at["shape"])
        for name, at in index.items()
    }


def _load(model: Decoder, arrays: dict[str, torch.Tensor], when: str) -> None:
    """Our parameters into the twin: kernels are (in, out) there and (out, in) here."""

    def get(path: str) -> torch.Tensor:
        return arrays[f"{when}/{path}"]

    def linear(map_: nn.Linear, *paths: str) -> None:
        map_.weight.copy_(torch.cat([get(f"{path}/kernel") for path in paths], 1).T)
        if map_.bias is not None:
            map_.bias.copy_(torch.cat([get(f"{path}/bias") for path in paths]))

    def norm(norm_: nn.LayerNorm, path: str) -> None:
        norm_.weight.copy_(get(f"{path}/gain"))
        norm_.bias.copy_(get(f"{path}/bias"))

    with torch.no_grad():
        model.tokens.weight.copy_(get("embedding/tokens"))
        model.positions.copy_(get("embedding/positions"))
        for number, block in enumerate(model.blocks):
            at = f"decoder/blocks/{number}"
            norm(block.norm_1, f"{at}/connections/nodes/attention/connection/pre")
            norm(block.norm_2, f"{at}/connections/nodes/feed_forward/connection/pre")
            linear(block.qkv, *(f"{at}/attention/{role}" for role in ("query", "key", "value")))
            linear(block.out, f"{at}/attention/out")
            linear(block.up, f"{at}/feed_forward/up")
            linear(block.down, f"{at}/feed_forward/down")
        norm(model.norm, "decoder/ends/closing")
        linear(model.head, "head")


def _distance(one: Decoder, other: Decoder) -> float:
    """Euclidean, over all parameters but key biases: their gradient is 0 but for rounding (softmax does not see a shift), and Adam makes
    full steps of that rounding."""
    total = 0.0
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        square = (a.detach().cpu() - b.detach().cpu()).square()
        if name.endswith("qkv.bias"):
            square[len(square) // 3 : 2 * len(square) // 3] = 0.0
        total += float(square.sum())
    return math.sqrt(total)


if __name__ == "__main__":
    serve({"hello": hello, "prepare": prepare, "run": run, "check": check})
