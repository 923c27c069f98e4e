"""How schemes differ before training: signal and gradient by depth at init, compared with what theory predicts.

settings → measure → verdict → table, pictures. A setting defines the input of a stack of blocks and the loss on its output;
`measure` runs it block by block; the other modules read its measurements.
"""
