"""What `examples/digits.py` reaches with several seeds, as a record that chapter 7 prints.

``python -m benchmarks.digits`` trains the three networks of the example for each seed and writes parameters, epochs,
seconds, test accuracy and test loss of each into ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import harness

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits.py"
COLUMNS = ("parameters", "epochs", "seconds", "accuracy", "loss")
NETWORK = re.compile(r"^((?:Konvolution|convolution), .+?) {2,}([\d. %]+)$", re.M)


def train(seed: int) -> dict[str, dict[str, float]]:
    """The example's table for one seed: by network, its columns."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--seed", str(seed)], stdout=subprocess.PIPE, text=True, check=True
    )
    tables = {
        name: dict(zip(COLUMNS, map(float, re.findall(r"[\d.]+", numbers)), strict=True))
        for name, numbers in NETWORK.findall(done.stdout)
    }
    if len(tables) != 3:
        raise RuntimeError(f"the example printed no table of three networks:\n{done.stdout}")
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    seeds = list(range(parser.parse_args().seeds))
    facts: dict[str, Any] = harness.facts("cuda" if torch.cuda.is_available() else "cpu")
    runs = [{"seed": seed, "networks": train(seed)} for seed in tqdm(seeds, desc="seeds")]
    path = harness.RESULTS / f"{harness.slug(facts['device'])}-digits.json"
    path.write_text(json.dumps({"example": "digits", **facts, "runs": runs}, indent=1) + "\n", encoding="utf-8")
    for run in runs:
        print(run["seed"], {name: columns["accuracy"] for name, columns in run["networks"].items()})
    print(f"record: {path.name}")


if __name__ == "__main__":
    main()
