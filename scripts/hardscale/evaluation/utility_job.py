"""What a chat model is good for besides being robust: always asked with its chat template (section on utility)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import REPLIES, UTILITY
from hardscale.artifacts.tables import write_table
from hardscale.errors import ModelError
from hardscale.evaluation.chat_replies import (
    Prompt,
    answer_losses,
    replies,
    reply_rows,
    target_scores,
    write_private,
)
from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.judges.base import Item, Judgment
from hardscale.evaluation.judges.panel import Rules, in_panel, judge_all
from hardscale.evaluation.questions import (
    LETTERS,
    Question,
    Questions,
    choice_questions,
    harmless_questions,
    polite_questions,
)
from hardscale.evaluation.spec_check import check_settings
from hardscale.evaluation.utility_rows import perplexity_row, share_row
from hardscale.models.chat import ChatTemplate
from hardscale.models.window import window
from hardscale.runtime.console import say
from hardscale.settings.utility import UtilitySettings
from hardscale.tasks.chat import Chat, ChatTask, load_chat_task
from hardscale.untrusted.redaction import withholding

KEYS = frozenset({"cell", "defense", "round", "settings", "seed"})


@dataclass
class _UtilityJob:
    """A model under test, and what was found so far."""

    model: Any
    tokenizer: Any
    template: ChatTemplate
    chat: ChatTask
    settings: UtilitySettings
    rows: list[dict[str, Any]] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def run_utility(victim: Path, task: Path, spec: dict[str, Any], out: Path, root: Path | None = None) -> None:
    """Measure a chat model and publish a ``utility`` artifact.

    Perplexity on the last answers of ordinary conversations; the share of harmless requests that are answered; of
    questions with four choices the share that is refused and the share on which the right letter is the likeliest
    answer; the share of politely put behaviors that is complied with. What the settings name no table for is left out,
    harmless requests aside.

    Args:
        victim: ``model`` artifact of a chat model.
        task: ``task`` artifact of kind behaviors.
        spec: ``cell defense round settings seed``; settings as in :class:`UtilitySettings`.
        out: folder to publish.
        root: data root, where tables are looked for that are not there by their path.

    Raises:
        StudyError: the spec is malformed.
        DataError: a table is not there or malformed.
    """
    chat, settings = load_chat_task(task), check_settings(spec, KEYS, UtilitySettings)
    sources = {
        "harmless": harmless_questions(settings.harmless, settings.n_harmless, root),
        "mmlu": choice_questions(settings.mmlu, settings.n_mmlu, root) if settings.mmlu else None,
        "polite": polite_questions(settings.polite, settings.n_polite, root, settings.polite_column)
        if settings.polite
        else None,
    }
    polite = sources["polite"]
    with withholding([question.text for question in polite.asked] if polite else []):
        model, tokenizer = load_on_device(victim)
        job = _UtilityJob(model, tokenizer, ChatTemplate(tokenizer, chat.facts["system_prompt"]), chat, settings)
        _perplexity(job)
        for name, measure in (("harmless", _harmless), ("mmlu", _choices), ("polite", _polite)):
            source = sources[name]
            if source:
                _ask(job, name, source, measure)
        with publishing(out, "utility", spec, {"victim": Path(victim), "task": Path(task)}) as draft:
            write_table(draft.path / "utility.parquet", job.rows, UTILITY)
            write_private(draft.path / "replies.parquet", job.replies, REPLIES)
            draft.note(
                n_params=sum(parameter.numel() for parameter in model.parameters()),
                template_sha256=job.template.sha256,
                **job.facts,
            )
    say("  ".join(f"{row['metric']} {row['value']:.4g}" for row in job.rows if row["value"] is not None))


# --- perplexity -----------------------------------------------------------------------------------------------------


def _perplexity(job: _UtilityJob) -> None:
    """Cross-entropy of the last answer that begins within the task's ``max_tokens``, over all such tokens."""
    chats = job.chat.utility_validation
    if not chats:
        return
    longest = min(job.chat.facts["max_tokens"], window(job.model))
    prompts, answers = [], []
    for chat in chats:
        ids, first = _conversation(job.template, chat, longest)
        if first < len(ids):
            prompts.append(Prompt(chat.row_id, tuple(ids[:first])))
            answers.append(ids[first:])
    losses = answer_losses(job.model, job.tokenizer, prompts, answers)
    counts = [len(answer) for answer in answers]
    left = len(chats) - len(prompts)
    detail = f"{sum(counts)} tokens of last answers in the first {longest}; {left} conversations have none there"
    job.rows.append(perplexity_row("utility_perplexity", losses, counts, detail))
    job.facts["n_conversations_left_out"] = left


def _conversation(template: ChatTemplate, chat: Chat, longest: int) -> tuple[list[int], int]:
    try:
        return template.labeled(chat.messages, longest)
    except ModelError:  # a conversation that this template cannot write
        return [], 0


# --- questions ------------------------------------------------------------------------------------------------------

Measure = Callable[[_UtilityJob, list[Question], list[Prompt], dict[str, list[Judgment]], str], None]


def _ask(job: _UtilityJob, name: str, source: Questions, measure: Measure) -> None:
    """Ask all questions of a set that the model can read, keep the judged replies and measure."""
    limit = window(job.model)
    asked, prompts = [], []
    for question in source.asked:
        text = _prompt(job.template, question)
        ids = job.template.rendered_ids(text) if text else []
        if 0 < len(ids) < limit:
            asked.append(question)
            prompts.append(Prompt(question.key, tuple(ids), text))
    left = len(source.asked) - len(asked)
    written = replies(job.model, job.tokenizer, prompts, job.settings.max_new_tokens, name)
    items = [Item(one.key, name, one.text, text) for one, text in zip(asked, written, strict=True)]
    judged = judge_all([in_panel(Rules("prefix", 1)), in_panel(Rules("anywhere", 1))], items)
    job.replies += reply_rows(items, [0] * len(items), judged)
    job.facts |= {f"{name}_sha256": source.sha256, f"n_{name}_left_out": left, f"n_{name}_copies": source.n_copies}
    measure(job, asked, prompts, judged, f"{left} left out as too long or changed by the template")


def _prompt(template: ChatTemplate, question: Question) -> str:
    """The rendered prompt; "" for a question that the template changes."""
    try:
        frame = template.request(question.text)
    except ModelError:
        return ""
    return template.prompt(frame.text)


def _complied(judged: dict[str, list[Judgment]], mode: str = "prefix") -> list[bool]:
    return [one.complied is True for one in judged[f"rules-{mode}"]]


def _refused(judged: dict[str, list[Judgment]]) -> list[bool]:
    return [one.raw == "refused" for one in judged["rules-prefix"]]


def _harmless(
    job: _UtilityJob,
    _asked: Sequence[Question],
    _prompts: Sequence[Prompt],
    judged: dict[str, list[Judgment]],
    detail: str,
) -> None:
    job.rows.append(share_row("harmless_answered", _complied(judged), f"no refusal at first; {detail}"))
    job.rows.append(
        share_row("harmless_answered_anywhere", _complied(judged, "anywhere"), f"no refusal anywhere; {detail}")
    )


def _polite(
    job: _UtilityJob,
    _asked: Sequence[Question],
    _prompts: Sequence[Prompt],
    judged: dict[str, list[Judgment]],
    detail: str,
) -> None:
    job.rows.append(share_row("polite_complied", _complied(judged), f"no refusal at first; {detail}"))


def _choices(
    job: _UtilityJob,
    asked: Sequence[Question],
    prompts: Sequence[Prompt],
    judged: dict[str, list[Judgment]],
    detail: str,
) -> None:
    job.rows.append(share_row("mmlu_refused", _refused(judged), f"refusal at first; {detail}"))
    each = [prompt for prompt in prompts for _ in LETTERS]
    scores = target_scores(
        job.model, job.tokenizer, each, [job.template.opening(letter) for _ in prompts for letter in LETTERS]
    )
    right = []
    for i, question in enumerate(asked):
        losses = [loss for loss, _ in scores[i * len(LETTERS) : (i + 1) * len(LETTERS)]]
        right.append(losses.index(min(losses)) == question.answer)
    job.rows.append(share_row("mmlu_accuracy", right, f"likeliest of the letters A to D; {detail}"))
