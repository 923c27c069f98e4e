"""Sublayers for the spikes: plain functions of given parameters, with the options that schemes ask of them."""

import math

import jax
import jax.numpy as jnp


def linear(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def rms(x, p):
    return p["gain"] * x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)


def attention(p, heads, *, causal=True, cross=False, head_norm=None, value_mix=None, qk_scale=False):
    """Over itself, or with `cross` over `memo["memory"]`; the values of the block that has no `value_mix` go into the memo."""

    def body(h, memo, context):
        source = memo["memory"] if cross else h

        def split(name, x):
            return linear(p[name], x).reshape(context.batch, -1, heads, h.shape[-1] // heads)

        q, k, v = split("query", h), split("key", source), split("value", source)
        if value_mix is not None:
            v = p["value_mix"][0] * memo["values"] + p["value_mix"][1] * v
        elif not cross:
            memo = {**memo, "values": v} if "values" not in memo else memo
        scale = 1 / math.sqrt(q.shape[-1])
        if head_norm is not None:
            q, k, v = rms(q, p["query_norm"]), rms(k, p["key_norm"]), rms(v, p["value_norm"])
        if qk_scale:
            s = p["qk_scale"].reshape(heads, -1)
            q, k = (s * x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
            scale = 1 / scale
        logits = scale * jnp.einsum("bqhd,bkhd->bhqk", q, k)
        if causal and not cross:
            logits = jnp.where(jnp.tril(jnp.ones(logits.shape[-2:], bool)), logits, -jnp.inf)
        if cross and "memory_mask" in memo:
            logits = jnp.where(memo["memory_mask"][:, None, None, :], logits, -jnp.inf)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), v)
        return linear(p["out"], mixed.reshape(h.shape)), memo, {}

    return body


def feed_forward(p, *, hidden_scale=False):
    """gelu, or with a gate swiglu; `hidden_scale` puts nGPT's s_u and s_v √d on its two halves."""

    def body(h, memo, context):
        up = linear(p["up"], h)
        if "gate" not in p:
            return linear(p["down"], jax.nn.gelu(up)), memo, {}
        gate, root = linear(p["gate"], h), math.sqrt(h.shape[-1])
        if hidden_scale:
            up, gate = up * p["up_scale"] * root, gate * p["gate_scale"] * root
        return linear(p["down"], up * jax.nn.silu(gate)), memo, {}

    return body
