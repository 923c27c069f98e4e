"""How schemes differ before any training: quantities of signal and gradient by depth at init, beside what theory predicts.

settings → measure → verdict → table, figures. A setting says what is put into a stack of blocks and what is asked of its output;
`measure` goes through it block by block; the rest reads rows.
"""
