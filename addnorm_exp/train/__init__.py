"""The compiled loop.

Read in this order:

    schedule      learning rates on traced numbers
    optimisers/   the rules of updates
    step          one optimiser step, and N of them in one dispatch
    calibration   parameters that the first batch sets
    host          cores and memory of this machine
    platform      settings that a process makes once
    device        the kind of device at hand
    pace          how long a dispatch may be
    compiler      functions compiled ahead, once for each shape of the data
    evaluation    the statistics of each example of a split, and their sums
    device_data   data on the devices
    program       the compiled functions of one shape, shared by all its runs
    programs      the programs of this process
    program_cache  compiled programs on disk
    memory        refuses a run that does not fit this machine, before it is built
    checkpoint    states with checksums
    entry         the part of the record before step 0: identity, versions, costs
    peaks         the peak speed of devices
    meter         a run's progress from its events
    display       shows the progress to the user
    recorder      writes the record during a run
    lane          one run on the host: its record, best parameters and checkpoints
    pack          runs that one program trains: chunks, evaluation, divergence, resume
    loop          claims and checks runs, trains them as a pack, and finishes them

Add a schedule in schedule, an optimiser in optimisers; add a per-layer quantity in step, which returns it, and in recorder, which names it.
"""
