"""A script in the manner of nanoGPT, written for benchmarks/grid.py and tuned for its speed:

    python nano_gpt.py --lr=1e-3 --seed=0 --corpus=FILE --attention=sdpa --threads=2 [--compile]   one run
    python nano_gpt.py --lr=3e-4,1e-3 --seed=0,0 …                                       a process loops over runs

A GPT-2 without biases and with a head tied to the embedding, so it has fewer parameters and does
less work than our model. One matrix product for query, key and value, fused AdamW; attention: sdpa
(PyTorch's flash attention) | plain. Over several runs the model is compiled once, and its
parameters are drawn anew in place.
"""

import math

import torch
import torch.nn.functional as F
from grid_plan import OPTIM
from torch import nn
from torch_loop import fit, parse, prepare

VOCAB = 256


class Block(nn.Module):
    def __init__(self, width: int, heads: int, length: int, attention: str):
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1), persistent=False)
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = self.attention(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if self.kernel == "sdpa":
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + self.mask
            mixed = logits.softmax(-1) @ v
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, depth: int, width: int, heads: int, length: int, attention: str):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCAB, width), nn.Parameter(torch.empty(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads, length, attention) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, bias=False)

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Initial values, in place: N(0, 0.02²), output projections divided by √(2 · depth), gains 1."""
        torch.manual_seed(seed)
        for name, parameter in self.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                is_output = name.endswith(("attention_out.weight", "down.weight"))
                parameter.normal_(0.0, 0.02 / (math.sqrt(2 * len(self.blocks)) if is_output else 1.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(self.tokens(inputs) + self.positions)) @ self.tokens.weight.T

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self(inputs).flatten(0, 1), targets.flatten())


class Training:
    """AdamW with a fresh state, linear warmup and cosine decay."""

    def __init__(self, model: GPT, loss, rate: float, steps: int, warmup: int):
        self.model, self.loss, self.rate, self.steps, self.warmup = model, loss, rate, steps, warmup
        parameters = list(model.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": OPTIM["weight_decay"]},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        betas = (OPTIM["beta1"], OPTIM["beta2"])
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=betas, eps=OPTIM["eps"], fused=True)
        self.number = 0

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.number += 1
        past = max(0.0, (self.number - self.warmup) / max(self.steps - self.warmup, 1))
        last = OPTIM["final_lr"]
        factor = last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * past))
        for group in self.adam.param_groups:
            group["lr"] = self.rate * min(1.0, self.number / max(self.warmup, 1)) * factor
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), OPTIM["clip"], foreach=True)
        self.adam.step()
        return loss.detach()


def main() -> None:
    arguments = parse(__doc__, "attention")
    splits = prepare(arguments)
    shape = (arguments.depth, arguments.width, arguments.heads, arguments.seq)
    model = GPT(*shape, arguments.attention).to(arguments.device)
    loss = torch.compile(model.loss) if arguments.compile else model.loss
    for rate, seed in arguments.runs:
        model.draw(seed)
        training = Training(model, loss, rate, arguments.steps, arguments.warmup)
        fit(model, training.step, splits, arguments, rate, seed)


if __name__ == "__main__":
    main()
