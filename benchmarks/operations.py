"""Digests of the operations that results are made of, as this process computes them: what differs between processors.

Inputs are exact in float32 and made without a library, so that only the operation itself can differ. One JSON object:
operation -> the first digits of the sha256 of its result. Another processor than this one can be emulated; what its
libraries make of the processor's name and of the instructions that give estimates (``rsqrtps``) shows then too.

Example:
    python benchmarks/operations.py --instruction-set portable --out here.json
    qemu-x86_64 -cpu Haswell .venv/bin/python benchmarks/operations.py --instruction-set portable --out haswell.json
    python benchmarks/operations.py --compare here.json haswell.json
    python benchmarks/operations.py --instruction-set avx2 --seconds
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from hardscale.runtime.instruction_set import CHOICES, PORTABLE, settle

_SHAPES = [(32, 32, 32), (640, 32, 96), (33, 128, 304), (512, 56, 224), (64, 512, 64), (1, 32, 2), (7, 13, 5)]
_DIGITS = 12


def values(*shape: int, seed: int = 1) -> Any:
    """Numbers in [-2, 2), exact in float32, from a congruential generator: a numpy array of float32."""
    import numpy as np

    state, found = seed * 2_654_435_761 % 2**32, []
    for _ in range(int(np.prod(shape))):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        found.append(((state >> 8) - 2**23) / 2**22)
    return np.array(found, np.float64).astype(np.float32).reshape(shape)


def digest(*arrays: Any) -> str:
    """Of the bytes of arrays or tensors."""
    import numpy as np
    import torch

    total = hashlib.sha256()
    for array in arrays:
        found = array.detach().contiguous().numpy() if isinstance(array, torch.Tensor) else np.ascontiguousarray(array)
        total.update(found.tobytes())
    return total.hexdigest()[:_DIGITS]


def products() -> Iterator[tuple[str, str]]:
    """Matrix products of PyTorch and numpy, of sizes that small models have."""
    import torch

    def tensor(*shape: int, seed: int = 1) -> Any:
        return torch.from_numpy(values(*shape, seed=seed))

    for m, k, n in _SHAPES:
        yield f"torch {m}x{k} @ {k}x{n}", digest(tensor(m, k) @ tensor(k, n, seed=2))
        yield f"torch {m}x{k} @ ({n}x{k}).T", digest(tensor(m, k) @ tensor(n, k, seed=2).T)
        a, b = values(m, k).astype(float), values(k, n, seed=2).astype(float)
        yield f"numpy {m}x{k} @ {k}x{n}", digest(a @ b)
    yield "torch bmm", digest(torch.bmm(tensor(16, 20, 8), tensor(16, 8, 20, seed=2)))
    yield "torch linear", digest(torch.nn.functional.linear(tensor(8, 20, 32), tensor(96, 32, seed=3)))
    yield "torch solve", digest(torch.linalg.solve(tensor(20, 20) + 5 * torch.eye(20), tensor(20, 3, seed=2)))


def functions() -> Iterator[tuple[str, str]]:
    """Elementwise functions and what a network's layers are made of, forward and backward."""
    import torch
    from torch.nn import functional as F

    from hardscale.attacks.perturb import square_root

    x = torch.from_numpy(values(64, 97))
    for name in ("exp", "erf", "tanh", "sigmoid", "sin", "cos", "expm1", "log", "sqrt", "rsqrt"):
        yield f"torch {name}", digest(getattr(torch, name)(x.abs() + 0.1 if name in ("log", "sqrt", "rsqrt") else x))
    yield "square_root", digest(square_root(x.abs()))
    weight = torch.from_numpy(values(97, seed=5))
    layers = {
        "softmax": lambda y: torch.softmax(y, -1),
        "cross entropy": lambda y: F.cross_entropy(y, torch.arange(64)),
        "gelu": F.gelu,
        "gelu tanh": lambda y: F.gelu(y, approximate="tanh"),
        "silu": F.silu,
        "layer norm": lambda y: F.layer_norm(y, (97,), weight),
        "sum": lambda y: y.sum(0),
        "norm": lambda y: y.norm(dim=-1),
        "attention": lambda y: F.scaled_dot_product_attention(*y[:, :96].unflatten(0, (4, 16)).chunk(3, -1)),
    }
    for name, layer in layers.items():
        y = x.clone().requires_grad_()
        out = layer(y)
        out.square().sum().backward()
        yield f"torch {name}", digest(out)
        yield f"torch {name}, gradient", digest(y.grad)


def optimizers() -> Iterator[tuple[str, str]]:
    """Three steps of every optimizer."""
    import torch

    from hardscale.settings.training import OptimizerSettings
    from hardscale.training.optimizers import build_optimizer

    x = torch.from_numpy(values(64, 97))
    for kind in ("adamw", "adafactor"):
        weight = torch.nn.Parameter(torch.from_numpy(values(64, 97, seed=7)))
        optimizer = build_optimizer([weight], OptimizerSettings(kind=kind, learning_rate=0.01))
        for _ in range(3):
            optimizer.zero_grad()
            (weight * x).tanh().square().sum().backward()
            optimizer.step()
        yield kind, digest(weight)


def clipped_trainings() -> Iterator[tuple[str, str]]:
    """400 steps of the trainings' own engine, all of whose gradients are clipped."""
    import torch

    from hardscale.settings.training import OptimizerSettings
    from hardscale.training.distributed import start_group
    from hardscale.training.engine import Engine
    from hardscale.training.options import RunOptions

    x = torch.from_numpy(values(400, 8, 24))
    with tempfile.TemporaryDirectory() as folder:
        group = start_group(1, Path(folder) / "meeting")
        for limit in (0.3, 1.0):
            layer = torch.nn.Linear(24, 24)
            layer.load_state_dict({"weight": torch.from_numpy(values(24, 24, seed=7)), "bias": torch.zeros(24)})
            settings = OptimizerSettings(kind="adamw", learning_rate=0.01, max_grad_norm=limit)
            options = RunOptions()
            engine = Engine(
                layer, settings, factor=lambda _: 1.0, batch_size=1, group=group, options=options, n_micro=1
            )
            for rows in x:
                engine.accumulate_parts([rows], lambda forward, part: forward(part).tanh().square().sum(), 0)
                engine.update()
            yield f"training clipped at {limit}", digest(layer.weight, layer.bias)


def statistics() -> Iterator[tuple[str, str]]:
    """What fits and tables use of numpy, scipy and pandas."""
    import numpy as np
    import pandas as pd
    import scipy.linalg
    import scipy.optimize
    import scipy.special

    a = values(64, 97).astype(float)
    spd = a @ a.T / 97 + np.eye(64)
    for name in ("exp", "log1p", "expm1", "tanh", "arctan", "sqrt", "cbrt"):
        yield f"numpy {name}", digest(getattr(np, name)(np.abs(a)))
    yield "numpy sum, mean, std", digest(a.sum(), a.mean(1), a.std(0))
    yield "numpy solve", digest(np.linalg.solve(spd, a[:, :3]))
    yield "numpy eigh", digest(*np.linalg.eigh(spd))
    yield "numpy svd", digest(*np.linalg.svd(a, full_matrices=False))
    yield "numpy random", digest(np.random.default_rng(0).normal(size=1000), np.random.default_rng(0).beta(0.5, 2, 99))
    yield "scipy cholesky", digest(scipy.linalg.cho_solve(scipy.linalg.cho_factor(spd), a))
    yield "scipy lstsq", digest(scipy.linalg.lstsq(a.T, a.T[:, 0] ** 2)[0])
    yield "scipy special", digest(scipy.special.ndtri(scipy.special.expit(a)), scipy.special.gammaln(np.abs(a) + 0.1))
    for method in ("BFGS", "L-BFGS-B"):
        yield f"scipy {method}", digest(scipy.optimize.minimize(scipy.optimize.rosen, a[0, :5], method=method).x)
    frame = pd.DataFrame({"group": np.arange(a.size) % 7, "x": a.ravel()})
    yield "pandas groups", digest(frame.groupby("group")["x"].agg(["mean", "std"]).to_numpy())


def seconds(repeats: int = 15) -> dict[str, float]:
    """Least seconds of a matrix product, and of a step of the default study's largest model on 32 rows of 30 tokens."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification

    a, b = torch.from_numpy(values(2048, 128)), torch.from_numpy(values(512, 128, seed=2))
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    model = GPTNeoXForSequenceClassification(GPTNeoXConfig(vocab_size=512, pad_token_id=0, **shape))
    ids = torch.randint(1, 500, (32, 30))
    tried = {
        "2048x128 @ 128x512": lambda: a @ b.T,
        "training step": lambda: model(input_ids=ids).logits.sum().backward(),
    }
    found = {}
    for name, run in tried.items():
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        found[name] = min(times)
    return found


def differing(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The operations of which two processes computed something else."""
    return [name for name in before if before[name] != now.get(name)]


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instruction-set", choices=CHOICES, default=PORTABLE)
    parser.add_argument("--out", type=Path, help="file for the JSON; the terminal when absent")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="JSON", help="name what differs between two files")
    parser.add_argument("--seconds", action="store_true", help="how long a product and a training step take instead")
    args = parser.parse_args()
    if args.compare:
        before, now = (json.loads(path.read_text()) for path in args.compare)
        found = differing(before, now)
        print(f"{len(found)} of {len(before)} differ", *found, sep="\n  ")
        raise SystemExit(1 if found else 0)
    settle(args.instruction_set)
    if args.seconds:
        print(json.dumps(seconds(), indent=1))
        return
    import torch

    torch.set_num_threads(1)
    found = dict(item for group in (products, functions, optimizers, clipped_trainings, statistics) for item in group())
    text = json.dumps(found, indent=1)
    if args.out:
        args.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
