"""The reference norms and the parts of the reference Transformer, against facts that need none of their code: scipy, hand
calculation and identities."""

import math

import numpy as np
import pytest
import scipy.special
from reference import norms, transformer
from reference.cases import (
    HIDDEN,
    B,
    D,
    H,
    M,
    T,
    V,
    affine,
    attention_params,
    block_params,
    close,
    exact_layer,
    exact_rms,
    rng,
)

# --- norms ---


def test_layer_norm_is_the_population_z_score():
    from scipy.stats import zscore  # a second of every session where it is not needed

    x = rng().normal(3.0, 2.0, size=(B, T, D))
    close(exact_layer(x, {}), zscore(x, axis=-1, ddof=0))
    p = affine(rng(1))
    close(exact_layer(x, p), p["gain"] * zscore(x, axis=-1, ddof=0) + p["bias"])


def test_eps_stands_where_it_is_said_to():
    x = np.array([3.0, 1.0])  # mean 2, variance 1, mean square 5
    close(norms.layer_norm(x, {}, eps=3.0), [0.5, -0.5])
    close(norms.layer_norm(x, {}, eps=3.0, place="outside"), [0.25, -0.25])
    close(norms.rms_norm(x, {}, eps=4.0), [1.0, 1 / 3])
    close(norms.rms_norm([4.0, 4.0], {}, eps=4.0, place="outside"), [0.5, 0.5])
    with pytest.raises(ValueError, match="inside"):
        norms.rms_norm(x, {}, place="within")


def test_rms_norm_facts():
    x, p = rng().normal(size=(B, T, D)), affine(rng(1))
    close(exact_rms(x, {}), math.sqrt(D) * norms.l2_norm(x))
    close(exact_rms(x - x.mean(-1, keepdims=True), p), exact_layer(x, p))
    offset = {**p, "gain": p["gain"] - 1}
    close(norms.rms_norm(x, offset, unit_offset=True), norms.rms_norm(x, p))
    close(norms.layer_norm(x, offset, unit_offset=True), norms.layer_norm(x, p))


def test_l2_norm_and_no_norm():
    x = rng().normal(size=(B, T, D))
    close(np.linalg.norm(norms.l2_norm(x), axis=-1), 1.0)
    close(np.linalg.norm(norms.l2_norm(x, axis=1), axis=1), 1.0)
    close(norms.l2_norm([3.0, 4.0]), [0.6, 0.8])
    assert np.array_equal(norms.no_norm(x, affine(rng())), x)
    with pytest.raises(ZeroDivisionError):
        norms.l2_norm(np.zeros(3))


# --- the Transformer's parts ---


def test_activations_against_scipy():
    x = np.linspace(-8, 8, 401)
    close(transformer.silu(x), x * scipy.special.expit(x))
    exact = x * scipy.special.ndtr(x)
    assert 1e-5 < np.abs(transformer.gelu(x) - exact).max() < 1e-3  # the approximation, so near but not equal
    close(transformer.gelu([1.0]), 0.8411919906082768)  # tabulated value of the tanh form
    assert transformer.relu([-1.0, 2.0]).tolist() == [0.0, 2.0]


def test_cross_entropy_against_scipy():
    g = rng()
    z, labels = 50 * g.normal(size=(B, T, V)), g.integers(V, size=(B, T))
    picked = [-scipy.special.log_softmax(z[b, t])[labels[b, t]] for b in range(B) for t in range(T)]
    close(transformer.cross_entropy(z, labels), np.mean(picked))
    mask = np.arange(B * T).reshape(B, T) % 3 > 0
    close(transformer.cross_entropy(z, labels, mask), np.mean(np.array(picked)[mask.ravel()]))
    close(transformer.cross_entropy(np.full((B, T, V), 7.0), labels), math.log(V))


def test_attention_against_a_loop_over_tokens():
    g = rng()
    p, x = attention_params(g), g.normal(size=(B, T, D))
    valid = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], dtype=bool)
    q, k, v = (x @ p[name]["kernel"] + p[name]["bias"] for name in ("query", "key", "value"))
    heads = np.zeros((B, T, D))
    for b in range(B):
        for t in range(T):
            seen = [s for s in range(t + 1) if valid[b, s]]
            for n in range(H):
                one = slice(n * D // H, (n + 1) * D // H)
                w = scipy.special.softmax([q[b, t, one] @ k[b, s, one] / math.sqrt(D // H) for s in seen])
                heads[b, t, one] = sum(w_s * v[b, s, one] for w_s, s in zip(w, seen, strict=True))
    close(transformer.attention(p, x, H, key_mask=valid), heads @ p["out"]["kernel"] + p["out"]["bias"])


def test_a_query_without_valid_keys_attends_to_nothing():
    g = rng()
    p, x = attention_params(g), g.normal(size=(1, T, D))
    valid = np.array([[0, 0, 1, 1, 1]], dtype=bool)
    close(transformer.attention(p, x, H, key_mask=valid)[0, :2], np.stack([p["out"]["bias"]] * 2))


def test_cross_attention_reads_memory_only_and_whole():
    g = rng()
    p, x, memory = attention_params(g), g.normal(size=(B, T, D)), g.normal(size=(B, M, D))
    together = transformer.attention(p, x, H, memory)
    alone = np.concatenate([transformer.attention(p, x[:, t : t + 1], H, memory) for t in range(T)], axis=1)
    close(together, alone)
    weights = transformer.attention_parts(p, x, H, memory=memory)["weights"]
    assert weights.shape == (B, H, T, M)
    assert weights.min() > 0


def test_rotary_turns_pairs_half_a_head_apart():
    g, h = rng(), 8
    x = g.normal(size=(1, 1, T, h))
    y = transformer.rotary(x, np.arange(T))
    as_complex = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * np.arange(T)[:, None] / 10 ** np.arange(4))
    close(y, np.concatenate([as_complex.real, as_complex.imag], axis=-1))  # 10000^(-2i/8) = 10^-i
    close(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1))


def test_rotary_scores_depend_on_relative_positions_only():
    g = rng()
    q, k = g.normal(size=(2, 1, 1, T, 8))
    near, far = (
        transformer.rotary(q, s + np.arange(T)) @ transformer.rotary(k, s + np.arange(T)).swapaxes(-1, -2)
        for s in (0, 37)
    )
    close(near, far)
    assert not np.allclose(near, q @ k.swapaxes(-1, -2))


def test_per_head_norms_make_attention_blind_to_the_size_of_its_projections():
    g = rng()
    p, x = attention_params(g, bias=False), g.normal(size=(B, T, D))
    p |= {f"{name}_norm": {"gain": g.normal(size=D // H)} for name in ("query", "key", "value")}
    louder = p | {name: {"kernel": 9 * p[name]["kernel"]} for name in ("query", "key", "value")}
    options = {"head_norm": exact_rms, "rotary_base": 10000.0}
    close(transformer.attention(p, x, H, **options), transformer.attention(louder, x, H, **options))
    # The norm comes before rotary: its gain, not constant over a pair, does not commute with the turn.
    one = slice(D // H, 2 * D // H)
    q, k = (
        transformer.rotary(exact_rms((x @ p[name]["kernel"])[:1, :, one], p[f"{name}_norm"]), np.arange(T))
        for name in ("query", "key")
    )
    parts = transformer.attention_parts(p, x, H, causal=False, **options)
    close(parts["logits"][0, 1], (q @ k.swapaxes(-1, -2))[0] / math.sqrt(D // H))


def test_ngpt_attention_logits_are_scaled_cosines():
    g = rng()
    p, x = attention_params(g, bias=False) | {"qk_scale": np.full(D, 0.5)}, g.normal(size=(B, T, D))
    parts = transformer.attention_parts(p, x, H, causal=False)
    q, k = x[1, 2] @ p["query"]["kernel"][:, 4:], x[1, 4] @ p["key"]["kernel"][:, 4:]
    close(parts["logits"][1, 1, 2, 4], math.sqrt(D // H) * 0.25 * q @ k / np.linalg.norm(q) / np.linalg.norm(k))
    assert np.abs(parts["logits"]).max() <= 0.25 * math.sqrt(D // H)


def test_feed_forward_forms():
    g = rng()
    p, x = block_params(g, swiglu=True)["feed_forward"], g.normal(size=(B, T, D))
    u, v = (x @ p[name]["kernel"] + p[name]["bias"] for name in ("up", "gate"))

    def down(hidden):
        return hidden @ p["down"]["kernel"] + p["down"]["bias"]

    close(transformer.feed_forward(p, x, "swiglu"), down(u * v * scipy.special.expit(v)))
    close(transformer.feed_forward(p, x, "relu"), down(u * (u > 0)))
    scaled = p | {"up_scale": np.full(HIDDEN, 3.0), "gate_scale": np.full(HIDDEN, 1 / math.sqrt(D))}
    close(transformer.feed_forward(scaled, x, "swiglu", root_d_on="gate"), down(3 * u * v * scipy.special.expit(v)))


def test_embedding_head_and_pooling():
    g = rng()
    table, positions, tokens = g.normal(size=(V, D)), g.normal(size=(9, D)), g.integers(V, size=(B, T))
    x = transformer.embed({"embedding": table, "positions": positions}, tokens, scale=2.0)
    close(x[1, 3], 2 * table[tokens[1, 3]] + positions[3])
    close(transformer.output_logits(x, embedding=table), transformer.output_logits(x, {"kernel": table.T}))
    mask = np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]])
    close(transformer.mean_pool(x, mask), [x[0, 0], (x[1, 0] + x[1, 1]) / 2])
