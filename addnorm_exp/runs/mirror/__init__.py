"""The W&B mirror: a window on the record of runs, in a process of its own.

Training tells the mirror nothing but which folder it begins and ends; all else the mirror reads from the record on disk, as it
grows. So whatever W&B does (fail, hang, die), training does not notice, a run that was trained without a network is uploaded later from the
same record by the same code, and a run looks the same on W&B whichever way it came there.

    rows       the record as history rows: each step once, in order, whole
    picture    per-layer arrays as one image
    forms      config, summary, names and tags as W&B has them, and back
    settings   what the person asks of W&B: mode, key, project, time-outs; read without the client
    window     one run on W&B: opened under its id, fed with what it lacks, closed
    server     what the server says when it is asked
    agent      the process that mirrors while runs are trained
    mirror     the training process's end of it
    sync       runs that were not mirrored, or not to their end

What happens with no key, no server, a dying or a hanging one: docs/wandb.md.
"""
