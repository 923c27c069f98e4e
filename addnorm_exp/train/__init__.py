"""The compiled loop.

Read in this order:

    hypers        what of a config is data, and what keys a program
    schedule      learning rates on traced numbers
    step          one optimiser step, and N of them in one dispatch
    calibration   parameters that the first batch sets
    platform      what a process does once
    pace          how long a dispatch may be
    program       the compiled programs of one shape, shared by all runs of it
    memory        what does not fit this machine is refused before it is built
    checkpoint    states with checksums
    entry         what a run's record begins with: identity, versions, costs
    timetable     when a run validates, measures, saves
    peaks         the peak speed of devices
    meter         what the events of a run say of its progress
    display       what a person sees of them
    recorder      what a run writes as it goes
    loop          one run: chunks, evaluation, divergence, checkpoints, resume

Another schedule -> schedule; another per-layer quantity -> step, which returns it, and recorder, which names it.
"""
