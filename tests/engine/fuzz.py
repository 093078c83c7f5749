"""Calls with garbage: every public function, module and geometry's own arithmetic, on arrays and on tensors.

Each call puts garbage (`tests.engine.garbage`) in the place of one good argument, or of several. It must give a result,
or raise a ``ValueError`` or a ``TypeError`` that names a wrong argument, within a second of the processor's time. What
fails is printed as one line, which does it again. The long run:

    python -m tests.engine.fuzz --seconds 600 --seed 1
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import random
import re
import signal
import string
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

import konvlib
from konvlib.geometry import memory
from tests.engine import garbage

HOUSE = str(Path(konvlib.__file__).parent)
SECONDS = 1.0
MEMORY = 2**31
"""In bytes: so much every machine has, so that what is too large is the same everywhere."""
OPERATOR = "torch.ops.konvlib."
OPERANDS = ("x", "w", "bias", "dy", "kappa", "f", "g", "h", "indices", "cols", "k", "w1", "w2", "weight")
ALIASES = {
    "w": ("kernel_size", "out_channels", "in_channels", "padded"),
    "weight": ("layers[0]",),
    "kappa": ("kernel_size", "out_channels", "in_channels", "padded"),
    "x": ("in_channels", "padded", "samples", "one per axis"),
    "dy": ("in_channels", "out_channels"),
    "kernel": ("kernel_size",),
    "padding": ("padded",),
    **dict.fromkeys(("input_size", "size", "output_size"), ("padded", "samples", "one per axis")),
    "input_shape": ("padded", "in_channels", "samples", "w must have"),
    "model": ("layer",),
    "name": ("basis",),
    "layers": ("layers[0]", "layers[1]"),
}
"""By what other words an error may name an argument."""


class Target(NamedTuple):
    """A call with holes, and a good expression for each; operands are ``np.ones``, so that tensors can be put there."""

    call: str
    good: dict[str, str]

    def filled(self, arguments: dict[str, str]) -> str:
        return string.Template(self.call).substitute(arguments)


def target(function: str, **given: str) -> Target:
    """A call of a public function: all arguments that it has by name, the others as they are by default."""
    parameters = inspect.signature(eval(function, dict(garbage.NAMESPACE))).parameters
    good = {name: given.get(name, repr(parameter.default)) for name, parameter in parameters.items()}
    return Target(f"{function}({', '.join(f'{name}=${name}' for name in good)})", good)


def _ones(*shape: int) -> str:
    return f"np.ones({shape})"


def _layers(axes: int) -> Iterator[Target]:
    """Every function over so many axes: of 2 channels and 9 samples an axis, to 4 channels, by 3 taps, in 2 groups.

    Over three axes, of 4 samples by 2 taps.
    """
    size, kernel, out, pooled = ((n,) * axes for n in ((9, 3, 7, 4) if axes < 3 else (4, 2, 3, 2)))
    x, w, dy, bias = _ones(1, 2, *size), _ones(4, 1, *kernel), _ones(1, 4, *out), _ones(4)
    kappa, options = _ones(4, 3, 1, *kernel), {"groups": "2"}
    name = f"konvlib.conv{axes}d"
    yield target(name, x=x, w=w, bias=bias, **options)
    yield target(f"{name}_input_grad", dy=dy, w=w, input_size=repr(size), **options)
    yield target(f"{name}_weight_grad", x=x, dy=dy, kernel_size=repr(kernel), **options)
    yield target(f"{name}_bias_grad", dy=dy)
    yield target(f"konvlib.conv_transpose{axes}d", x=dy, w=w, bias=_ones(2), **options)
    pool = {"kernel_size": repr(kernel), "stride": "2"}
    yield target(f"konvlib.max_pool{axes}d", x=x, **pool)
    yield target(f"konvlib.avg_pool{axes}d", x=x, **pool)
    places = f"np.zeros({(1, 2, *pooled)}, dtype=int)"
    yield target(f"konvlib.max_unpool{axes}d", x=_ones(1, 2, *pooled), indices=places, **pool)
    yield target(f"konvlib.max_pool{axes}d_grad", x=x, dy=_ones(1, 2, *pooled), **pool)
    yield target(f"konvlib.avg_pool{axes}d_grad", dy=_ones(1, 2, *pooled), input_size=repr(size), **pool)
    name = f"konvlib.konv{axes}d"
    yield target(name, x=x, kappa=kappa, bias=bias, **options)
    yield target(f"{name}_input_grad", dy=dy, x=x, kappa=kappa, **options)
    yield target(f"{name}_kappa_grad", x=x, dy=dy, degree="2", kernel_size=repr(kernel), **options)
    yield target(f"{name}_bias_grad", dy=dy)
    yield target("konvlib.im2col", x=x, kernel_size=repr(kernel))
    cols = _ones(1, 2 * prod(kernel), prod(out))
    yield target("konvlib.col2im", cols=cols, output_size=repr(size), kernel_size=repr(kernel))
    yield target("konvlib.conv_matrix", w=w, input_shape=repr((2, *size)), **options)
    yield target("konvlib.circulant_singular_values", w=w, shape="5")
    yield target("konvlib.insert_zeros", x=x, stride="2")
    yield target("konvlib.overlap_counts", size=repr(kernel), kernel_size="3")
    for function in ("scattering", "zero_insertion"):
        yield target(f"konvlib.conv_transpose_by_{function}", x=dy, w=w, bias=_ones(2), **options)
    yield from _modules(axes, size)


def _modules(axes: int, size: tuple[int, ...]) -> Iterator[Target]:
    module = f"konvlib.Konv{axes}d"
    yield target(module, in_channels="2", out_channels="4", kernel_size="3", degree="2", groups="2")
    given = "$out_channels, $kernel_size, degree=$degree, groups=$groups, bias=$bias, affine=$affine, dtype=$dtype"
    good = {"out_channels": "4", "kernel_size": "3", "degree": "2", "groups": "2", "bias": "True", "affine": "True"}
    yield Target(f"konvlib.LazyKonv{axes}d({given})", good | {"dtype": "None"})
    x = {"x": f"torch.ones({(1, 2, *size)})"}
    yield Target(f"{module}(2, 4, 3, groups=2, padding=1)($x)", x)
    yield Target(f"konvlib.LazyKonv{axes}d(4, 3)($x)", x)
    yield Target(f"{module}.from_conv($conv)", {"conv": f"nn.Conv{axes}d(2, 4, 3)"})


def targets() -> list[Target]:
    """All that is fuzzed, the functions over two and three axes too."""
    chain = "konvlib.compose_chain([($weight, $stride, $dilation, $bias, $groups), (np.ones((2, 4, 3)), 2)])"
    one = {"stride": "2", "dilation": "1"}
    return [
        target("konvlib.convolve", f=_ones(3, 9), g=_ones(4)),
        target("konvlib.correlate", f=_ones(9), g=_ones(2, 4)),
        target("konvlib.correlation_lags", n="5", m="3"),
        target("konvlib.normalized_correlation", f=_ones(2, 9), g=_ones(4)),
        target("konvlib.resample", x=_ones(2, 9), h=_ones(4), up="3", down="2"),
        target("konvlib.convolve_nd", f=_ones(3, 9), g=_ones(2, 4)),
        *(call for axes in (1, 2, 3) for call in _layers(axes)),
        target("konvlib.conv2d_im2col", x=_ones(1, 2, 9, 8), w=_ones(4, 1, 3, 2), bias=_ones(4), groups="2"),
        target("konvlib.dilate", k=_ones(2, 2, 3), step="2"),
        target("konvlib.compose", w1=_ones(4, 2, 3), w2=_ones(2, 4, 2)),
        target("konvlib.factor", k=_ones(4), same="False"),
        Target("konvlib.compose_chain($layers)", {"layers": "[(np.ones((4, 2, 3)), 2), (np.ones((2, 4, 3)),)]"}),
        Target(chain, {"weight": _ones(4, 1, 3), **one, "bias": _ones(4), "groups": "2"}),
        target("konvlib.collapse", model="nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 1, 3))"),
        *_bases(),
        *_sizes(),
    ]


def _bases() -> Iterator[Target]:
    basis = {"basis": "'chebyshev'", "degree": "3"}
    for name in ("values", "derivatives"):
        yield target(f"konvlib.bases.{name}", x=_ones(5), **basis)
    yield target("konvlib.bases.expand", x=_ones(1, 2, 9), groups="2", **basis)
    yield target("konvlib.bases.condition_number", x=_ones(5), **basis)
    yield target("konvlib.bases.coefficients", **basis)
    yield target("konvlib.bases.change_of_basis", source="'legendre'", target="'monomial'", degree="3")
    yield target("konvlib.bases.convert", kappa=_ones(4, 3, 2), source="'legendre'", target="'monomial'")
    yield target("konvlib.bases.get_basis", name="'hermite'")
    yield Target(
        "konvlib.bases.BASES.pop(konvlib.bases.add_basis($name, $recurrence, $domain).name)",
        {"name": "'new'", "recurrence": "(lambda n: (1, 0, 1))", "domain": "(-1, 1)"},
    )
    yield target("konvlib.konvolution.module.moments", **basis)


def _sizes() -> Iterator[Target]:
    one = {"size": "9", "kernel": "3"}
    yield target("geometry.span", kernel="3")
    yield target("geometry.conv_size", **one)
    yield target("geometry.conv_transpose_size", **one)
    yield target("geometry.pool_size", **one)
    yield target("geometry.same_padding", kernel="3", size="9", placement="'tensorflow'")
    yield target("geometry.convolution_window", n="5", m="3", mode="'same'")
    yield target("geometry.correlation_window", n="5", m="3", mode="'same'")
    yield Target("geometry.paddings($padding, kernel_size=(3,), stride=(1,), dilation=(1,))", {"padding": "1"})
    field = {"kernel_size": "3", "stride": "2", "dilation": "1", "padding": "1"}
    yield Target("geometry.receptive_field([($kernel_size, $stride, $dilation, $padding)])", field)
    yield Target("geometry.receptive_field([$layers])", {"layers": "(3, 2, 1, 1)"})


def operators() -> list[Target]:
    """The operators of torch, called by their names, as compiled graphs call them: over one axis.

    What their schemas refuse never comes here, so garbage is of the right types, and wrong all the same.
    """
    x, w, dy, taps = "torch.ones(1, 2, 9)", "torch.ones(4, 1, 3)", "torch.ones(1, 4, 7)", "torch.zeros(1, 2, 4).int()"
    bias, kappa, pooled = "torch.ones(4)", "torch.ones(4, 2, 1, 3)", "torch.ones(1, 2, 4)"
    layer = {"stride": "[1]", "padding": "[0, 0]", "dilation": "[1]", "groups": "2"}
    konv = {"basis": "'chebyshev'", "squash": "'tanh'", "masked": "True", **layer}
    pool = {"kernel": "[3]", "stride": "[2]", "padding": "[0, 0]"}
    dense, mean = {"dilation": "[1]"}, {"counts_padding": "True"}
    rows = {
        "conv": {"x": x, "w": w, "bias": bias, **layer},
        "conv_transpose": {"dy": dy, "w": w, "bias": "None", "input_size": "[9]", **layer},
        "conv_weight_grad": {"x": x, "dy": dy, "kernel_size": "[3]", **layer},
        "konv": {"x": x, "kappa": kappa, "bias": bias, **konv},
        "konv_input_grad": {"dy": dy, "x": x, "kappa": kappa, **konv},
        "konv_kappa_grad": {"x": x, "dy": dy, "degrees": "2", "kernel_size": "[3]", **konv},
        "max_pool": {"x": x, **pool, **dense, "windows": "[4]"},
        "max_pool_scatter": {"dy": pooled, "taps": taps, **pool, **dense, "size": "[9]"},
        "avg_pool": {"x": x, **pool, "windows": "[4]", **mean},
        "avg_pool_scatter": {"dy": pooled, **pool, "size": "[9]", **mean},
        "im2col": {"x": x, **pool, **dense, "windows": "[4]"},
        "col2im": {"cols": "torch.ones(1, 6, 4)", **pool, **dense, "windows": "[4]", "size": "[9]"},
        "convolve_window": {"f": x, "g": x, "start": "0", "length": "17", "summed": "[]", "method": "'auto'"},
    }
    for chapter in ("images", "konvolution", "sequences", "matrices"):
        importlib.import_module(f"konvlib.{chapter}.tensors")
    named = {name: ", ".join(f"${each}" for each in good) for name, good in rows.items()}
    return [Target(f"{OPERATOR}{name}({named[name]})", good) for name, good in rows.items()]


def calls(seed: int, all_targets: Sequence[Target] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Calls without an end, each with the names of the arguments that are garbage; the same for the same seed."""
    choose, all_targets = random.Random(seed), all_targets or targets()
    while True:
        called = choose.choice(all_targets)
        good, tensors = dict(called.good), ".bases." not in called.call and choose.random() < 0.4
        if tensors:
            called = Target(of_tensors(called.call), good)
            good |= {name: of_tensors(value) for name, value in good.items()}
        count = choose.choices((1, 2, 3), (0.75, 0.15, 0.1))[0]
        wrong = choose.sample([*good], min(count, len(good)))
        for name in wrong:
            good[name] = _garbage(choose, good[name], tensors)
        # An operator knows its axes by the lengths of lists only, and cannot tell which of two that differ is wrong.
        yield called.filled(good), [*good] if called.call.startswith(OPERATOR) else wrong


def of_tensors(code: str) -> str:
    return re.sub(r"np\.(ones|zeros)", r"torch.\1", code)


def _garbage(choose: random.Random, good: str, tensors: bool) -> str:
    if good.startswith(("np.ones", "torch.ones")) and choose.random() < 0.6:
        return choose.choice(garbage.TENSORS if good.startswith("torch") else garbage.ARRAYS).replace("@", good)
    return choose.choice(garbage.ANYTHING)


def fault(call: str, wrong: Sequence[str]) -> str | None:
    """What is wrong with how a call ends, or None; calls whose garbage cannot even be made are good."""
    namespace = dict(garbage.NAMESPACE)
    started = time.process_time()
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        eval(call, namespace)
    except (ValueError, TypeError) as error:
        if _is_ours(error) and not any(_names(str(error), name) for name in wrong):
            return f"names none of {', '.join(wrong)}: {_line(error)}"
    except BaseException as error:
        if _is_ours(error) and not (call.startswith(OPERATOR) and "NestedTensor" in str(error)):  # torch's own refusal
            return _line(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - started
    return f"took {took:.1f} s" if took > SECONDS else None


def _is_ours(error: BaseException) -> bool:
    """Whether an error comes from the call, and not from its arguments, which are made before it."""
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, TimeoutError) or any(frame.f_code.co_filename.startswith(HOUSE) for frame, _ in frames)


def _names(message: str, name: str) -> bool:
    if name in OPERANDS and any(re.search(rf"(?<!\w){word}(?!\w)", message) for word in OPERANDS):
        return True
    words = (name, *ALIASES.get(name, ()))
    return any(re.search(rf"(?<!\w){re.escape(word)}", message) for word in words)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS:g} s")


def refused(call: str, **given: Any) -> Exception:
    """The error that a call raises, where names may mean something that is given."""
    try:
        eval(call, garbage.NAMESPACE | given)
    except (TypeError, ValueError) as error:
        return error
    raise AssertionError(f"{call} is not refused")


def named(holes: Sequence[tuple[Target, str]]) -> list[str]:
    """How pytest names targets and arguments of them."""
    return [f"{called.call.partition('(')[0]}:{name}" for called, name in holes]


def run(
    seed: int,
    all_targets: Sequence[Target],
    *,
    most: int | None = None,
    seconds: float | None = None,
    log: int | None = None,
) -> tuple[int, int]:
    """Make so many calls, or calls for so long; return how many were made and how many were wrong."""
    warnings.simplefilter("ignore")
    memory.machine_memory = lambda: MEMORY
    end, faults = time.monotonic() + (seconds or 1e9), set()
    for called in all_targets:  # also so that what is made at the first call is not counted
        eval(called.filled(called.good), dict(garbage.NAMESPACE))
    for made, (call, wrong) in enumerate(calls(seed, all_targets)):
        if made == most or time.monotonic() > end:
            return made, len(faults)
        if log is not None:
            os.pwrite(log, f"{call}\n".encode().ljust(2000), 0)
        found = fault(call, wrong)
        if found is not None and call not in faults:
            faults.add(call)
            print(f"{call}  # {found}", flush=True)
    raise AssertionError("calls have no end")


def main() -> None:
    parser = argparse.ArgumentParser(description="Call everything with garbage.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--calls", type=int)
    parser.add_argument("--operators", action="store_true", help="the operators of torch, called by their names")
    parser.add_argument("--log", help="a file for the call that is being made, for when it kills the process")
    given = parser.parse_args()
    torch.manual_seed(0)
    log = None if given.log is None else os.open(given.log, os.O_CREAT | os.O_WRONLY)
    most = given.calls if given.calls or given.seconds else 10000
    chosen = operators() if given.operators else targets()
    made, wrong = run(given.seed, chosen, most=most, seconds=given.seconds, log=log)
    print(f"{made} calls with seed {given.seed}, {wrong} of them wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
