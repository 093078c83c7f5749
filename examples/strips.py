"""A Konvolution network that learns to sharpen one large image, each process on a strip of it.

    torchrun --nproc_per_node=2 examples/strips.py --size 512 --steps 20

No process holds the image: each makes its own strip, and layers exchange what windows see of neighbouring strips.
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist

import konvlib
from konvlib.scale import strips


def main() -> None:
    """Train, and tell the loss of the whole image as it falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    bounds = [given.size * part // world for part in range(world + 1)]
    rows = torch.arange(bounds[rank], bounds[rank + 1]).reshape(1, 1, -1, 1)
    sharp = torch.sin(rows / 3) * torch.cos(torch.arange(given.size) / 4)
    box = torch.nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect", bias=False)
    torch.nn.init.constant_(box.weight, 1 / 25)
    with torch.no_grad():
        blurred, _ = strips(box, sharp, bounds)
    torch.manual_seed(0)  # the same parameters on every rank
    layers = [konvlib.Konv2d(1, 4, 5, padding=2), konvlib.Konv2d(4, 1, 5, padding=2)]
    optimizer = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=0.003)
    for step in range(given.steps):
        y, at = blurred, bounds
        for layer in layers:
            y, at = strips(layer, y, at)
        loss = (y - sharp).square().sum() / given.size**2
        optimizer.zero_grad()
        loss.backward()  # parameters receive the sums over all strips
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        if rank == 0:
            print(f"step {step + 1} of {given.steps}: loss {total.item():.4f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
