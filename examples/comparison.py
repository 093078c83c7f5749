"""Compare Konvolution with convolution on several tasks, both tuned alike, with several seeds, and write a record.

    digits     scikit-learn's handwritten digits: which of ten
    light      from the values that a camera stores to blurred light: a sum of curves of single pixels
    one layer  the same, by a single Konvolution of 5 by 5 taps without squash
    edges      the length of Sobel's gradient: pixels meet in squares and in a root
    blur       a weighted mean of 25 pixels: linear, so that curves are of no use

All but the first are learned from tiles of one photograph. Both sides have two layers, but for "one layer"; the plain
one has ReLU in between, and the width at which it has as many parameters. For each side and task, learning rate and
weight decay are those of one grid that leave the least loss on held-out data, with seeds that are not used again. Then,
for each seed: Konvolution, the plain network with as many steps, and the plain network with as many steps as fit into
the same time. For that the steps of both are timed in alternation, and the quickest of each counts.

    python examples/comparison.py --record notebooks/data/konvolution_comparison.json
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import matplotlib as mpl
import numpy as np
import sklearn
import torch
from matplotlib import pyplot as plt
from scipy.signal import correlate2d
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from konvlib.konvolution import Konv2d

TASKS = ("digits", "light", "one layer", "edges", "blur")
SIDES = ("Konvolution", "plain, equal parameters", "plain, equal time")
LEARNING_RATES, WEIGHT_DECAYS = (3e-3, 1e-2, 3e-2), (0.0, 1.0)
BATCH, TILE, WIDTH, DEGREE = 32, 14, 8, 3
PHOTOGRAPH = Path(__file__).parents[1] / "notebooks" / "data" / "grace_hopper.png"
SHARES = {"training": 0.5, "held out": 0.2, "test": 0.3}

Data = dict[str, tuple[torch.Tensor, torch.Tensor]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="which (default all)")
    parser.add_argument("--steps", type=int, default=500, help="of Konvolution and of equal parameters (default 500)")
    parser.add_argument("--seeds", type=int, default=5, help="of split, first weights and order (default 5)")
    parser.add_argument("--tuning-seeds", type=int, default=2, help="other ones, for the grid (default 2)")
    parser.add_argument("--record", type=Path, help="a JSON file for the results")
    return parser.parse_args()


def filtered(name: str, stored: np.ndarray) -> np.ndarray:
    """What the layers are to compute from a tile: two pixels less on each side."""
    line = np.array([1, 2, 3, 2, 1]) / 9
    sobel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    if name == "edges":
        across, down = (correlate2d(stored, kernel, "valid")[1:-1, 1:-1] for kernel in (sobel, sobel.T))
        return np.hypot(across, down)
    return correlate2d(stored if name == "blur" else stored**2.2, np.outer(line, line), "valid")


@cache
def load(name: str, seed: int) -> Data:
    """Return inputs and targets of the three parts; the training part alone decides the scales."""
    if name == "digits":
        digits = load_digits()
        inputs, targets = digits.images, digits.target
    else:
        grey = plt.imread(PHOTOGRAPH)[::2, ::2, :3].mean(axis=2)
        rows, columns = (length // TILE for length in grey.shape)
        inputs = grey[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE)
        inputs = inputs.swapaxes(1, 2).reshape(-1, TILE, TILE)
        targets = np.array([filtered(name, tile) for tile in inputs])
    order = np.random.default_rng(seed).permutation(len(inputs))
    ends = np.cumsum([round(share * len(order)) for share in SHARES.values()])[:-1]
    parts = dict(zip(SHARES, np.split(order, ends), strict=True))
    seen = parts["training"]
    inputs = (inputs - inputs[seen].mean()) / inputs[seen].std()
    if name != "digits":
        targets = ((targets - targets[seen].mean()) / targets[seen].std())[:, None]
    x = torch.tensor(inputs, dtype=torch.float32)[:, None]
    wanted = torch.tensor(targets, dtype=torch.long if name == "digits" else torch.float32)
    return {part: (x[pick], wanted[pick]) for part, pick in parts.items()}


def network(name: str, layer: Callable[..., nn.Module], width: int, between: list[nn.Module]) -> nn.Sequential:
    if name == "digits":
        options = {"stride": 2, "padding": 1}
        features = [layer(1, width, 3, **options), *between, layer(width, 2 * width, 3, **options), *between]
        return nn.Sequential(*features, nn.Flatten(), nn.Linear(8 * width, 10))
    return nn.Sequential(layer(1, width, 3), *between, layer(width, 1, 3))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def makers(name: str) -> dict[str, Callable[[], nn.Sequential]]:
    """Return the two sides, the plain one as wide as the other one's parameters allow."""

    def ours() -> nn.Sequential:
        if name == "one layer":
            return nn.Sequential(Konv2d(1, 1, 5, degree=DEGREE, squash="none"))
        return network(name, lambda *a, **o: Konv2d(*a, degree=DEGREE, **o), WIDTH, [])

    def plain(width: int) -> nn.Sequential:
        return network(name, nn.Conv2d, width, [nn.ReLU()])

    target = count(ours())
    width = min(range(1, 100), key=lambda width: abs(count(plain(width)) - target))
    return {"Konvolution": ours, "plain": lambda: plain(width)}


def loss_of(name: str, model: nn.Module, x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross entropy, or the mean square error as a share of the target's variance."""
    return (functional.cross_entropy if name == "digits" else functional.mse_loss)(model(x), wanted)


def step(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, wanted: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss_of(name, model, x, wanted).backward()
    optimizer.step()


def train(
    name: str, make: Callable[[], nn.Module], data: Data, seed: int, steps: int, chosen: list[float]
) -> nn.Module:
    """Return the network after so many steps of AdamW, the learning rate along half a cosine."""
    torch.manual_seed(seed)
    model, (x, wanted) = make(), data["training"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=chosen[0], weight_decay=chosen[1])
    for done in range(steps):
        optimizer.param_groups[0]["lr"] = chosen[0] * (1 + math.cos(math.pi * done / steps)) / 2
        pick = torch.randint(len(x), (BATCH,))
        step(name, model, optimizer, x[pick], wanted[pick])
    return model


@torch.no_grad()
def score(name: str, model: nn.Module, data: Data, part: str) -> dict[str, float]:
    x, wanted = data[part]
    found = {"loss": loss_of(name, model, x, wanted).item()}
    if name == "digits":
        found["accuracy"] = (model(x).argmax(1) == wanted).double().mean().item()
    return found


def time_ratio(name: str, sides: dict[str, Callable[[], nn.Module]], data: Data, rounds: int = 300) -> float:
    """How many plain steps fit into one of Konvolution: the quickest of each, one measured right after the other."""
    x, wanted = (tensor[:BATCH] for tensor in data["training"])
    models = [make() for make in sides.values()]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.0) for model in models]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for model, optimizer, times in zip(models, optimizers, seconds, strict=True):
            begin = time.perf_counter()
            step(name, model, optimizer, x, wanted)
            times.append(time.perf_counter() - begin)
    return min(seconds[0]) / min(seconds[1])


def compare(name: str, given: argparse.Namespace, bar: tqdm) -> dict:
    """Tune both sides of a task, then train and test them."""
    sides, grid, tuned = makers(name), list(product(LEARNING_RATES, WEIGHT_DECAYS)), {}
    for side, make in sides.items():
        losses = {}
        for chosen in grid:
            found = []
            for seed in range(1000, 1000 + given.tuning_seeds):
                data = load(name, seed)
                found.append(score(name, train(name, make, data, seed, given.steps, chosen), data, "held out")["loss"])
                bar.update()
            losses[chosen] = mean(found)
        tuned[side] = min(losses, key=losses.get)
    ratio = time_ratio(name, sides, load(name, 0))
    steps_of = (given.steps, given.steps, max(1, round(ratio * given.steps)))
    plan = zip(SIDES, ("Konvolution", "plain", "plain"), steps_of, strict=True)
    rows = {}
    for row, side, steps in plan:
        runs = []
        for seed in range(given.seeds):
            data = load(name, seed)
            runs.append(score(name, train(name, sides[side], data, seed, steps, tuned[side]), data, "test"))
            bar.update()
        rows[row] = {"parameters": count(sides[side]()), "steps": steps, "tuned": tuned[side], "runs": runs}
    return {"time ratio": ratio, "rows": rows}


def spread(runs: list[dict[str, float]], key: str) -> str:
    values = [run[key] for run in runs]
    return f"{mean(values):.4f} ± {stdev(values) if len(values) > 1 else 0:.4f}"


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    trainings = 2 * len(LEARNING_RATES) * len(WEIGHT_DECAYS) * given.tuning_seeds + len(SIDES) * given.seeds
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    versions |= {"scikit-learn": sklearn.__version__, "matplotlib": mpl.__version__}
    settings = {
        "steps": given.steps,
        "batch": BATCH,
        "degree": DEGREE,
        "width": WIDTH,
        "tuning seeds": given.tuning_seeds,
    }
    settings |= {"learning rates": LEARNING_RATES, "weight decays": WEIGHT_DECAYS}
    record = {"date": date.today().isoformat(), "versions": versions, "settings": settings, "tasks": {}}
    with tqdm(total=trainings * len(given.tasks), unit="training") as bar:
        for name in given.tasks:
            bar.set_description(name)
            record["tasks"][name] = compare(name, given, bar)
    for name, task in record["tasks"].items():
        print(f"\n{name}: one step of Konvolution takes {task['time ratio']:.2f} of the plain network's")
        for row, found in task["rows"].items():
            keys = found["runs"][0]
            text = ", ".join(f"{key} {spread(found['runs'], key)}" for key in keys)
            print(f"{row:25}{found['parameters']:6} parameters, {found['steps']:5} steps: {text}")
    if given.record:
        given.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
