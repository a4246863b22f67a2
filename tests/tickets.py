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
#: What a text of a study must not do to its report: another script, another element, a file, a formula, a format.
MARKUP = (
    "\r\r.. raw:: html\r\r   <script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    "\x85\x85.. include:: {secret}\u2028\u2028.. image:: {beacon}\x0b\x0c"
    "</script><!-- <script>document.title='owned'</script>"
    "\r\n\r\n`click <javascript:document.title='owned'>`_ $10^{{-3}}$ {{wildcards.x}} {{{{ 7*7 }}}} {{{{}}}} <results>"
)
SECRET = "this line of a local file is nobody's business"
#: Folders with what Snakemake, a shell, a URL or a file pattern could read as more than a name.
ODD = ("a {b} c'd", "x{y} <results> %j $HOME ?#[!a]*")

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
    max_tokens: 200
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


def describe_tickets(folder: Path, brought: str, beacon: str = "http://127.0.0.1:9/x.png") -> Path:
    """The table and the model in the folder ``brought`` of a folder, and the study that describes them; its file.

    Its note for captions would load ``beacon`` and show ``secret.txt`` if it were markup.
    """
    (folder / brought).mkdir()
    write_table(folder / brought / "tickets.csv", texts())
    save_model(folder / brought / "my-model")
    (folder / "secret.txt").write_text(SECRET, encoding="utf-8")
    text = STUDY
    for name in ("tickets.csv", "my-model"):
        text = text.replace(name, json.dumps(f"{brought}/{name}"))
    note = NOTE + MARKUP.format(secret=folder / "secret.txt", beacon=beacon)
    study = folder / "tickets.yaml"
    study.write_text(f"{text}analysis: {{caption_note: {json.dumps(note)}}}\n", encoding="utf-8")
    return study
