"""What is known of every kernel without a device, compiled for Hopper: ``benchmarks/results/sm_90-offline.json``.

``python -m benchmarks.offline`` compiles the kernels of tests/kernels/offline with each of their tiles and writes how
many instructions the main loop has (for 128 by 128 by 64 products too, where there are any), registers, spilled bytes,
shared memory, waits, the widths of the accesses to memory, and what calls launch. Rows whose sources are as they were
are not compiled again; a run that was stopped goes on where it was. What became worse than it was is printed.
"""

from __future__ import annotations

import argparse
import importlib.util


def main() -> int:
    if importlib.util.find_spec("triton") is None:
        print("offline: triton is not installed, nothing compiled")
        return 0
    from tests.kernels.offline import table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1, help="how many compilers run side by side")
    count, worse = table.update(processes=parser.parse_args().processes)
    print("\n".join(["worse than before:", *worse] if worse else []))
    print(f"{count} rows compiled, {len(table.read()['rows'])} in benchmarks/results/{table.PATH.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
