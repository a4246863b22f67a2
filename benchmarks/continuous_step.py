"""A step of continuous training against the same step done plainly, in CPU or GPU time, interleaved.

Plainly: weight gradients are computed in the inner steps too, the head gives logits of the whole vocabulary at every
token, and the two answers of the update are two sequences. Both find the same perturbation and the same loss.

Example:
    python benchmarks/continuous_step.py --model models/smollm2 --rows 4 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from hardscale.attacks.perturb import mean_embedding_norm
from hardscale.models.chat import ChatTemplate
from hardscale.models.parameters import frozen
from hardscale.settings.perturbation import InnerAttack
from hardscale.training.continuous.losses import sums_by_row
from hardscale.training.continuous.packing import PackedBatch, Term, answered, pack_batch, scatter, sequences_of
from hardscale.training.continuous.rows import Part, Triple
from hardscale.training.continuous.scored_lm import ScoredLM
from hardscale.training.continuous.step import attack

WORDS = ("apple", "pear", "plum", "fig", "lemon", "melon", "grape", "cherry")
#: Tokens of a sequence, at most.
_LONGEST = 256
SETTINGS = InnerAttack(steps=10, step_size=1e-2, eps=0.1, step_rule="l2")


class Bench:
    """Both ways of one step on the same rows."""

    def __init__(self, folder: Path, n_rows: int, device: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.device = torch.device(device)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self.model: Any = model.to(self.device)
        template = ChatTemplate(AutoTokenizer.from_pretrained(folder), None)
        self.triples = []
        for i in range(n_rows):
            word = WORDS[i % len(WORDS)]
            request = template.encode(f"Write the word {word} in a sentence.", "Sorry, I can't do that.")
            away = tuple(template.answer_ids(f"Sure, here is a sentence with the word {word}:"))
            span = (0, len(request.prompt))
            self.triples.append(Triple((i, 0), request.prompt, span, away, request.answer))
        self.scored = ScoredLM(self.model)
        self.norm = mean_embedding_norm(self.model.get_input_embeddings())
        self.losses: list[float] = []

    def ours(self) -> list[Tensor]:
        """Frozen weights inside, the head at the answers alone, the prompt of both answers run once."""
        with frozen(self.model):
            found = attack(self.scored, self.triples, SETTINGS, self.norm, 0, 0)
        self._update(found.deltas, self._log_p, self.scored.takes_branches(_LONGEST))
        return found.deltas

    def plainly(self) -> list[Tensor]:
        """The same with weight gradients and whole heads."""
        self.model.eval()
        sheet = pack_batch([answered(t, Term.AWAY, t.away) for t in self.triples], 0, self.device)
        embeds = self.model.get_input_embeddings()(sheet.input_ids).detach()
        lengths = torch.tensor([len(t.prompt) for t in self.triples], device=self.device)
        mask = torch.arange(embeds.shape[1], device=self.device) < lengths[:, None]
        n_labels = torch.tensor([line.n_labels for line in sheet.lines], device=self.device)
        delta = torch.zeros_like(embeds)
        for _ in range(SETTINGS.steps):
            leaf = delta.clone().requires_grad_(True)
            log_p = self._whole_log_p(sheet, embeds + leaf)
            loss = (sums_by_row(-log_p, sheet.sequences, len(self.triples)) / n_labels).sum()
            gradient, *_ = torch.autograd.grad(loss, [leaf, *self.model.parameters()], allow_unused=True)
            delta = self._moved(delta, gradient, mask)
        deltas = [row[: len(t.prompt)] for row, t in zip(delta, self.triples, strict=True)]
        embed = self.model.get_input_embeddings()
        self._update(deltas, lambda sheet, d: self._whole_log_p(sheet, embed(sheet.input_ids) + d), False)
        return deltas

    def _moved(self, delta: Tensor, gradient: Tensor, mask: Tensor) -> Tensor:
        radius = (SETTINGS.eps or 0.0) * self.norm
        length = gradient.norm(dim=-1, keepdim=True)
        step = torch.where(length > 0, gradient / length, 0.0)
        moved = torch.where(mask[..., None], delta - SETTINGS.step_size * step, 0.0)
        size = moved.norm(dim=-1, keepdim=True)
        return torch.where(size > radius, moved * radius / size, moved)

    def _log_p(self, sheet: PackedBatch, delta: Tensor | None) -> Tensor:
        found: Tensor = self.scored(**sheet.asked, input_ids=sheet.input_ids, delta=delta)
        return found

    def _whole_log_p(self, sheet: PackedBatch, embeds: Tensor) -> Tensor:
        out = self.model(inputs_embeds=embeds, attention_mask=sheet.attention_mask, use_cache=False)
        whole = out.logits.float().log_softmax(-1)
        found: Tensor = whole[sheet.rows, sheet.columns, sheet.wanted]
        return found

    def _update(self, deltas: list[Tensor], log_p: Callable[[PackedBatch, Any], Tensor], share: bool) -> None:
        self.model.train()
        lines = sequences_of(Part(tuple(self.triples)), (Term.TOWARD, Term.AWAY))
        sheet = pack_batch(lines, 0, self.device, share=share)
        scores = log_p(sheet, scatter(deltas, sheet))
        loss = -scores[sheet.of(Term.TOWARD)].mean() + scores[sheet.of(Term.AWAY)].mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.losses.append(float(loss.detach()))
        self.model.zero_grad()


def seconds(device: str) -> float:
    """Processor time on a CPU, wall time of finished work on a GPU."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="folder of a chat model")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench, ratios, furthest = Bench(args.model, args.rows, args.device), [], 0.0
    for turn in range(args.repeats):
        took: dict[bool, float] = {}
        deltas: dict[bool, list[Tensor]] = {}
        for mine in (True, False) if turn % 2 == 0 else (False, True):  # neither always follows the other
            start = seconds(args.device)
            deltas[mine] = bench.ours() if mine else bench.plainly()
            took[mine] = seconds(args.device) - start
        ratios.append(took[True] / took[False])
        furthest = max(
            furthest, *((a - b).abs().max().item() for a, b in zip(deltas[True], deltas[False], strict=True))
        )
    apart = max(abs(a - b) for a, b in zip(bench.losses[::2], bench.losses[1::2], strict=True))
    told = {
        "loss_apart": apart,
        "ratio": statistics.median(ratios),
        "ratios": [round(r, 3) for r in ratios],
        "furthest": furthest,
    }
    print(json.dumps({**told, "rows": args.rows, "device": args.device, "model": args.model.name}))


if __name__ == "__main__":
    main()
