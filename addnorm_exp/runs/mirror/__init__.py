"""The W&B mirror: copies the record of runs to W&B, in its own process.

Training tells the mirror only which folder it begins and ends. The mirror reads everything else from the growing record on disk. So
training is not affected if W&B fails, hangs or dies; a run that was trained without a network is uploaded later from the same record by
the same code; and a run looks the same on W&B in both cases.

    rows       the record as history rows: each step once, in order, complete
    picture    per-layer arrays as one image
    forms      config, summary, names and tags in W&B's form, and back
    settings   the user's W&B settings: mode, key, project, time-outs; read without the client
    window     one run on W&B: opened under its id, sent the rows that it lacks, closed
    server     queries to the server
    agent      the process that mirrors while runs are trained
    mirror     the training process's side of it
    sync       uploads runs that were not mirrored, or not completely

docs/wandb.md explains what happens without a key or a server, and with a server that fails or hangs.
"""
