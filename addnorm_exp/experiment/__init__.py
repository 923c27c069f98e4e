"""From a config to an experiment: its scheme, and its projections on hypers, shape and timetable.

Read in this order:

    schemes       the scheme that a config names, with the axes that it sets
    hypers        the numbers that are traced
    shape         what a program is compiled for
    kernels       which kernel computes attention, on a device
    timetable     when a run validates, measures, records and saves
    experiment    all of them together

Which key is what, the schema says (config/schema.py). `tasks.resolve` makes an experiment of a config.
"""

from addnorm_exp.experiment.experiment import Experiment, structural
from addnorm_exp.experiment.hypers import Hypers
from addnorm_exp.experiment.shape import Shape
from addnorm_exp.experiment.timetable import Timetable

__all__ = ["Experiment", "Hypers", "Shape", "Timetable", "structural"]
