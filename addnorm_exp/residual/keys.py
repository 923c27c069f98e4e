"""Numbers that are folded into a step's key where those of blocks and sublayers are, which count from 0. Each draws numbers of its own."""

EMBEDDING = 2**32 - 1  # dropout of the embedding
ENCODER = 2**32 - 2  # all of an encoder beside a decoder
PATHS = 2**32 - 3  # stochastic depth, beside the dropout of the same sublayer
