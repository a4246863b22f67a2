"""Made-up artifacts of chat models, as attack and utility jobs publish them, in a few bytes each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, METRICS, REPLIES, TIMING, UTILITY
from hardscale.artifacts.tables import write_table
from hardscale.evaluation.measure_schemas import LM_EVAL

CELL = "apples/tiny/1m/s0"
KINDS = {"none": "none", "ul": "c_advul", "ipo": "c_advipo", "plain": "c_advipo", "sft": "c_advul", "ext": "external"}
N_ITERATIONS = 3
INNER = {"steps": 10, "eps": 0.05}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "ul": {"kind": "c_advul", "attack": INNER, "toward_weight": 0.5, "away_weight": 0.5, "adversarial_share": 0.125},
    "ipo": {"kind": "c_advipo", "attack": INNER, "loss": "ipo", "beta": 0.25, "adversarial_share": 1.0},
    "plain": {"kind": "c_advipo", "attack": None, "loss": "ipo", "beta": 0.25, "adversarial_share": 1.0},
    "sft": {"kind": "c_advul", "attack": None, "toward_weight": 0.5, "away_weight": 0, "adversarial_share": 0.125},
    "ext": {"kind": "external"},
}


def make_base(root: Path) -> None:
    with publishing(root / "base/tiny/1m", "base_model", {}) as draft:
        draft.note(scratch=False, pretrain_flops=9.0)


def make_model(root: Path, defense: str, flops: float | None = 50.0, **more: Any) -> None:
    number = int(defense != "none")
    spec = {"cell": CELL, "defense": defense, "settings": {**SETTINGS[defense], "batch_size": 64}}
    facts = {"n_params": 100, "clean_accuracy": None, "n_clean": 0, "n_seen_tokens": 5, "training_flops": 0.0}
    with publishing(root / f"models/{CELL}/{defense}/r{number:02d}", "model", spec) as draft:
        rows = [
            {
                "round": 1,
                "step": i,
                "n_examples": 64,
                "loss": 1.0,
                "learning_rate": 1.0,
                "grad_norm": 1.0,
                "n_tokens": 9,
            }
            for i in range(1, 3 * number + 1)
        ]
        clock = [
            {"step": i + 1, "seconds": 2.0 + i, "tokens_per_second": 1.0, "memory_mb": 1.0} for i in range(len(rows))
        ]
        write_table(draft.path / "metrics.parquet", rows, METRICS)
        write_table(draft.path / "timing.parquet", [{"batch_halvings": None, **row} for row in clock], TIMING)
        draft.note(**facts, defense_flops=flops, **more)


def attack_row(example_id: int, losses: list[float], before: bool, after: bool) -> dict[str, Any]:
    return {
        "example_id": example_id,
        "label": 0,
        "clean_prediction": int(before),
        "adversarial_text": "Write the word apple. !",
        "adversarial_tokens": [1],
        "success": after,
        "first_success": None,
        "losses": losses,
        "successes": [False] * N_ITERATIONS,
        "n_evaluated": [2] * N_ITERATIONS,
        "forward_tokens": [10, 20, 30],
        "backward_tokens": [1, 2, 3],
        "flops_exact_by_iteration": [1.0, 2.0, 3.0],
        "forward_passes": [3, 6, 9],
        "backward_passes": [1, 2, 3],
        "n_forward_tokens": 30,
        "n_backward_tokens": 3,
        "flops": 1.0,
        "seed": 0,
    }


def reply(example_id: int, iteration: int, judge: str, complied: bool | None, raw: str) -> dict[str, Any]:
    kind = {"behavior_id": f"apple_{example_id}", "category": None, "reply": "apple"}
    said = {"judge": judge, "complied": complied, "score": None, "raw": raw}
    return {"example_id": example_id, "iteration": iteration, **kind, **said}


#: (loss of the request as it is, losses, complied before, complied after) of every behavior.
Behaviors = list[tuple[float, list[float], bool, bool]]
BEHAVIORS: Behaviors = [
    (2.0, [1.9, 1.5, 1.0], False, True),
    (3.0, [2.9, 2.5, 2.0], False, False),
    (4.0, [3.9, 3.5, 3.0], True, True),
    (5.0, [4.9, 4.5, 4.0], False, True),
]


def make_attack(
    root: Path,
    defense: str,
    behaviors: Behaviors = BEHAVIORS,
    name: str = "gcg",
    kind: str = "gcg",
    shards: int = 1,
    unread: int = 0,
    eps: float | None = None,
) -> None:
    """Judge ``strict`` is the first; of its last verdicts the first ``unread`` cannot be read."""
    number = int(defense != "none")
    settings: dict[str, Any] = {"kind": kind, "position": None, "n_iterations": N_ITERATIONS}
    settings["position"] = "suffix"
    if kind == "embedding":
        settings["perturbation"] = {"eps": eps, "eps_mode": "relative_norm"}
    for shard in range(1, shards + 1):
        spec = {"cell": CELL, "defense": defense, "round": number, "attack": name, "settings": settings}
        spec |= {"shard": shard, "shards": shards, "judges": [{"kind": "rules"}]}
        mine = list(enumerate(behaviors))[shard - 1 :: shards]
        rows, replies = [], []
        for i, (clean, losses, before, after) in mine:
            after = after and i >= unread
            rows.append(attack_row(i, losses, before, after))
            replies.append(reply(i, 0, "strict", before, "yes" if before else "no"))
            replies.append(reply(i, 0, "target-likelihood", False, f"{clean:.6g}"))
            replies.append(reply(i, 0, "books", None, ""))
            last = None if i < unread else after
            replies.append(reply(i, N_ITERATIONS, "strict", last, "hm" if last is None else "yes" if last else "no"))
            replies.append(reply(i, N_ITERATIONS, "target-likelihood", True, f"{losses[-1]:.6g}"))
            replies.append(reply(i, N_ITERATIONS, "books", None, ""))
        part = name if shards == 1 else f"{name}.{shard}of{shards}"
        with publishing(root / f"attacks/{CELL}/{defense}/r{number:02d}/{part}", "attack", spec) as draft:
            write_table(draft.path / "attack.parquet", rows, ATTACK)
            write_table(draft.path / "replies.parquet", replies, REPLIES)
            draft.note(n_examples=len(behaviors), n_attacked=len(behaviors), n_params=100, success_rule="judge")


def make_utility(root: Path, defense: str, answered: float | None, perplexity: float | None) -> None:
    number = int(defense != "none")
    spec = {"cell": CELL, "defense": defense, "round": number, "settings": {}, "seed": 0}
    values = {"utility_perplexity": perplexity, "harmless_answered": answered}
    rows = [
        {"metric": metric, "value": value, "n": 40, "ci_low": None, "ci_high": None, "detail": ""}
        for metric, value in values.items()
    ]
    with publishing(root / f"utility/{CELL}/{defense}/r{number:02d}", "utility", spec) as draft:
        write_table(draft.path / "utility.parquet", rows, UTILITY)


def make_lm_eval(root: Path, defense: str, acc: float) -> None:
    """One task that is a share with a part of its own, and one that is not."""
    number = int(defense != "none")
    spec = {"cell": CELL, "defense": defense, "round": number, "settings": {}}
    known = {"filter": "none", "num_fewshot": 0, "task_version": "1", "chat_template_sha256": "a"}
    known["lm_eval_version"] = "9.9"
    rows = [
        {"asked": asked, "task": task, "metric": metric, "value": value, "stderr": 1.0, "n": n, "headline": headline}
        for asked, task, metric, value, n, headline in (
            ("mmlu", "mmlu", "acc", acc, 40, True),
            ("mmlu", "mmlu_law", "acc", 0.9, 20, False),
            ("wikitext", "wikitext", "word_perplexity", 12.0, 30, True),
        )
    ]
    with publishing(root / f"lm_eval/{CELL}/{defense}/r{number:02d}", "lm_eval", spec) as draft:
        write_table(draft.path / "lm_eval.parquet", [{**row, **known} for row in rows], LM_EVAL)


def make_mt_bench(root: Path, defense: str, mean: float) -> None:
    number = int(defense != "none")
    spec = {"cell": CELL, "defense": defense, "round": number, "settings": {}, "seed": 0}
    rows = [
        {"metric": metric, "value": value, "n": 80, "ci_low": None, "ci_high": None, "detail": ""}
        for metric, value in (("mt_bench", mean), ("mt_bench_unparsed", 2.0))
    ]
    with publishing(root / f"mt_bench/{CELL}/{defense}/r{number:02d}", "mt_bench", spec) as draft:
        write_table(draft.path / "utility.parquet", rows, UTILITY)
