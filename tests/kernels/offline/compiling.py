"""Compile Triton kernels for a GPU that is not there, and read what the compiler says about them.

``python -m tests.kernels.offline.compiling figures`` reads kernels as JSON from standard input and writes their figures
as JSON; with ``keys`` it writes what tells one source from another. It is a program of its own because Triton decides
at import whether kernels are interpreted, which is what the tests need, or compiled. `figures` and `keys` run it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from math import prod
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
BOX = re.compile(r"cp\.async\.bulk\.tensor")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/")
STATEMENT = re.compile(r"^\s*(?:@!?%\w+\s+)?[a-z][\w.:]*\s[^;]*;", re.MULTILINE)
STEP = 128 * 128 * 64
"""The products of a step in which main loops of all tiles are compared; eight warps share them."""

MULTIPLY = re.compile(r"\b(HGMMA\.|DMMA\.|HMMA\.|wgmma\.mma_async.*?\.m|mma\.sync.*?\.m)(\d+)(?:[xn](\d+)[xk](\d+))?")
"""Instructions that make so many rows by columns by steps of products, of SASS and of PTX."""


@dataclass(frozen=True)
class Row:
    """A kernel and one way to call it.

    ``types`` gives the type of each argument by name: a pointer (``*fp32``), a tensor that boxes are copied of, an
    integer (``i32``, ``i64``), or 1 for an integer that is specialised to one. ``constants`` are its constexprs;
    ``"fp32"`` stands for ``tl.float32``. Without types ``kernel`` is a function that returns a Gluon kernel and the
    arguments of a launch.
    """

    name: str
    module: str
    kernel: str
    types: dict[str, str | int]
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3
    aligned: tuple[str, ...] = field(default=())


def figures(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Return the figures of each row by its name: registers, spilled bytes, shared memory, and the PTX's own."""
    return _asked("figures", rows)


def keys(rows: list[Row]) -> dict[str, str]:
    """Return by a row's name what changes with the source of its kernel, with its constants and with the compiler."""
    return _asked("keys", rows)


def _asked(what: str, rows: list[Row]) -> dict[str, Any]:
    if not rows:
        return {}
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-m", "tests.kernels.offline.compiling", what]
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
    import triton

    source, options = _source_of(row)
    binary = triton.compile(source, target=_target(), options=options)
    ptx = binary.asm["ptx"]
    return {"shared": binary.metadata.shared, "warps": row.warps, **widths_of(ptx), **_assembled(ptx)}


def key_of(row: Row) -> str:
    """What changes with a kernel's source, those it calls, its constants, the compiler, and what is read of a result.

    Where in its file a kernel begins is left out, and where the compiler's libraries lie.
    """
    import triton

    _leave_out_places()
    source, options = _source_of(row)
    options = {name: value for name, value in options.items() if name != "extern_libs"}
    reader = ast.dump(ast.parse(Path(__file__).read_text(encoding="utf-8")))
    parts = (triton.__version__, reader, source.hash(), json.dumps(options, sort_keys=True, default=str))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _leave_out_places() -> None:
    from triton.runtime.jit import JITCallable

    JITCallable.starting_line_number = Nowhere()


class Nowhere:
    """The first line of every kernel: 0."""

    def __get__(self, *_: Any) -> int:
        return 0

    def __set__(self, *_: Any) -> None: ...


def _target() -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", HOPPER, 32)


def _source_of(row: Row) -> tuple[Any, dict[str, Any]]:
    return _source_of_types(row) if row.types else _source_of_launch(row)


def _source_of_launch(row: Row) -> tuple[Any, dict[str, Any]]:
    """What a launch would compile: as Triton's launcher does, without a device."""
    import triton
    from triton.compiler import make_backend
    from triton.experimental.gluon._runtime import GluonASTSource
    from triton.runtime.jit import create_function_from_signature

    kernel, arguments = getattr(importlib.import_module(row.module), row.kernel)(**row.constants)
    backend = make_backend(_target())
    binder = create_function_from_signature(kernel.signature, kernel.params, backend)
    mode = triton.knobs.compilation.instrumentation_mode
    arguments = {**arguments, "debug": False, "instrumentation_mode": mode}
    bound, specialised, options = binder(**arguments)
    options, signature, constants, attributes = kernel._pack_args(backend, arguments, bound, specialised, options)
    return GluonASTSource(kernel, signature, constants, attributes), options.__dict__


def _source_of_types(row: Row) -> tuple[Any, dict[str, Any]]:
    import triton.language as tl
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
    return source, {"num_warps": row.warps, "num_stages": row.stages}


def _assembled(ptx: str) -> dict[str, Any]:
    from triton.knobs import nvidia

    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)[1]
        command = [nvidia.ptxas.path, "-v", f"-arch={target}", str(source), "-o", str(binary)]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        sass = _disassembled(binary)
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


def _disassembled(binary: Path) -> str:
    """The machine's instructions; none where Triton came without a disassembler."""
    from triton.knobs import nvidia

    try:
        command = [nvidia.nvdisasm.path, "-c", str(binary)]
    except RuntimeError:
        return ""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def widths_of(ptx: str) -> dict[str, Any]:
    """How many accesses to global memory a thread makes of each width in bytes, and how many boxes are copied.

    Widths are written in digits, since JSON has no other names.

    Examples
    --------
    >>> widths_of("ld.global.v4.b32 {}, [%r1]; cp.async.cg.shared.global [%r1], [%r2], 0x8; st.global.b16 [%r1], %r2;")
    {'loads': {'8': 1, '16': 1}, 'stores': {'2': 1}, 'boxes': 0}
    """
    widths = {"ld": [int(width, 0) for width in COPIED.findall(ptx)], "st": []}
    for kind, many, bits in ACCESS.findall(ptx):
        widths[kind].append(int(many or 1) * int(bits) // 8)
    loads, stores = ({str(n): count for n, count in sorted(Counter(found).items())} for found in widths.values())
    return {"loads": loads, "stores": stores, "boxes": len(BOX.findall(ptx))}


def _counted(ptx: str, sass: str) -> dict[str, Any]:
    """What the main loop, the longest of the innermost, is made of; all zero where there is none.

    ``listing`` says what the instructions are counted in: SASS, or PTX where there is no disassembler.
    Of a loop with matrix products, ``per_step`` is how many instructions each of eight warps has for 128 by 128 by 64.
    """
    loop = max(_loops(ptx), key=len, default="")
    machine = max(_machine_loops(sass), key=len, default=[]) if sass else STATEMENT.findall(loop)
    made = sum(map(_products_of, machine))
    return {
        "products": len(PRODUCT.findall(loop)),
        "copies": len(COPY.findall(loop)),
        "waits": len(WAIT.findall(loop)),
        "listing": "SASS" if sass else "PTX",
        "instructions": len(machine),
        "per_step": round(len(machine) * STEP / (8 * made), 1) if made else None,
        "all_instructions": len((INSTRUCTION if sass else STATEMENT).findall(sass or ptx)),
    }


def _products_of(instruction: str) -> int:
    """How many products an instruction makes for each warp: four warps share one of Hopper's, 64 rows high.

    Examples
    --------
    >>> _products_of("HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8]") == 64 * 128 * 16 // 4
    True
    >>> _products_of("HMMA.1688.F32.TF32 R4, R8, R12, R4") == 16 * 8 * 8
    True
    >>> _products_of("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%f1") == 64 * 128 * 16 // 4
    True
    """
    found = MULTIPLY.search(instruction)
    if found is None:
        return 0
    kind, first, *others = found.groups()
    sizes = (16, 8, int(first[3:])) if others[0] is None else (int(first), *map(int, others))  # HMMA.16816
    return prod(sizes) // (4 if "HGMMA" in kind or "wgmma" in kind else 1)


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
    ask = {"figures": compiled, "keys": key_of}[sys.argv[1]]
    print(json.dumps({row.name: ask(row) for row in wanted}))
