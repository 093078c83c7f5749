"""Compile Triton kernels for a GPU that is not there, and read what the compiler says about them.

``python -m tests.kernels.offline.compiling`` reads kernels as JSON from standard input and writes their figures as
JSON. It is a program of its own because Triton decides at import whether kernels are interpreted, which is what the
tests need, or compiled.
`figures` runs it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HOPPER = 90
SHARED_MEMORY = 227 * 1024
"""The most shared memory that a program can have on an H100, in bytes."""

DRAIN = re.compile(r"(?:wgmma|cp\.async)\.wait_group(?:\.sync\.aligned)?\s+0;")
"""Waiting until nothing is under way, matrix products or copies."""

WAIT = re.compile(r"(?:wgmma|cp\.async)\.wait_group")
COPY = re.compile(r"cp\.async\.c[ag]\.")
PRODUCT = re.compile(r"wgmma\.mma_async|mma\.sync|fma\.rn\.f64")
ACCESS = re.compile(r"(ld|st)\.global[\w.:]*?\.(?:v(\d)\.)?b(\d+)")
COPIED = re.compile(r"cp\.async\.c[ag]\.shared\.global \[[^]]*\], \[[^]]*\], (\w+)")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/")


@dataclass(frozen=True)
class Row:
    """A kernel and one way to call it.

    ``types`` gives the type of each argument by name: a pointer (``*fp32``), a tensor that boxes are copied of, an
    integer (``i32``, ``i64``), or 1 for an integer that is specialised to one. ``constants`` are its constexprs;
    ``"fp32"`` stands for ``tl.float32``. Without types ``kernel`` is a function that returns a Gluon kernel and the
    arguments of a launch. With ``only_widths`` the PTX is read and not assembled.
    """

    name: str
    module: str
    kernel: str
    types: dict[str, str | int]
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3
    aligned: tuple[str, ...] = field(default=())
    only_widths: bool = False


def figures(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Return the figures of each row by its name: registers, spilled bytes, shared memory, and the PTX's own."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "tests.kernels.offline.compiling"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        input=json.dumps([asdict(row) for row in rows]),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compiled(row: Row) -> dict[str, Any]:
    """Compile one row for Hopper and assemble its PTX once more, for the assembler's report."""
    binary = _compiled_kernel(row) if row.types else _compiled_launch(row)
    ptx = binary.asm["ptx"]
    widths = widths_of(ptx)
    return (
        widths
        if row.only_widths
        else {**widths, "shared": binary.metadata.shared, "warps": row.warps, **_assembled(ptx)}
    )


def widths_of(ptx: str) -> dict[str, list[int]]:
    """How many bytes a thread reads and writes at a time in global memory; boxes are not counted.

    Examples
    --------
    >>> widths_of("ld.global.v4.b32 {}, [%r1]; cp.async.cg.shared.global [%r1], [%r2], 0x8; st.global.b16 [%r1], %r2;")
    {'loads': [8, 16], 'stores': [2]}
    """
    widths = {"ld": {int(width, 0) for width in COPIED.findall(ptx)}, "st": set()}
    for kind, many, bits in ACCESS.findall(ptx):
        widths[kind].add(int(many or 1) * int(bits) // 8)
    return {"loads": sorted(widths["ld"]), "stores": sorted(widths["st"])}


def _compiled_launch(row: Row) -> Any:
    """What a launch would compile: as Triton's launcher does, without a device."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.experimental.gluon._runtime import GluonASTSource
    from triton.runtime.jit import create_function_from_signature

    kernel, arguments = getattr(importlib.import_module(row.module), row.kernel)(**row.constants)
    target = GPUTarget("cuda", HOPPER, 32)
    backend = make_backend(target)
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    mode = triton.knobs.compilation.instrumentation_mode
    arguments = {**arguments, "debug": False, "instrumentation_mode": mode}
    bound, specialised, options = binder(**arguments)
    options, signature, constants, attributes = kernel._pack_args(backend, arguments, bound, specialised, options)
    source = GluonASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=options.__dict__)


def _compiled_kernel(row: Row) -> Any:
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.experimental.gluon._runtime import GluonASTSource

    named = {"fp32": tl.float32, "fp64": tl.float64}
    kernel = getattr(importlib.import_module(row.module), row.kernel)
    position = {name: (index,) for index, name in enumerate(kernel.arg_names)}
    constants = {
        name: named.get(value, value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        for name, value in row.constants.items()  # JSON has no tuples
    }
    constants |= {name: 1 for name, kind in row.types.items() if kind == 1}
    signature = {name: "constexpr" if name in constants else row.types[name] for name in kernel.arg_names}
    pointers = [name for name, kind in row.types.items() if str(kind).startswith("*")]
    attributes = {position[name]: [["tt.divisibility", 16]] for name in (*pointers, *row.aligned)}
    make = GluonASTSource if kernel.is_gluon() else ASTSource
    source = make(kernel, signature, {position[name]: value for name, value in constants.items()}, attributes)
    options = {"num_warps": row.warps, "num_stages": row.stages}
    return triton.compile(source, target=GPUTarget("cuda", HOPPER, 32), options=options)


def _assembled(ptx: str) -> dict[str, Any]:
    from triton.knobs import nvidia

    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)[1]
        command = [nvidia.ptxas.path, "-v", f"-arch={target}", str(source), "-o", str(binary)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        command = [nvidia.nvdisasm.path, "-c", str(binary)]
        sass = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return {
        "registers": int(re.search(r"Used (\d+) registers", report)[1]),
        "stack": int(spills[1]),
        "spilled": int(spills[2]) + int(spills[3]),
        "tensor_core": "wgmma" in ptx or "mma.sync" in ptx,
        "asynchronous": "wgmma.mma_async" in ptx and "cp.async" in ptx,
        "drains": sum(len(DRAIN.findall(loop)) for loop in _loops(ptx)),
        **_counted(ptx, sass),
    }


def _counted(ptx: str, sass: str) -> dict[str, int]:
    """What the main loop, the longest of the innermost, is made of; all zero where there is none."""
    loop = max(_loops(ptx), key=len, default="")
    machine = max(_machine_loops(sass), key=len, default=[])
    return {
        "products": len(PRODUCT.findall(loop)),
        "copies": len(COPY.findall(loop)),
        "waits": len(WAIT.findall(loop)),
        "instructions": len(machine),
        "all_instructions": sum(bool(INSTRUCTION.search(line)) for line in sass.splitlines()),
    }


def _machine_loops(sass: str) -> list[list[str]]:
    """The innermost loops of what the assembler made: lists of instructions."""
    labels, branches, lines = {}, [], []
    for line in sass.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            labels[label[1]] = len(lines)
        elif INSTRUCTION.search(line):
            lines.append(line)
            if target := re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line):
                branches.append((target[1], len(lines)))
    spans = {(labels[name], end) for name, end in branches if name in labels and labels[name] < end - 1}
    inner = [span for span in spans if not any(span != s and span[0] <= s[0] and s[1] <= span[1] for s in spans)]
    return [lines[begin:end] for begin, end in inner]


def _loops(ptx: str) -> list[str]:
    """The innermost loops: from each label to a later branch back to it, without the loops that hold others."""
    labels = {match[1]: match.start() for match in re.finditer(r"^(\$L__\w+):", ptx, re.MULTILINE)}
    branches = [(labels[match[1]], match.end()) for match in re.finditer(r"bra(?:\.uni)?\s+(\$L__\w+);", ptx)]
    spans = [(begin, end) for begin, end in branches if begin < end]
    inner = [span for span in spans if not any(span != s and span[0] <= s[0] and s[1] <= span[1] for s in spans)]
    return [ptx[begin:end] for begin, end in inner]


if __name__ == "__main__":
    wanted = [Row(**row) for row in json.load(sys.stdin)]
    print(json.dumps({row.name: compiled(row) for row in wanted}))
