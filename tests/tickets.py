"""What a user brings: a small table of texts, a model folder, a study that describes both. No Python of theirs runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

TEAMS = ("billing", "tech", "other")
#: In every text: markup, terminal codes, paths, quotes, a spreadsheet formula, characters of other scripts.
HOSTILE = (
    "<script>alert('x')</script> ../../etc/passwd \x1b[31m\x07 \"so\", he 'said' =1+1 $x_1$ %s {0} | ☃ 你好 é\r\n--"
)
NOTE = "<script>alert('note')</script> a|b _c_ \\d `e` $f$"

#: As in README, "Your own data and models".
STUDY = """\
name: tickets
tasks:
  tickets:
    source: tickets.csv
    text: body
    label: team
    labels: [billing, tech, other]
    validation_fraction: 0.4
families:
  mine:
    source: models
    scales:
      small: {path: my-model}
grid:
  - {tasks: [tickets], families: [mine], seeds: [0]}
finetune:
  steps: 24
  batch_size: 8
  optimizer: {kind: adamw, learning_rate: 0.003}
attacks:
  gcg: {kind: gcg, n_iterations: 2, n_candidates: 8, top_k: 32}
evaluate:
  - {attacks: [gcg], defenses: [none]}
"""


def texts() -> list[tuple[str, str]]:
    """Twenty texts and their teams."""
    words = {"billing": "invoice refund", "tech": "crash login", "other": "hello thanks"}
    teams = [TEAMS[i % 3] for i in range(20)]
    return [(f"{HOSTILE} {words[team]} {i}", team) for i, team in enumerate(teams)]


def write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    """The texts as CSV, quoted where needed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "team"])
        writer.writerows(rows)


def save_model(folder: Path) -> None:
    """A language model of the GPT-NeoX family with its tokenizer, as save_pretrained writes them."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from hardscale.models.tokenizers import text_tokenizer

    tokenizer = text_tokenizer([text for text, _ in texts()], 400)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def describe_tickets(folder: Path) -> Path:
    """The table, the model and the study in a folder; the study's file."""
    write_table(folder / "tickets.csv", texts())
    save_model(folder / "my-model")
    study = folder / "tickets.yaml"
    study.write_text(f"{STUDY}analysis: {{caption_note: {json.dumps(NOTE)}}}\n", encoding="utf-8")
    return study
