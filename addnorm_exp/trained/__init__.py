"""A trained model: its parameters, what it predicts, what goes on inside it, how good it is, and text that it writes.

Read in this order:

    recorded      the experiment that a run's folder records
    parameters    the parameters that a finished run keeps, verified
    inside        activations by the name of their place
    generation    text, one token after another
    model         `load`: all of them for one run
"""
