"""MT-Bench: a chat model answers questions of two turns, and another model rates each reply (section on utility)."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch

from hardscale.artifacts.manifest import sha256_file
from hardscale.artifacts.publish import publishing
from hardscale.artifacts.schemas import UTILITY
from hardscale.artifacts.seeds import derive_seed
from hardscale.artifacts.tables import write_table
from hardscale.errors import AttackError, DataError, ModelError
from hardscale.evaluation.chat_replies import write_private
from hardscale.evaluation.device import load_on_device
from hardscale.evaluation.judges.ask import Asker
from hardscale.evaluation.judges.rating import MAX_NEW_TOKENS, FunctionAsker, Rated, rate
from hardscale.evaluation.measure_schemas import RATINGS
from hardscale.evaluation.questions import spread
from hardscale.evaluation.spec_check import check_settings
from hardscale.evaluation.utility_rows import mean_row
from hardscale.models.chat import ChatTemplate, Message
from hardscale.models.generate import Sampling, reply
from hardscale.models.window import window
from hardscale.runtime.console import Progress, say
from hardscale.runtime.memory import Budget
from hardscale.settings.chat import ModelName
from hardscale.settings.utility import MtBenchSettings
from hardscale.tasks.chat import load_chat_task
from hardscale.tasks.copies import first_copies
from hardscale.tasks.fetch import file_here
from hardscale.tasks.formats.files import MAX_TEXT_BYTES
from hardscale.tasks.formats.json_table import parsed
from hardscale.untrusted.guarded import read_text
from hardscale.untrusted.naming import brief

KEYS = frozenset({"cell", "defense", "round", "settings", "seed"})
#: Replies to the turns of each question, in order; None for a turn that could not be asked.
Replies = list[list[str | None]]


N_TURNS = 2
#: Temperature at which the public benchmark samples the replies of a category; 0 is greedy.
TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
#: ... of any other category.
OTHER_TEMPERATURE = 0.7


def run_mt_bench(
    victim: Path, task: Path, spec: dict[str, Any], out: Path, root: Path | None = None, judge: Path | None = None
) -> None:
    """Measure a chat model and publish an ``mt_bench`` artifact.

    Args:
        victim: ``model`` artifact of a chat model.
        task: ``task`` artifact of kind behaviors, for its system prompt.
        spec: ``cell defense round settings seed``; settings as in :class:`MtBenchSettings`.
        out: folder to publish.
        root: data root, where the questions are looked for if they are not there by their path.
        judge: ``base_model`` or ``model`` artifact that rates; None where a function does.

    Raises:
        StudyError: the spec is malformed.
        AttackError: the function that rates is not there or fails.
        DataError: the questions are not there or malformed.
    """
    settings = check_settings(spec, KEYS, MtBenchSettings)
    dialogues, digest = read_dialogues(settings.questions, settings.n_questions, root)
    chat = load_chat_task(task)
    # A function is looked for before the hours of answering.
    function = None if isinstance(settings.judge, ModelName) else FunctionAsker(settings.judge)
    if function is None and judge is None:
        raise AttackError("mt_bench: no model that rates; give --judge FOLDER")
    written, facts = _answered(victim, chat.facts["system_prompt"], dialogues, settings, spec["seed"])
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()  # the answering model's place is for the rating one
    say("mt_bench: rating")
    asker = function or Asker(Path(judge or ""), settings.max_reply_tokens, MAX_NEW_TOKENS)
    rows = _ratings(asker, dialogues, written, judge_name(settings))
    inputs = {"victim": Path(victim), "task": Path(task), **({"judge": Path(judge)} if judge else {})}
    with publishing(out, "mt_bench", spec, inputs) as draft:
        found = measures(dialogues, written, rows, settings)
        write_table(draft.path / "utility.parquet", found, UTILITY)
        write_private(draft.path / "ratings.parquet", rows, RATINGS)
        draft.note(questions_sha256=digest, n_questions=len(dialogues), **facts)
    say("  ".join(f"{row['metric']} {row['value']:.4g}" for row in found if row["value"] is not None))


def judge_name(settings: MtBenchSettings) -> str:
    """What the judge is called in tables."""
    judge = settings.judge
    return f"rating-{judge.family}-{judge.scale}" if isinstance(judge, ModelName) else judge


# --- answering ------------------------------------------------------------------------------------------------------


class _Conversations(ChatTemplate):
    """A chat template that writes conversations up to where the next reply begins."""

    def going_on(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation that ends with the user's words, the beginning of the reply included.

        Raises:
            ModelError: the template refuses the conversation, or drops or changes what the user says.
        """
        rendered = self._render(messages, reply=True)
        if any(text not in rendered for role, text in messages if role == "user"):
            raise self._bad("the template drops or changes the user's words", "use another model")
        return self.rendered_ids(rendered)


def _answered(
    victim: Path, system_prompt: str | None, dialogues: Sequence[Dialogue], settings: MtBenchSettings, seed: int
) -> tuple[Replies, dict[str, Any]]:
    """Replies to every turn, and facts of the model that wrote them."""
    model, tokenizer = load_on_device(victim)
    template = _Conversations(tokenizer, system_prompt)
    limit = window(model)
    written: Replies = [[] for _ in dialogues]
    budget = Budget()
    for turn in range(N_TURNS):
        prompts: dict[int, list[int]] = {}
        for i, one in enumerate(dialogues):
            ids = _prompt(template, one, written[i])
            if 0 < len(ids) < limit:
                prompts[i] = ids
        progress = Progress(len(prompts), f"turn {turn + 1}", "reply")
        found: dict[int, str] = {}
        for temperature, group in _by_temperature(dialogues, prompts, settings):
            sample = Sampling(temperature, 1.0, derive_seed(seed, "turn", turn + 1)) if temperature else None
            texts = reply(
                model,
                tokenizer,
                [prompts[i] for i in group],
                settings.max_new_tokens,
                sample=sample,
                budget=budget,
                keys=[dialogues[i].key for i in group],
                callback=progress.update,
            )
            found |= {i: text.strip() for i, text in zip(group, texts, strict=True)}
        progress.close()
        for i, replies in enumerate(written):
            replies.append(found.get(i))
    facts = {"n_params": sum(one.numel() for one in model.parameters()), "template_sha256": template.sha256}
    return written, facts


def _prompt(template: _Conversations, one: Dialogue, replies: Sequence[str | None]) -> list[int]:
    """Tokens up to the next reply; none where the turn cannot be asked."""
    messages: list[Message] = []
    for asked, answered in zip(one.turns, replies, strict=False):
        if answered is None:
            return []
        messages += [("user", asked), ("assistant", answered)]
    try:
        return template.going_on([*messages, ("user", one.turns[len(replies)])])
    except ModelError:
        return []


def _by_temperature(
    dialogues: Sequence[Dialogue], prompts: dict[int, list[int]], settings: MtBenchSettings
) -> list[tuple[float, list[int]]]:
    if settings.sampling == "greedy":
        return [(0.0, list(prompts))]
    groups: dict[float, list[int]] = {}
    for i in prompts:
        groups.setdefault(dialogues[i].temperature, []).append(i)
    return sorted(groups.items())


# --- rating ---------------------------------------------------------------------------------------------------------


def _ratings(asker: Any, dialogues: Sequence[Dialogue], written: Replies, judge: str) -> list[dict[str, Any]]:
    """Rows of RATINGS: every reply that was written."""
    places = [(i, turn) for i, replies in enumerate(written) for turn, text in enumerate(replies) if text is not None]
    asked = [_rated(dialogues[i], turn, written[i]) for i, turn in places]
    return [
        {
            "question_id": dialogues[i].question_id,
            "category": dialogues[i].category,
            "turn": turn + 1,
            "rating": value,
            "judge": judge,
            "raw": raw,
            "reply": one.reply,
        }
        for (i, turn), one, (value, raw) in zip(places, asked, rate(asker, asked), strict=True)
    ]


def _rated(one: Dialogue, turn: int, replies: Sequence[str | None]) -> Rated:
    earlier = (one.turns[0], replies[0] or "") if turn else None
    return Rated(N_TURNS * one.key + turn, one.turns[turn], replies[turn] or "", earlier, one.references[turn])


def measures(
    dialogues: Sequence[Dialogue], written: Replies, rows: Sequence[dict[str, Any]], settings: MtBenchSettings
) -> list[dict[str, Any]]:
    """Rows of UTILITY: the mean of all ratings, of each turn's, and how many replies have none.

    The ratings of one question go together. A reply whose rating cannot be read, and a turn that could not be asked,
    have no part in a mean; both are counted.
    """
    unread = sum(row["rating"] is None for row in rows)
    left = sum(text is None for replies in written for text in replies)
    detail = f"rated 1 to 10 by {judge_name(settings)}; {settings.sampling}; {unread} unread, {left} not asked"
    found = []
    for metric, turns in (("mt_bench", (1, 2)), ("mt_bench_first_turn", (1,)), ("mt_bench_second_turn", (2,))):
        ratings: dict[str, list[float]] = {one.question_id: [] for one in dialogues}
        for row in rows:
            if row["turn"] in turns and row["rating"] is not None:
                ratings[row["question_id"]].append(row["rating"])
        each = [values for values in ratings.values() if values]
        found.append(mean_row(metric, [sum(values) for values in each], [len(values) for values in each], detail))
    count = {"metric": "mt_bench_unparsed", "value": float(unread), "n": len(rows), "ci_low": None, "ci_high": None}
    return [*found, {**count, "detail": f"replies whose rating cannot be read; {left} turns not asked"}]


@dataclass(frozen=True)
class Dialogue:
    """A question of two turns.

    Attributes:
        key: its row in the file, from 0.
        question_id: its name.
        category: what it tests.
        turns: the user's words.
        references: a right answer to each turn, None where there is none.
    """

    key: int
    question_id: str
    category: str
    turns: tuple[str, str]
    references: tuple[str | None, str | None]

    @property
    def temperature(self) -> float:
        """That of the public benchmark."""
        return TEMPERATURES.get(self.category, OTHER_TEMPERATURE)


def read_dialogues(source: str, n: int | None, root: Path | None) -> tuple[list[Dialogue], str]:
    """Questions at equal distances in the file, and its digest.

    Raises:
        DataError: the file is not there, or a row of it has another form; the line names file and row.
    """
    path = file_here("utility.mt_bench.questions", source, root)
    found = [_dialogue(f"{path}: row {number}", number - 1, row) for number, row in _rows(path)]
    if not found:
        raise DataError(f"{path}: no questions in it; give a question.jsonl with at least one")
    names = [one.question_id for one in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DataError(f"{path}: question_id {brief(double)} is there twice; ids must differ")
    once = first_copies(found, lambda one: one.turns)
    if len(once) < len(found):
        say(f"{path}: {len(found) - len(once)} copies of earlier questions left out")
    return spread(once, n or len(once)), sha256_file(path)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    text = read_text(path, "a file of questions", max_bytes=MAX_TEXT_BYTES, byte_order_mark=True)
    number = 0
    for line in text.split("\n"):
        if line.strip():
            number += 1
            yield number, parsed(f"{path}: row {number} is not JSON", line)


def _dialogue(where: str, key: int, row: Any) -> Dialogue:
    if not isinstance(row, dict):
        raise DataError(f"{where} is {type(row).__name__}, expected an object with question_id, category, turns")
    name, category, turns = (row.get(column) for column in ("question_id", "category", "turns"))
    if not isinstance(name, str | int) or isinstance(name, bool) or not isinstance(category, str):
        raise DataError(f"{where}: question_id and category must be there, as texts; fix the row")
    if not _texts(turns) or len(turns) != N_TURNS or not all(turn.strip() for turn in turns):
        raise DataError(f"{where}: turns must be a list of two texts; fix or remove the row")
    known = row.get("reference") or []
    if not _texts(known) or len(known) > N_TURNS:
        raise DataError(f"{where}: reference must be a list of at most two texts; fix or remove it")
    references: list[str | None] = [text.strip() or None for text in known]
    references += [None] * (N_TURNS - len(known))
    first, second = (turn.strip() for turn in turns)
    return Dialogue(key, str(name), category, (first, second), (references[0], references[1]))


def _texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
