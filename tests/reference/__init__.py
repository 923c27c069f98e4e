"""Plain NumPy float64 references that the tests compare the package with.

Independence. Nothing here imports `addnorm_exp`, JAX or Flax, and nothing was written with the package's code at hand:
every function follows the equation of the paper named in its docstring. A mistake would have to be made twice, in two
styles, to go unseen. Please keep it so: when a test fails, do not copy the package's line into this folder, go back to
the equation.

Conventions, the same in every file:
- activations are `[B, T, D]` float64 (batch, tokens, width); inputs of any dtype are raised to float64 on entry;
- blocks are counted from 0 here, so the published block index is `l + 1`;
- a kernel is `[in, out]` and acts as `x @ kernel + bias`; the bias is optional everywhere;
- a norm is a function `norm(x, p)` whose `p` is a dict with any of `gain` and `bias` (`{}` = no affine), see `norms`;
- the bodies of a stack are `F[l][kind]`, callables on `h: [B, T, D]` *without any outer norm*; the kinds of a block,
  in order, are `attention`, `cross_attention`, `feed_forward`, and a block may leave any of them out;
- a scheme's own parameters are `p["blocks"][l][kind][place]` with place `pre` (before the body), `branch` (on the
  body's output), `post` (after the sum), and `p["final"]` (before the head). A missing entry is a KeyError, never a
  silent default.

`norms` holds the normalisers, `transformer` the bodies and both ends, `schemes` the variants whose stream is one array
and `streams` those that carry more than it (several streams, the history, first-layer values, the sphere).
"""
