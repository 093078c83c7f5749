"""Train a small Konvolution network on scikit-learn's handwritten digits, and plain convolutions beside it.

Three trainings, on the same half of the 1797 pictures of 8 by 8 pixels; the other half is the test. The plain network
has about as many parameters, in wider layers, and ReLU between them. It is trained once for as many epochs, and once
for as many seconds as the Konvolution network took, in which it goes through the pictures more often.

    python examples/digits.py
    torchrun --nproc_per_node=2 examples/digits.py

Learning rate and weight decay are the same for both networks: of the few that were tried, on a part of the training
half that was held out for it, they left the least loss to each. One picture is 0.11 % of the test, and one seed is one
draw: networks that differ by less than 1 % are not told apart.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from konvlib.konvolution.module import Konv2d

RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
BATCH, WIDTH, LEARNING_RATE, WEIGHT_DECAY = 64, 8, 1e-2, 1.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, help="how often to go through the pictures (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the first coefficients and the batches")
    parser.add_argument("--degree", type=int, default=3, help="of the polynomials (default 3)")
    parser.add_argument("--basis", default="chebyshev", help="of the polynomials (default chebyshev)")
    return parser.parse_args()


def start() -> torch.device:
    """Join the other processes, if there are any, and choose this one's device."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    # For pictures this small, threads wait for each other longer than they work; processes do not.
    torch.set_num_threads(1)
    if PROCESSES > 1:
        distributed.init_process_group("nccl" if cuda else "gloo")
    return device


def load(seed: int, device: torch.device) -> list[torch.Tensor]:
    """Return pictures to train on and to test on, then their digits; each digit is as frequent in both halves."""
    digits = load_digits()
    pictures = torch.from_numpy(digits.images).float()[:, None]
    labels = torch.from_numpy(digits.target).long()
    chosen, held_out = train_test_split(torch.arange(len(labels)), test_size=0.5, stratify=labels, random_state=seed)
    # The test has no part in the scale.
    pictures = (pictures - pictures[chosen].mean()) / pictures[chosen].std()
    return [tensor[half].to(device) for tensor in (pictures, labels) for half in (chosen, held_out)]


def konvolution(width: int, **polynomials: int | str) -> nn.Sequential:
    """Nothing is needed between layers: each squashes what it gets, and its polynomials are no lines."""
    return nn.Sequential(
        Konv2d(1, width, 3, padding=1, **polynomials),
        Konv2d(width, 2 * width, 3, stride=2, padding=1, **polynomials),
        Konv2d(2 * width, 2 * width, 3, stride=2, padding=1, **polynomials),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def convolution(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * width, 10),
    )


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def equal_width(parameters: int) -> int:
    """Return the width at which the plain network's number of parameters is nearest to that of another."""
    return min(range(1, 100), key=lambda width: abs(count(convolution(width)) - parameters))


def batches(pictures: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Iterator[list[torch.Tensor]]:
    """Go through the pictures once in random order; of each batch, give this process its share.

    A batch is the same however many processes share it, and the last one, if it is not full, is left out.
    """
    order = torch.randperm(len(labels), generator=generator)
    for first in range(0, len(labels) - BATCH + 1, BATCH):
        share = order[first + RANK : first + BATCH : PROCESSES].to(labels.device)
        yield [pictures[share], labels[share]]


def from_first_process(value: float, device: torch.device) -> float:
    """Clocks differ: all processes go by that of the first."""
    if PROCESSES == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.broadcast(tensor, 0)
    return tensor.item()


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def train(name, model, data, seed, *, epochs=math.inf, seconds=math.inf) -> tuple[int, float]:
    """Train until so many epochs or so many seconds have passed; return how many of both it took."""
    pictures, _, labels, _ = data
    device = labels.device
    if PROCESSES > 1:
        model = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    # Once without a step: what is compiled or chosen at a first call is not part of the time.
    functional.cross_entropy(model(pictures[: BATCH // PROCESSES]), labels[: BATCH // PROCESSES]).backward()
    done, begin, progress, elapsed = 0, now(device), 0.0, 0.0
    layout = "{desc:32} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
    bar = tqdm(total=1, desc=name, disable=RANK > 0, bar_format=layout)
    while progress < 1:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * progress)) / 2
        for x, target in batches(pictures, labels, generator):
            loss = functional.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        done, elapsed = done + 1, from_first_process(now(device) - begin, device)
        progress = min(max(done / epochs, elapsed / seconds), 1)
        bar.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
        bar.update(progress - bar.n)
    bar.close()
    return done, elapsed


@torch.no_grad()
def evaluate(model: nn.Module, data: list[torch.Tensor]) -> tuple[float, float]:
    """Return the accuracy, and the mean cross entropy, on the half that was held out."""
    _, pictures, _, labels = data
    scores = model(pictures)
    return (scores.argmax(1) == labels).double().mean().item(), functional.cross_entropy(scores, labels).item()


def main() -> None:
    given = arguments()
    device = start()
    data = load(given.seed, device)

    torch.manual_seed(given.seed)
    ours = konvolution(WIDTH, degree=given.degree, basis=given.basis).to(device)
    width = equal_width(count(ours))
    torch.manual_seed(given.seed)
    plain = convolution(width).to(device)
    torch.manual_seed(given.seed)
    longer = convolution(width).to(device)

    rows = []
    name = f"Konvolution, degree {given.degree}"
    epochs, seconds = train(name, ours, data, given.seed, epochs=given.epochs)
    rows.append((name, ours, epochs, seconds))
    name = "convolution, equal parameters"
    rows.append((name, plain, *train(name, plain, data, given.seed, epochs=given.epochs)))
    name = "convolution, equal time"
    rows.append((name, longer, *train(name, longer, data, given.seed, seconds=seconds)))

    if RANK == 0:
        print(f"\n{given.basis}, seed {given.seed}, {PROCESSES} process(es) on {device.type}")
        print(f"{'network':32}{'parameters':>12}{'epochs':>8}{'seconds':>9}{'test accuracy':>15}{'test loss':>11}")
        for name, model, epochs, seconds in rows:
            accuracy, loss = evaluate(model, data)
            print(f"{name:32}{count(model):12}{epochs:8}{seconds:9.2f}{accuracy:15.2%}{loss:11.4f}")
    if PROCESSES > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
