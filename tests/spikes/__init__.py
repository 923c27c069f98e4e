"""Nine published schemes as records on the residual contract, forward only: the proof that the contract carries them.

Each file holds one `scheme`, as a file of the catalogue would, and says where the contract fits and where it does not reach.
`bodies` holds sublayers with the options that some of them ask for, `model` runs a scheme around any bodies.
"""
