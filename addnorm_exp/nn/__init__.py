"""The Transformer around the residual contract.

Read in this order:

    layers        linear maps on (tokens, width), and why they are two-dimensional
    shaping       what skipless blocks do to attention weights, value and output maps
    attention     multi-head attention as a body of the contract
    feed_forward  the feed-forward sublayer as one
    stack         a block, and a stack of them: unrolled, or scanned
    embedding     tokens and positions
    head          the way back to logits
    models        decoder, classifier, encoder and decoder together
    functional    a module as pure functions over {path: array}: all that the rooms above see
    footprint     a lower bound on the size of a model, without building it; floating-point operations a token

Another option inside a sublayer is a keyword of attention or feed_forward (CONTRIBUTING.md).
"""
