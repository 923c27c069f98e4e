"""The record of runs on disk, and its mirror on W&B.

Read in this order:

    columns             the meaning of the columns of per-layer arrays
    values              what a single value of a record may be
    records             the files of a record as types
    reading             their only reader
    identity            the id of a config's run
    machine             versions, device, source revision
    lock                locks between processes
    folder              a run's folder: config.json, metrics.jsonl, summary.json, and its only writer
    tickets             what a worker on another machine needs to train a planned run
    layers              per-layer arrays beside the scalars
    thinning            joins neighbouring steps of them, for pictures
    arrays              named arrays in one file
    checkpoint_folders  the files in checkpoints/: whole, half-written, foreign, kept by a finished run
    finish              removes what a finished run does not keep
    metrics             a metric: name, unit, direction, trivial value
    winners             which candidate of a study won
    caveats             what a reader must know before comparing rows
    published           published numbers in a study file
    status              the status of the runs in a folder
    joined_plan         one plan of several folders of a study
    study_part          such a folder, read and checked
    merge               joins these folders
    prune               leftovers of interrupted attempts
    events              events that training reports
    mirror/             the mirror on W&B

Nothing here computes; docs/record.md explains the files.
"""
