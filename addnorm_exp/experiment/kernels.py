"""Which kernel computes attention: what each of them supports, and what `execution.attention=auto` takes on a device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from addnorm_exp.experiment.shape import Shape
from addnorm_exp.nn.attention import Implementation
from addnorm_exp.residual import Scheme, Site
from addnorm_exp.residual.contract import ATTENDING

KEY = "execution.attention"
# The options of attention that act on queries, keys and values, or on their mixture, and so leave the kernel's function as it is.
AROUND = frozenset({"qk_norm", "v_norm", "value_mix", "value_map", "head_scale", "out_norm", "out_map"})


@dataclass(frozen=True)
class Device:
    """A kind of device: its platform as JAX names it, and the compute capability of an NVIDIA GPU, (0, 0) of anything else."""

    platform: str
    capability: tuple[int, int] = (0, 0)


def attention_kernel(shape: Shape, device: Device) -> Implementation:
    """The kernel that a program of this shape has on such a device. `auto` is cuDNN's where it computes the same function, else `einsum`.

    An option that is not one of AROUND stays with `einsum`. Of the shaped weights of nn/shaping.py, softmax and uniform part cancel at
    init: to the bit where one kernel computes both, and else to the rounding of bfloat16.
    """
    if shape[KEY] != "auto":
        return shape[KEY]
    options = [option for each in _options(shape.scheme, shape.sites) for option in each.items()]
    plain = all(name in AROUND for name, value in options if value)
    return "cudnn" if plain and cudnn_obstacle(shape, device) is None else "einsum"


def resolved(shape: Shape, device: Device) -> Shape:
    """The shape with the kernel's name in the place of `auto`."""
    name = attention_kernel(shape, device)
    return replace(shape, items=tuple((key, name if key == KEY else value) for key, value in shape.items))


def capped(scheme: Scheme, sites: Sequence[Site]) -> bool:
    """Whether any attention logits are capped. Only `einsum` can cap them."""
    return any(each.get("soft_cap") for each in _options(scheme, sites))


def cudnn_obstacle(shape: Shape, device: Device) -> str | None:
    """What cuDNN's kernel needs and this device or shape lacks ("A, but this is B"), beside logits without a cap; None if nothing.

    The limits are those of `jax.nn.dot_product_attention`, except that it accepts heads of 256 on the successors of Hopper too. It does
    not take a mask of keys alone ("Bias must have same seq length as QKV"), and lengths in its place cannot be mapped over the lanes of
    a pack.
    """
    if device.platform != "gpu" or device.capability < (8, 0):
        at = ".".join(map(str, device.capability))
        own = f"gpu with {at}" if device.platform == "gpu" else device.platform
        return f"an NVIDIA GPU of compute capability 8.0 or more, but this is {own}"
    if shape["model.compute_dtype"] != "bfloat16":
        return f"model.compute_dtype=bfloat16, but this run has {shape['model.compute_dtype']}"
    size, largest = shape["model.width"] // shape["model.num_heads"], 256 if device.capability[0] == 9 else 128
    if size % 8 or size > largest:
        return f"heads whose size (model.width / model.num_heads) is a multiple of 8 and at most {largest}, but this run has {size}"
    if any(site.stack == "encoder" or "cross_attention" in site.sublayers for site in shape.sites):
        return "sequences without padding, but those of an encoder are padded"
    return None


def _options(scheme: Scheme, sites: Sequence[Site]) -> Iterator[Mapping[str, Any]]:
    """The options of each sublayer that attends."""
    for site in sites:
        for kind in site.sublayers:
            if kind in ATTENDING:
                yield scheme.of(site.stack).sublayer_options(site.at(kind))
