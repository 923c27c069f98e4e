"""The kind of device at hand."""

import jax

from addnorm_exp.experiment.kernels import Device


def device() -> Device:
    """Of the devices of all processes the least capable one, so that every process has the same answer."""
    kinds = []
    for each in jax.devices():
        # Of AMD's GPUs too the platform is "gpu", but their capability is no number.
        nvidia = "cuda" in each.client.platform_version
        major, minor = each.compute_capability.split(".") if nvidia else (0, 0)
        kinds.append(Device(each.platform, (int(major), int(minor))))
    return min(kinds, key=lambda kind: kind.capability)
