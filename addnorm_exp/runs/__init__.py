"""The record of runs on disk, and its mirror on W&B.

Read in this order:

    shapes        what the files of a record hold
    reading       their one reader
    identity      which run a config is
    facts         versions, device, source revision
    uncut         what a process that ends itself does not leave halfway
    folder        a run's folder: config.json, metrics.jsonl, summary.json, and its one writer
    columns       what the columns of per-layer arrays are
    layers        per-layer arrays beside the scalars
    joining       many steps of them as few, for pictures
    arrays        named arrays in one file
    states        the files in checkpoints/: whole, half-written, somebody's own, kept by a finished run
    finish        what goes when a run has ended
    winners       which candidate of a study won
    caveats       what a reader must know before comparing rows
    published     numbers that others have published, in a study file
    life          where the runs of a folder stand
    gc            what dead attempts left
    events        what training tells those who watch
    mirror/       the mirror on W&B

Nothing here computes; docs/record.md says what the files mean.
"""
