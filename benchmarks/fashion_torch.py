"""Fashion-MNIST's CNN in PyTorch: what `chainrule train fashion-mnist --model cnn` does.

The same files, sizes, batches, optimizer, schedule, measurements and results on disk, written as
someone who wants speed writes it on a CPU: pictures stay uint8 until they are in a batch, batches
are gathered by index (no DataLoader), losses are read once an epoch, Adam is the fused one.
`python -m benchmarks.fashion_torch --folder FOLDER --out FOLDER` writes metrics and weights, and
prints a line of JSON.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
CLASSES, HELD_OUT, BATCH, MEASURED, RATE = 10, 5_000, 128, 256, 2e-3
Part = tuple[Tensor, Tensor]


def read(folder: Path) -> tuple[Part, Part]:
    """((pictures, labels) to learn from, (pictures, labels) to test with); pictures uint8."""
    found: list[Tensor] = []
    for name in FILES:
        plain = folder / f"{name}-ubyte"
        packed = folder / f"{name}-ubyte.gz"
        content = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
        if "images" in name:
            found.append(torch.tensor(np.frombuffer(content, np.uint8, offset=16)))
            found[-1] = found[-1].view(-1, 1, 28, 28)
        else:
            found.append(torch.tensor(np.frombuffer(content, np.uint8, offset=8).astype(np.int64)))
    x, y, test_x, test_y = found
    return (x, y), (test_x, test_y)


def network() -> nn.Sequential:
    """conv 3×3×16, pool, conv 3×3×32, pool, 128, 10: He normal, biases 0."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 32, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.kaiming_normal_(p, nonlinearity="relu")
        else:
            nn.init.zeros_(p)
    return model


def pixels(x: Tensor) -> Tensor:
    """uint8 pictures as float32 from 0 to 1."""
    return x.to(torch.float32).mul_(1 / 255)


def evaluate(model: nn.Module, part: Part) -> tuple[float, float]:
    """The mean loss and the accuracy on a part."""
    total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    with torch.inference_mode():
        for x, y in zip(part[0].split(MEASURED), part[1].split(MEASURED), strict=True):
            scores = model(pixels(x))
            total += F.cross_entropy(scores, y, reduction="sum")
            right += (scores.argmax(1) == y).sum()
    return float(total) / len(part[1]), float(right) / len(part[1])


def main() -> None:
    """Train, test, write what was learned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)
    (every, labels), test = read(given.folder)
    order = torch.randperm(len(every))
    held_out = every[order[:HELD_OUT]], labels[order[:HELD_OUT]]
    x, y = every[order[HELD_OUT:]], labels[order[HELD_OUT:]]
    model = network()
    if given.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    updates, done = given.epochs * math.ceil(len(x) / BATCH), 0
    best, kept, rows = math.inf, copy.deepcopy(model.state_dict()), []
    for epoch in range(1, given.epochs + 1):
        start = time.perf_counter()
        total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for part in torch.randperm(len(x)).split(BATCH):
            optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * done / updates)) / 2
            chosen = y[part]
            scores = model(pixels(x[part]))
            loss = F.cross_entropy(scores, chosen)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(part)
            right += (scores.detach().argmax(1) == chosen).sum()
            done += 1
        measured = evaluate(model, held_out)
        if measured[0] < best:
            best, kept = measured[0], copy.deepcopy(model.state_dict())
        seconds = time.perf_counter() - start
        rows.append((epoch, float(total) / len(x), float(right) / len(x), *measured, seconds))
        (given.out / "metrics.json").write_text(json.dumps(rows))
    model.load_state_dict(kept)
    tested = evaluate(model, test)
    torch.save(model.state_dict(), given.out / "model.pt")
    print(json.dumps({"test_loss": tested[0], "test_score": tested[1], "epochs": rows}))


if __name__ == "__main__":
    main()
