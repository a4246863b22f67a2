"""One attack on one chat model: behaviors attacked, replies written and judged, and the artifact with every row.

Nothing of a behavior, a reply or an attack text is shown or logged; errors name examples by their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import ATTACK, REPLIES, TIMING
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.attacks.base import run_attack
from hardscale.attacks.results import AttackResult, Helper
from hardscale.errors import AttackError, ModelError
from hardscale.evaluation.attack_rows import Clock, attack_row, summed_notes, timing_rows
from hardscale.evaluation.attack_spec import (
    KEYS,
    check_spec,
    eps_facts,
    load_helpers,
    read_texts,
    search_facts,
)
from hardscale.evaluation.chat_replies import (
    Prompt,
    attacked_prompt,
    item,
    primary_verdicts,
    replies,
    reply_rows,
    target_scores,
    write_private,
)
from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.judges.base import Item
from hardscale.evaluation.judges.panel import check_contexts, judge_all, panel, parse_judges
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import Sampling
from hardscale.runtime.console import say
from hardscale.runtime.memory import Budget
from hardscale.settings.attack_base import AttackBase
from hardscale.tasks.chat import Behavior, ChatTask, load_chat_task, private_texts
from hardscale.tasks.wordings import digest
from hardscale.untrusted.redaction import withholding

SUCCESS_RULE = "judge"


@dataclass(frozen=True)
class Selection:
    """The behaviors of a job.

    Attributes:
        kept: those attacked in all shards together, in order.
        too_long: row numbers of those whose rendered prompt is too long.
        changed: row numbers of those that the template does not take as they are.
        subset_sha256: of the behaviors' ids.
    """

    kept: list[Behavior]
    too_long: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)

    @property
    def subset_sha256(self) -> str:
        """Digest of the ids of the behaviors, one a line."""
        return sha256("".join(f"{one.behavior_id}\n" for one in self.kept).encode()).hexdigest()


def select(behaviors: Sequence[Behavior], template: ChatTemplate, max_tokens: int) -> Selection:
    """The behaviors that can be asked about in ``max_tokens`` tokens; the others by their numbers."""
    selection = Selection([])
    for behavior in behaviors:
        try:
            template.request(behavior.request)
        except ModelError:
            selection.changed.append(behavior.row_id)
            continue
        if len(template.prompt_ids(behavior.request)) > max_tokens:
            selection.too_long.append(behavior.row_id)
        else:
            selection.kept.append(behavior)
    return selection


def run_chat_attack_job(
    victim: Path,
    task: Path,
    spec: dict[str, Any],
    out: Path,
    helpers: Mapping[str, Path] | None = None,
    root: Path | None = None,
) -> None:
    """Attack the first test behaviors, judge the replies before and after, and publish an ``attack`` artifact.

    Of the behaviors that can be asked about, shard ``i`` of ``n`` attacks rows ``i::n``. An attack aims at the first
    opening of each behavior. Success is the first judge's verdict on the reply to the last prompt, which is greedy or
    drawn as the task says; a reply on which it gives none is no success. The lists by iteration hold the attack's own
    measure: the opening's loss, and whether greedy decoding writes it.

    Args:
        victim: ``model`` artifact of a chat model.
        task: ``task`` artifact of kind behaviors.
        spec: ``cell defense round attack settings n_examples max_tokens seed shard shards judges``.
        out: folder to publish.
        helpers: role -> folder of another language model: the attack's, and ``judge0`` for the first judge.
        root: data root, where files that the spec names are looked for if they are not there by their path.

    Raises:
        AttackError: the spec is malformed, or the attack cannot run on an example.
        DataError: a file that the spec names is not there or malformed.
    """
    chat = load_chat_task(task)
    with withholding(private_texts(chat)):
        _run(chat, {"victim": Path(victim), "task": Path(task)}, spec, Path(out), dict(helpers or {}), root)


@dataclass(frozen=True)
class _ChatAttackJob:
    """What the parts of a job share."""

    model: Any
    tokenizer: Any
    template: ChatTemplate
    chat: ChatTask
    settings: AttackBase
    spec: dict[str, Any]

    @property
    def position(self) -> Any:
        """Where attack texts stand beside the request."""
        return self.settings.position or self.chat.facts["position"]

    def opening(self, behavior: Behavior) -> str:
        """What the attack aims at."""
        return self.template.opening(behavior.targets[0])


def _run(
    chat: ChatTask,
    inputs: dict[str, Path],
    spec: dict[str, Any],
    out: Path,
    helpers: dict[str, Path],
    root: Path | None,
) -> None:
    settings = check_spec(spec, KEYS | {"judges"}).for_victim(chat=True)
    members = panel(parse_judges(spec["judges"]), helpers, root)
    texts = read_texts(settings, root)
    model, tokenizer = load_on_device(inputs["victim"])
    template = ChatTemplate(tokenizer, chat.facts["system_prompt"])
    job = _ChatAttackJob(model, tokenizer, template, chat, settings, spec)
    if job.position not in ("suffix", "prefix"):
        raise AttackError(f"--spec: settings.position: found {job.position!r}; suffix or prefix for a chat model")
    selection = select(chat.test[: spec["n_examples"]], template, spec["max_tokens"])
    check_contexts(members, [one.context for one in selection.kept])
    mine = selection.kept[spec["shard"] - 1 :: spec["shards"]]
    left = len(selection.too_long) + len(selection.changed)
    say(f"{spec['attack']}: {len(selection.kept)} behaviors, {left} left out, {len(mine)} attacked here")
    budget = Budget()
    results, clock = _attack(job, selection, mine, load_helpers(helpers), texts, budget)
    items, iterations = _replies(job, mine, results)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    del model, job  # judges may need the memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    judged = judge_all(members, items)
    verdicts = primary_verdicts(items, judged)
    before, after = verdicts[: len(mine)], verdicts[len(mine) :]
    rows = [
        attack_row(
            one.row_id,
            0,
            int(clean is True),
            result,
            held is True,
            n_iterations=settings.n_iterations,
            n_params=n_params,
            seed=spec["seed"],
        )
        for one, result, clean, held in zip(mine, results, before, after, strict=True)
    ]
    with publishing(out, "attack", spec, {**inputs, **helpers}) as draft:
        write_private(draft.path / "attack.parquet", rows, ATTACK)
        write_private(draft.path / "replies.parquet", reply_rows(items, iterations, judged), REPLIES)
        write_table(draft.path / "timing.parquet", timing_rows(results, clock.seconds, budget), TIMING)
        draft.note(
            n_examples=len(selection.kept),
            n_attacked=len(selection.kept),
            n_rows=len(rows),
            n_clean_complied=sum(verdict is True for verdict in before),
            n_complied=sum(verdict is True for verdict in after),
            n_without_verdict=sum(verdict is None for verdict in verdicts),
            n_params=n_params,
            labels=[],
            position=settings.position or chat.facts["position"],
            attack=spec["attack"],
            attack_kind=settings.kind,
            seed=spec["seed"],
            success_rule=SUCCESS_RULE,
            judge=members[0].name,
            judges=[member.name for member in members],
            judge_prompts_sha256={member.name: member.prompt_sha256 for member in members if member.prompt_sha256},
            attack_texts_sha256={role: digest(text) for role, text in texts.items()},
            agreement=agreements({name: [one.complied for one in said] for name, said in judged.items()}),
            template_sha256=template.sha256,
            subset_sha256=selection.subset_sha256,
            too_long=selection.too_long,
            changed_by_template=selection.changed,
            notes=summed_notes(results),
            **eps_facts(settings, summed_notes(results)),
            **search_facts(settings),
        )


def _attack(
    job: _ChatAttackJob,
    selection: Selection,
    mine: Sequence[Behavior],
    helpers: Mapping[str, Helper],
    texts: Mapping[str, str],
    budget: Budget,
) -> tuple[list[AttackResult], Clock]:
    clock = Clock(job.settings.n_iterations, len(mine), job.spec["attack"])
    results = run_attack(
        job.settings,
        job.model,
        job.tokenizer,
        [job.template.around(one.request, job.position) for one in mine],
        [job.opening(one) for one in mine],
        keys=[one.row_id for one in mine],
        seed=job.spec["seed"],
        requests=[job.template.request(one.request) for one in mine],
        helpers=helpers,
        texts=texts,
        # The same in every shard, and no request of the test where the task has others.
        known=[(one.request, job.opening(one)) for one in (job.chat.train or selection.kept)],
        tokens_per_batch=budget,
        callback=clock.note,
    )
    clock.close(results)
    return results, clock


def _replies(
    job: _ChatAttackJob, mine: Sequence[Behavior], results: Sequence[AttackResult]
) -> tuple[list[Item], list[int]]:
    """Judged replies and their iterations: first to all requests as they are, then to all attacked prompts."""
    asked = [job.template.prompt(one.request) for one in mine]
    clean = [
        Prompt(one.row_id, tuple(job.template.rendered_ids(text)), text) for one, text in zip(mine, asked, strict=True)
    ]
    attacked = [
        attacked_prompt(one.row_id, job.template, job.template.request(one.request), result)
        for one, result in zip(mine, results, strict=True)
    ]
    longest, label = job.chat.facts["max_new_tokens"], f"{job.spec['attack']}: replies"
    drawn = job.chat.facts.get("sampling")
    sample = Sampling(**drawn, seed=derive_seed(job.spec["seed"], "replies")) if drawn else None
    written = replies(job.model, job.tokenizer, [*clean, *attacked], longest, label, sample=sample)
    scores = target_scores(job.model, job.tokenizer, clean, [job.opening(one) for one in mine])
    scores += [(result.losses[-1], result.successes[-1]) for result in results]
    items = [item(one, text, score) for one, text, score in zip([*mine, *mine], written, scores, strict=True)]
    return items, [0] * len(mine) + [job.settings.n_iterations] * len(mine)


def agreement(first: Sequence[bool | None], second: Sequence[bool | None]) -> dict[str, Any]:
    """Agreement of two judges on the same replies.

    Kappa is (p - e) / (1 - e) with p the share of equal verdicts and e the share expected of independent judges with
    the same rates; None where e is 1 (both always say the same one thing) or there are no pairs.

    Returns:
        ``n`` pairs of verdicts, ``share`` (None without pairs), ``kappa``.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    n = len(pairs)
    if not n:
        return {"n": 0, "share": None, "kappa": None}
    share = sum(a == b for a, b in pairs) / n
    rate_a, rate_b = (sum(pair[i] for pair in pairs) / n for i in (0, 1))
    expected = rate_a * rate_b + (1 - rate_a) * (1 - rate_b)
    return {"n": n, "share": share, "kappa": None if expected == 1 else (share - expected) / (1 - expected)}


def agreements(verdicts: Mapping[str, Sequence[bool | None]]) -> list[dict[str, Any]]:
    """Agreement of every pair of judges, in the order given."""
    return [
        {"first": a, "second": b, **agreement(verdicts[a], verdicts[b])} for a, b in combinations(list(verdicts), 2)
    ]
