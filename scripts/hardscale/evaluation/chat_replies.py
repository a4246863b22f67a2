"""Replies of a chat model to requests and to attacked prompts, judged by every judge, as rows of REPLIES."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hardscale.artifacts.tables import write_table
from hardscale.attacks.language_victim import LanguageVictim
from hardscale.attacks.results import AttackResult, Request
from hardscale.evaluation.judges.base import Item, Judgment
from hardscale.evaluation.judges.copyright import Copyright
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import Sampling, reply
from hardscale.models.parameters import frozen
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.runtime.console import Progress
from hardscale.runtime.memory import Budget
from hardscale.tasks.chat import Behavior

#: Functional category of behaviors that are judged by what they reproduce.
COPYRIGHT = "copyright"


@dataclass(frozen=True)
class Prompt:
    """A prompt that a reply is wanted to.

    Attributes:
        key: the example.
        ids: its tokens.
        text: the whole prompt; without it no opening can be scored behind it.
        begin: begin of the reply that is part of the prompt.
        perturbation: what is added to its embeddings, None for nothing.
    """

    key: int
    ids: tuple[int, ...]
    text: str = ""
    begin: str = ""
    perturbation: torch.Tensor | None = None


def attacked_prompt(key: int, template: ChatTemplate, request: Request, result: AttackResult) -> Prompt:
    """The prompt that an attack ended with. Behind the last end of the user's turn stands the beginning of a reply."""
    text = result.prompt_text
    at = text.rfind(request.after)
    begin = text[at + len(request.after) :] if at >= 0 else ""
    return Prompt(key, tuple(template.rendered_ids(text)), text, begin, result.perturbation)


def replies(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    label: str,
    budget: Budget | None = None,
    sample: Sampling | None = None,
) -> list[str]:
    """Replies, the begin that was given included: greedy ones, or drawn where ``sample`` says how.

    Equal prompts are answered once; of drawn replies only those to equal prompts of one example, which have one stream
    of random numbers: a reply depends neither on the prompts beside it nor on how a job is cut into shards.

    Where a tokenizer's decoder drops the space that a text begins with, the first one of a reply is dropped too.
    """
    unique: dict[Any, Prompt] = {}
    for prompt in prompts:
        unique.setdefault(_identity(prompt, sample), prompt)
    asked = list(unique.values())
    progress = Progress(len(asked), label, "reply")
    written = reply(
        model,
        tokenizer,
        [list(prompt.ids) for prompt in asked],
        max_new_tokens,
        sample=sample,
        perturbations=[prompt.perturbation for prompt in asked],
        budget=budget,
        keys=[prompt.key for prompt in asked],
        callback=progress.update,
    )
    progress.close()
    found = dict(zip(unique, written, strict=True))
    dropped = " " if _drops_space(tokenizer) else ""
    return [(prompt.begin + found[_identity(prompt, sample)]).removeprefix(dropped) for prompt in prompts]


def _drops_space(tokenizer: Any) -> bool:
    ids = PromptTokens(tokenizer).inside(" a")
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) == "a"


def _identity(prompt: Prompt, sample: Sampling | None) -> Any:
    what = prompt.ids if prompt.perturbation is None else id(prompt.perturbation)
    return what if sample is None else (prompt.key, what)


def target_scores(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], targets: Sequence[str]
) -> list[tuple[float, bool]]:
    """Mean cross-entropy of the opening after each prompt, and whether greedy decoding writes it."""
    if not prompts:
        return []
    victim = LanguageVictim(model, tokenizer, list(targets), [str(prompt.key) for prompt in prompts])
    victim.follow([prompt.text for prompt in prompts])
    return _scores(victim, prompts, victim.endings)


def answer_losses(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]
) -> list[float]:
    """Mean cross-entropy of the tokens of an answer after each prompt."""
    if not prompts:
        return []
    # The victim reads texts; these answers are tokens already, cut where the text was.
    victim = LanguageVictim(model, tokenizer, None, [str(prompt.key) for prompt in prompts])
    return [loss for loss, _ in _scores(victim, prompts, answers)]


def _scores(
    victim: LanguageVictim, prompts: Sequence[Prompt], endings: Sequence[Sequence[int]]
) -> list[tuple[float, bool]]:
    blocks = [
        victim.block(i, torch.tensor([prompt.ids]), ending)
        for i, (prompt, ending) in enumerate(zip(prompts, endings, strict=True))
    ]
    with frozen(victim.model):
        scores = victim.score(blocks)
    return [(float(score.losses[0]), bool(score.successes[0])) for score in scores]


def item(behavior: Behavior, written: str, target: tuple[float, bool]) -> Item:
    """A reply as judges see it."""
    return Item(
        behavior.row_id,
        behavior.behavior_id,
        behavior.behavior,
        written,
        behavior.context,
        behavior.category,
        *target,
    )


def primary_verdicts(items: Sequence[Item], judged: dict[str, list[Judgment]]) -> list[bool | None]:
    """The verdict that counts for each reply: the first judge's.

    Where a behavior asks for a protected text and a judge knows that text, its verdict counts instead (arXiv
    2402.04249, appendix on evaluation).
    """
    verdicts = [one.complied for one in next(iter(judged.values()))]
    for i, (one, known) in enumerate(zip(items, judged.get(Copyright.name, []), strict=False)):
        if one.category == COPYRIGHT and known.complied is not None:
            verdicts[i] = known.complied
    return verdicts


def reply_rows(
    items: Sequence[Item], iterations: Sequence[int], judged: dict[str, list[Judgment]]
) -> list[dict[str, Any]]:
    """Rows of REPLIES: all judges of a reply one below the other."""
    return [
        {
            "example_id": one.key,
            "behavior_id": one.behavior_id,
            "category": one.category,
            "iteration": iteration,
            "judge": name,
            "complied": said[i].complied,
            "score": said[i].score,
            "raw": said[i].raw,
            "reply": one.reply,
        }
        for i, (one, iteration) in enumerate(zip(items, iterations, strict=True))
        for name, said in judged.items()
    ]


def write_private(path: Path, rows: list[dict[str, Any]], schema: Any) -> None:
    """A table that its owner alone can read, from its first byte on."""
    write_table(path, rows, schema, private=True)
