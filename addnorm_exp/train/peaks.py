"""The peak speed of devices, for the share that a run reaches (MFU). No processor (CPU) is listed: its peak depends on clock, cores
and load."""

import jax

# Dense products in bfloat16 (or float16 if a device lacks it), 10¹² per second, by JAX's `device_kind`. The longest name that the kind
# begins with counts. On older TPUs, JAX counts each core as a device.
PEAK = {
    # NVIDIA's data sheets, "Tensor Core" rows; half of a figure that is given "with sparsity".
    "NVIDIA B200": 2250.0,
    "NVIDIA H200": 989.0,
    "NVIDIA H100 80GB HBM3": 989.0,  # SXM
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA GH200": 989.0,
    "NVIDIA A100": 312.0,
    "NVIDIA A10G": 70.0,
    "NVIDIA L40S": 362.0,
    "NVIDIA L4": 121.0,
    "NVIDIA GeForce RTX 4090": 165.0,  # with accumulation in float32
    "NVIDIA GeForce RTX 3090": 71.0,  # with accumulation in float32
    "Tesla V100": 125.0,
    "Tesla T4": 65.0,
    # Google Cloud's pages on each TPU version, "peak compute per chip".
    "TPU v2": 23.0,
    "TPU v3": 61.5,
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5e": 197.0,
    "TPU v5": 459.0,
    "TPU v5p": 459.0,
    "TPU v6 lite": 918.0,
    "TPU v6e": 918.0,
}


def peak_of(kind: str) -> float | None:
    """Operations per second of one device of this kind; None if unknown."""
    names = [name for name in PEAK if kind == name or kind.startswith((f"{name} ", f"{name}-"))]
    return 1e12 * PEAK[max(names, key=len)] if names else None


def peak_flops() -> float | None:
    """Operations per second of all local devices together; None if unknown."""
    peak = peak_of(jax.local_devices()[0].device_kind)
    return None if peak is None else peak * jax.local_device_count()
