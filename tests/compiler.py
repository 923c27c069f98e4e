"""The compiler's flags under the tests. Compilation is most of the suite's time, so it does as little as it can.

Tests of numbers allow for rounding, and tests of bits compare runs of one setting; the quickstart, which CI runs last, has the defaults.
"""

from importlib.metadata import version

QUICK = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # later ones only have the emitters that take twice as long
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
