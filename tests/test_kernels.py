"""The kernel of attention: what `auto` takes where, for every scheme and option; that the record says it; refusals. No GPU is needed."""

import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from of_config import check_machine, run, shape
from sample import depth_of, expensive
from training import config, interrupt
from training import config as tiny

from addnorm_exp.errors import UserError
from addnorm_exp.experiment.kernels import Device, attention_kernel, resolved
from addnorm_exp.nn.attention import QK_NORMS, V_NORMS
from addnorm_exp.residual import Context, catalogue
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks import make_task
from addnorm_exp.train import device as device_room
from addnorm_exp.train import entry, memory, program

AMPERE, HOPPER, BLACKWELL = (Device("gpu", capability) for capability in ((8, 0), (9, 0), (10, 0)))
HALF = {"model__compute_dtype": "bfloat16", "model__width": 32, "model__num_heads": 4}
SHAPED = {"simplified", "value_skipinit"}


def kernel(device=HOPPER, **changes) -> str:
    return attention_kernel(shape(tiny(**{**HALF, **changes})), device)


@pytest.mark.parametrize("device", [AMPERE, HOPPER, BLACKWELL], ids=str)
@pytest.mark.parametrize("scheme", catalogue.names())
def test_auto_is_cudnn_for_every_scheme_that_does_not_shape_its_weights(scheme, device):
    chosen = kernel(device, scheme=scheme, model__depth=depth_of(scheme, 2))
    assert chosen == ("einsum" if scheme in SHAPED else "cudnn")


@pytest.mark.parametrize(
    "device", [Device("cpu"), Device("tpu"), Device("gpu", (7, 5)), Device("gpu")], ids=["cpu", "tpu", "turing", "amd"]
)
@pytest.mark.parametrize("scheme", catalogue.names())
def test_auto_is_einsum_on_every_other_device(scheme, device):
    assert kernel(device, scheme=scheme, model__depth=depth_of(scheme, 2)) == "einsum"


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        *(({"attention__qk_norm": kind}, "cudnn") for kind in QK_NORMS),
        *(({"attention__v_norm": kind}, "cudnn") for kind in V_NORMS),
        ({"attention__soft_cap": 50.0}, "einsum"),
        ({"attention__soft_cap": 50.0, "attention__blocks": "last:1"}, "einsum"),
        ({"attention__soft_cap": 0.0}, "cudnn"),
        ({"logits__soft_cap": 30.0}, "cudnn"),
        ({"model__dropout": 0.1, "model__drop_path": 0.1}, "cudnn"),
        ({"model__positions": "learned"}, "cudnn"),
        ({"execution__scan_layers": "on"}, "cudnn"),
        ({"seq_len": 7}, "cudnn"),
        ({"model__compute_dtype": "float32"}, "einsum"),
        ({"model__num_heads": 8}, "einsum"),  # of size 4
        ({"model__width": 48}, "einsum"),  # of size 12
        ({"model__width": 512}, "cudnn"),
        ({"model__width": 1024}, "cudnn"),
        ({"model__width": 1056}, "einsum"),
    ],
    ids=str,
)
def test_auto_by_option(changes, chosen):
    assert kernel(**changes) == chosen


def test_an_option_that_nobody_has_called_harmless_stays_with_einsum():
    asked = shape(tiny(**HALF))
    for options, chosen in (({"sinks": True}, "einsum"), ({"sinks": False, "out_norm": asked.scheme.norm}, "cudnn")):
        scheme = replace(asked.scheme, options=lambda site, norm, options=options: options)
        assert attention_kernel(replace(asked, scheme=scheme), HOPPER) == chosen


@pytest.mark.parametrize(("device", "chosen"), [(AMPERE, "einsum"), (HOPPER, "cudnn"), (BLACKWELL, "einsum")], ids=str)
def test_heads_of_256_are_for_hopper(device, chosen):
    assert kernel(device, model__width=1024) == chosen


def test_a_padded_encoder_stays_with_einsum(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"text {number},{number % 2}\n" for number in range(60)))
    assert kernel(task__name="classify_text", data__name="file", data__path=str(path)) == "einsum"


@pytest.mark.parametrize("asked", ["einsum", "xla", "cudnn"])
def test_a_kernel_that_is_named_is_taken(asked):
    assert kernel(Device("cpu"), execution__attention=asked) == asked


def test_auto_shares_the_program_of_the_kernel_that_it_takes():
    for device, name in ((HOPPER, "cudnn"), (Device("cpu"), "einsum")):
        automatic, named = (shape(tiny(**HALF, execution__attention=asked)) for asked in ("auto", name))
        assert automatic != named
        assert resolved(automatic, device) == named


@pytest.fixture
def cuda(monkeypatch):
    """JAX lowers for a Hopper GPU, which is not there."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: capability <= "9.0")
    monkeypatch.setattr(cudnn, "is_cuda_compute_capability_equal", lambda capability: capability == "9.0")


@pytest.mark.parametrize("lanes", [0, pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize("scheme", expensive())
def test_jax_accepts_for_cuda_what_auto_takes(scheme, lanes, cuda):
    """Every attention sublayer of the model becomes a call of cuDNN, and its gradient another, alone and in a pack."""
    depth = depth_of(scheme, 2)
    asked = shape(tiny(scheme=scheme, model__depth=depth, **HALF))
    task = make_task(resolved(asked, HOPPER))

    def total(parameters, tokens):
        logits, _ = task.model.bind(parameters)(tokens, Context(step=jnp.int32(0), batch=2), None, jnp.bfloat16)
        return jnp.sum(logits, dtype=jnp.float32)

    ahead = (lanes,) if lanes else ()
    parameters = {
        path: jax.ShapeDtypeStruct((*ahead, *spec.shape), jnp.float32) for path, spec in task.model.specs.items()
    }
    gradient = jax.vmap(jax.grad(total), in_axes=(0, None)) if lanes else jax.grad(total)
    traced = jax.jit(gradient).trace(parameters, jax.ShapeDtypeStruct((2, asked["seq_len"]), jnp.int32))
    calls = Counter(re.findall(r"__cudnn\$\w+", traced.lower(lowering_platforms=("cuda",)).as_text()))
    count = 0 if scheme in SHAPED else depth
    assert calls == Counter({"__cudnn$fmhaSoftmax": count, "__cudnn$fmhaSoftmaxBackward": count})


@pytest.mark.parametrize(
    ("device", "changes", "message"),
    [
        (Device("cpu"), {}, "an NVIDIA GPU of compute capability 8.0 or more, but this is cpu"),
        (
            Device("gpu", (7, 5)),
            {},
            "an NVIDIA GPU of compute capability 8.0 or more, but this is gpu with 7.5",
        ),
        (
            HOPPER,
            {"model__compute_dtype": "float32"},
            "model.compute_dtype=bfloat16, but this run has float32",
        ),
        (
            HOPPER,
            {"model__width": 48},
            r"heads whose size \(model.width / model.num_heads\) is a multiple of 8 and at most 256, but this run has 12",
        ),
    ],
    ids=["cpu", "turing", "float32", "heads"],
)
def test_cudnn_is_refused_where_auto_does_not_take_it(device, changes, message, monkeypatch):
    monkeypatch.setattr(memory, "device", lambda: device)
    with pytest.raises(UserError, match=f"^execution.attention=cudnn needs {message}; use auto, einsum or xla$"):
        check_machine(tiny(**{**HALF, **changes}, execution__attention="cudnn"))


def test_the_bound_on_memory_counts_the_weights_of_einsum_alone(monkeypatch):
    """A long sequence fits where no matrix of weights is stored."""
    long = tiny(**HALF, seq_len=4096, batch_size=8)
    monkeypatch.setattr(memory, "memory", lambda: 5 * 10**8)
    monkeypatch.setattr(memory, "device", lambda: HOPPER)
    check_machine(long)
    monkeypatch.setattr(memory, "device", lambda: Device("cpu"))
    with pytest.raises(UserError, match="activations of a micro-batch"):
        check_machine(long)


def test_a_program_is_built_for_the_kernel_of_its_device(monkeypatch):
    monkeypatch.setattr(program, "device", lambda: HOPPER)
    built = program.Program(shape(tiny(**HALF)))
    assert built.task.arch.attention == built.shape["execution.attention"] == "cudnn"


def test_the_record_has_the_kernel_of_each_attempt_beside_what_was_typed(data, tmp_path, monkeypatch):
    interrupt(config(), data, tmp_path, chunks=1)
    monkeypatch.setattr(entry, "device", lambda: HOPPER)
    monkeypatch.setattr(entry, "attention_kernel", lambda shape, device: f"that of {device.platform}")
    summary = run(config(), data, RunFolder(tmp_path))
    assert [attempt.execution["attention"] for attempt in summary.attempts] == ["auto", "auto"]
    assert [attempt.attention for attempt in summary.attempts] == ["einsum", "that of gpu"]


def test_the_least_capable_of_all_devices_decides(monkeypatch):
    """Every process of several sees all devices, so all of them build one program."""

    def devices(*kinds):
        made = [
            SimpleNamespace(platform="gpu", compute_capability=kind, client=SimpleNamespace(platform_version=version))
            for kind, version in kinds
        ]
        monkeypatch.setattr(device_room.jax, "devices", lambda: made)
        return device_room.device()

    cuda = "PJRT C API\ncuda 12090"
    assert devices(("9.0", cuda), ("8.6", cuda)) == Device("gpu", (8, 6))
    assert devices(("10.3", cuda)) == Device("gpu", (10, 3))
    assert devices(("gfx90a", "PJRT C API\nrocm 60300")) == Device("gpu")
    monkeypatch.undo()
    assert device_room.device() == Device(jax.default_backend())
