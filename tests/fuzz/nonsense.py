"""What no study may say, whatever the code thinks of it: what is empty, unknown, beyond its bounds or contradictory.

Written from docs/study.md and from what a reader expects of it, on values that the code under test never saw. A study
that loads although one of these fires was accepted wrongly. Each function yields a line for what it finds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any

import documented
from documented import as_number
from plain_study import Cell, PlainStudy, listed, mapping, number, value

#: More than any cluster could mean, of whatever is counted.
MOST = 10**15
#: Of what a study lists one by one, or a model is made of.
MOST_OF = {
    "rounds": 10**5,
    "steps": 10**12,
    "checkpoints": 10**5,
    "shards": 10**6,
    "ranks": 10**6,
    "n_layers": 10**5,
    "width": 10**7,
    "n_heads": 10**6,
    "vocab_size": 10**8,
    "max_positions": 10**9,
    "max_length": 10**6,
    "n_attack_tokens": 10**7,
    "n_suffix_tokens": 10**7,
    "max_tokens": 10**9,
    "max_new_tokens": 10**9,
    "n_candidates": 10**9,
    "n_iterations": 10**9,
    "population": 10**8,
    "beam": 10**8,
    "streams": 10**8,
    "shots": 10**8,
    "batch_size": 10**9,
}
#: Keys that are rates, sizes or counts: never below 0, and those in ABOVE not 0 either.
NOT_BELOW = ("weight_decay", "warmup_steps", "seed", "num_fewshot", "retries", "sampling_decay", "clean_weight")
ABOVE = ("learning_rate", "eps", "step_size", "batch_size", "steps", "epochs", "rounds", "temperature", "max_grad_norm")
#: Shares: from 0 to 1.
SHARES = (
    *("max_adversarial_fraction", "loss_rank_weight", "elite_share", "crossover_probability", "mutation_probability"),
    *("probability", "dropout", "adversarial_share", "reset_share", "validation_fraction", "top_p"),
)
#: Texts that must say something.
TOLD = (
    *("source", "text", "label", "behaviors", "targets", "safe_answers", "hub", "path", "gguf", "questions", "root"),
    *("initial_text", "target", "prompt_file", "prompt_package", "references", "pool_file", "base", "adapter"),
    *("request_column", "id_column", "harmless", "mmlu", "polite", "extends", "revision", "prompt"),
)


def found(values: dict[str, Any]) -> list[str]:
    """What a merged study may not say; nothing if it is right."""
    lines = list(documented.wrong(values, documented.STUDY))
    if lines:
        return lines
    study = PlainStudy(values)
    return [line for rule in RULES for line in rule(study)]


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Path and value of everything in a study, containers too."""
    yield path, value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, key))


def _key(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _name(path: tuple[Any, ...]) -> str:
    """The last key of a path that is no place in a list."""
    return next((str(key) for key in reversed(path) if isinstance(key, str)), "")


def _free(path: tuple[Any, ...]) -> bool:
    """Whether a path leads into what an override sets, or to a name that the study gives."""
    return len(path) > 1 and path[-2] in ("headline_iteration", "limit", "num_fewshot", "ranks")


# --- values by themselves -------------------------------------------------------------------------------------------


def empty_lists(study: PlainStudy) -> Iterator[str]:
    """Nothing chosen, where leaving the key out would mean all or the default."""
    for path, one in _leaves(study.values):
        if one == [] and _name(path) != "overrides":
            yield f"{_key(path)}: empty"
    yield from (f"{key}: empty" for key in ("tasks", "families") if not study.values.get(key))


def blanks(study: PlainStudy) -> Iterator[str]:
    """Texts that say nothing, and labels among them."""
    for path, one in _leaves(study.values):
        told = _name(path) in (*TOLD, "labels", "ids", "categories") or path == ("name",)
        if told and isinstance(one, str) and not one.strip():
            yield f"{_key(path)}: blank"


def numbers(study: PlainStudy) -> Iterator[str]:
    """Of rates, counts and shares, wherever they stand."""
    for path, one in _leaves(study.values):
        name, found = _name(path), as_number(one)
        if isinstance(one, float) and found is None:
            yield f"{_key(path)}: {one}"
        if isinstance(one, datetime.date | bytes | set | tuple):
            yield f"{_key(path)}: {type(one).__name__}"
        if found is None or _free(path):
            continue
        if abs(found) > MOST and name not in ("seed", "seeds"):
            yield f"{_key(path)}: {one}"
        if found > MOST_OF.get(name, MOST * 10**6) or (name in ("seed", "seeds") and found >= 2**64):
            yield f"{_key(path)}: {one} is more than there can be"
        if (name in NOT_BELOW and found < 0) or (name in ABOVE and found <= 0) or (name == "seeds" and found < 0):
            yield f"{_key(path)}: {one} is too small"
        if name in SHARES and not 0 <= found <= 1:
            yield f"{_key(path)}: {one} is no share"
        if name == "betas" and not 0 <= found < 1:
            yield f"{_key(path)}: {one}: a moment never changes"
        if name == "target_asr" and not 0 < found < 1:
            yield f"{_key(path)}: {one} is no rate between 0 and 1"
        if name[:2] == "n_" and found < 1:
            yield f"{_key(path)}: {one} of them"


def characters(study: PlainStudy) -> Iterator[str]:
    """Names that are paths, patterns or commands of a terminal."""
    named = {key for part in ("tasks", "families", "defenses", "attacks") for key in mapping(study.values.get(part))}
    named |= {scale for family in study.families for scale in study.scales(family)}
    for name in (*named, study.values.get("name")):
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", str(name)) or (".." in str(name) and "/" in str(name)):
            yield f"{name!r}: no name"
    for name in study.attacks:
        if re.search(r"\.\d+of\d+$", str(name)):
            yield f"attacks.{name}: named like a part of another"


# --- names ----------------------------------------------------------------------------------------------------------


def unknown_names(study: PlainStudy) -> Iterator[str]:
    """Names that nothing has."""
    scales = {str(scale) for family in study.families for scale in study.scales(family)}
    for i, row in enumerate(study.grid):
        yield from _unknown(f"grid.{i}.tasks", row.get("tasks"), study.tasks)
        yield from _unknown(f"grid.{i}.families", row.get("families"), study.families)
        for family in listed(row.get("families")):
            yield from _unknown(f"grid.{i}.scales", row.get("scales"), study.scales(family))
    for i, row in enumerate(study.rows):
        yield from _unknown(f"evaluate.{i}.attacks", row.get("attacks"), study.attacks)
        yield from _unknown(f"evaluate.{i}.defenses", row.get("defenses"), ["none", *study.defenses])
    yield from _unknown("ranks", list(mapping(study.values.get("ranks"))), ["default", *scales])
    headline = mapping(mapping(study.values.get("analysis")).get("headline_iteration"))
    for entry in map(str, headline):
        task, slash, rest = entry.rpartition("/")
        attack, at, defense = rest.partition("@")
        yield from _unknown("analysis.headline_iteration", [attack], study.attacks)
        yield from _unknown("analysis.headline_iteration", [task] if slash else [], study.tasks)
        yield from _unknown("analysis.headline_iteration", [defense] if at else [], ["none", *study.defenses])
    for path, one in _leaves(study.values):
        if _name(path) == "where" and isinstance(one, dict):
            known = {"task": study.tasks, "family": study.families, "scale": scales}
            for key, names in known.items():
                yield from _unknown(f"{_key(path)}.{key}", one.get(key), names)
            yield from (f"{_key(path)}.{key}: unknown" for key in one if key not in (*known, "seed"))
        if isinstance(one, dict) and set(one) == {"family", "scale"} and _name(path) != "where":
            yield from _unknown(f"{_key(path)}.family", [one["family"]], study.families)
            yield from _unknown(f"{_key(path)}.scale", [one["scale"]], study.scales(one["family"]))
    lm_eval = mapping(mapping(study.values.get("utility")).get("lm_eval"))
    for key in ("limit", "num_fewshot"):
        tasks = lm_eval.get("tasks") or ["mmlu", "arc_easy", "arc_challenge"]
        yield from _unknown(f"utility.lm_eval.{key}", list(mapping(lm_eval.get(key))), tasks)
    known_tasks = ("password_match", "word_length", "imdb", "spam", "helpful", "harmless")
    for name, task in study.tasks.items():
        if not mapping(task).get("kind") and not mapping(task).get("source") and name not in known_tasks:
            yield f"tasks.{name}: neither built in nor described"


def _unknown(key: str, names: Any, known: Any) -> Iterator[str]:
    yield from (f"{key}: nothing is called {name!r}" for name in listed(names) if str(name) not in map(str, known))


# --- what means nothing ---------------------------------------------------------------------------------------------


def nothing_meant(study: PlainStudy) -> Iterator[str]:
    """Choices of no cell, rounds that no model has."""
    if "evaluate" in study.values and not study.rows:
        yield "evaluate: nothing"
    if not study.cells:
        yield "grid: no cell"
    for i, row in enumerate(study.rows):
        if not study.of_row(row):
            yield f"evaluate.{i}.where: no cell"
        if isinstance(rounds := row.get("rounds"), list):
            last = max((_rounds(study, name, cell) for name, cell in _trained(study, row)), default=0)
            numbers = [one for one in rounds if one not in ("paper", "last")]
            yield from (f"evaluate.{i}.rounds: there is no {one}" for one in numbers if not 0 <= int(one) <= last)
    for key, block in _overridable(study):
        for i, override in enumerate(listed(mapping(block).get("overrides"))):
            where = mapping(mapping(override).get("where"))
            scales, families = where.get("scale"), where.get("family") or list(study.families)
            had = {str(scale) for family in listed(families) for scale in study.scales(family)}
            # Of a wider grid: a study may run a part of what it extends.
            if scales is not None and not had & set(map(str, listed(scales))):
                yield f"{key}.overrides.{i}.where: no such model"


def _trained(study: PlainStudy, row: dict[Any, Any]) -> Iterator[tuple[str, Cell]]:
    for name in listed(row.get("defenses")):
        if name in study.defenses:
            yield from ((name, cell) for cell in study.of_row(row))


def _rounds(study: PlainStudy, name: str, cell: Cell) -> int:
    ((_, form),) = study.forms(study.defenses[name], [cell])
    block = {"adversarial_rounds": ("AdversarialRounds", "rounds"), "c_at": ("CAt", "checkpoints")}.get(
        form.get("kind", "adversarial_rounds")
    )
    return int(number(form, *block) or 0) if block else 1


def _overridable(study: PlainStudy) -> Iterator[tuple[str, Any]]:
    """Every block that may have overrides, those within others too."""
    for path, block in documented.placed(study.values, documented.STUDY):
        if "overrides" in documented.blocks()[block]:
            value: Any = study.values
            for key in path:
                value = value[key]
            yield _key(path), value


def overrides_are_settings(study: PlainStudy) -> Iterator[str]:
    """Every block as it holds for a cell says only what the page knows, and sets nothing that is not looked at."""
    for part, blocks, name in (
        ("attacks", study.attacks, "attacks"),
        ("defenses", study.defenses, "defenses"),
        ("", {"finetune": mapping(study.values.get("finetune"))}, "finetune"),
    ):
        types = documented.blocks()["Study"][name].types
        for key, block in blocks.items():
            place = f"{part}.{key}".lstrip(".")
            for i, override in enumerate(listed(mapping(block).get("overrides"))):
                if "overrides" in mapping(mapping(override).get("set")):
                    yield f"{place}.overrides.{i}.set.overrides: never looked at"
            for _, form in study.forms(block):
                whole = {key: form} if part else form
                yield from documented.wrong(whole, types, f"{place} with overrides")


# --- what contradicts -----------------------------------------------------------------------------------------------


def training(study: PlainStudy) -> Iterator[str]:
    """Lengths of trainings, of each cell that has one."""
    for cell, form in study.forms(mapping(study.values.get("finetune")) or {}):
        yield from _length(f"finetune of {cell}", form, "FinetuneSettings", 3)
    for name, block in study.defenses.items():
        kind = mapping(block).get("kind", "adversarial_rounds")
        for cell, form in study.forms(block):
            place = f"defenses.{name} of {cell}"
            if kind == "c_at":
                yield from _length(place, form, "CAt", 1)
                steps, stages = number(form, "CAt", "steps"), number(form, "CAt", "checkpoints")
                if steps is not None and stages is not None and stages > steps:
                    yield f"{place}: {stages} checkpoints of {steps} steps"
            if kind in ("c_advul", "c_advipo"):
                yield from _length(place, form, "CAdvUL" if kind == "c_advul" else "CAdvIPO", 5)
            if kind == "r2d2":
                yield from _length(place, form, "R2D2", None)
                if (number(form, "R2D2", "cases_per_step") or 0) > (number(form, "R2D2", "pool_size") or 0):
                    yield f"{place}: more cases a step than the pool has"
    for name, family in study.families.items():
        pretrain = mapping(family).get("pretrain")
        for cell, form in study.forms(pretrain) if pretrain else ():
            steps, warmup = number(form, "PretrainSettings", "steps"), number(form, "PretrainSettings", "warmup_steps")
            if steps is not None and warmup is not None and warmup > steps:
                yield f"families.{name}.pretrain of {cell}: {warmup} warm-up steps of {steps}"


def _length(place: str, form: dict[Any, Any], block: str, epochs: int | None) -> Iterator[str]:
    steps = as_number(form.get("steps", documented.default(block, "steps")))
    if epochs is not None and steps is None and form.get("epochs", epochs) is None:
        yield f"{place}: neither epochs nor steps"
    warmup = as_number(mapping(form.get("optimizer")).get("warmup_steps", 0))
    if steps is not None and warmup is not None and warmup > steps:
        yield f"{place}: {warmup} warm-up steps of {steps}"


def attacks_fit(study: PlainStudy) -> Iterator[str]:
    """Attacks on the models of the rows that name them."""
    headline = mapping(mapping(study.values.get("analysis")).get("headline_iteration"))
    for name, asked in headline.items():
        attack = str(name).rpartition("/")[2].partition("@")[0]
        lengths = [_iterations(form) for _, form in study.forms(study.attacks.get(attack))]
        if lengths and (as_number(asked) or 0) > max(lengths):
            yield f"analysis.headline_iteration.{name}: {asked} of {max(lengths)}"
    for i, row in enumerate(study.rows):
        examples, shards = number(row, "EvaluateRow", "n_examples"), number(row, "EvaluateRow", "shards")
        if examples is not None and shards is not None and shards > examples:
            yield f"evaluate.{i}.shards: {shards} of {examples} examples"
        for name in listed(row.get("attacks")):
            for cell, form in study.forms(study.attacks.get(name), study.of_row(row)):
                yield from _fits(study, f"evaluate.{i}: {name} on {cell}", cell, form)
        for name in listed(row.get("defenses")):
            for cell in study.of_row(row) if name in study.defenses else ():
                kind = mapping(study.defenses[name]).get("kind", "adversarial_rounds")
                if (kind in ("c_advul", "c_advipo", "r2d2", "external")) != study.is_chat(cell.task):
                    yield f"evaluate.{i}: {name} trains no such model as {cell}"
                if kind == "adversarial_rounds":
                    ((_, form),) = study.forms(study.defenses[name], [cell])
                    attack = {"kind": "gcg", **mapping(form.get("attack"))}
                    yield from _fits(study, f"defenses.{name} of {cell}", cell, attack)


#: Iterations where the study is silent, by kind of attack; the block is found by it in docs/study.md.
_BLOCK_OF = {
    "gcg": "AttackSettings",
    "random_token": "AttackSettings",
    "beast": "Beast",
    "autodan": "AutoDan",
    "pair": "Pair",
    "embedding": "EmbeddingAttack",
    "direct": "Direct",
    "prefill": "Prefill",
    "in_context": "InContext",
    "adaptive": "Adaptive",
    "templates": "Templates",
}
_OF_CHAT = ("autodan", "pair", "direct", "prefill", "in_context", "adaptive", "templates")


def _iterations(form: dict[Any, Any]) -> float:
    block = _BLOCK_OF.get(str(form.get("kind")))
    return (number(form, block, "n_iterations") if block else None) or 0


def _fits(study: PlainStudy, place: str, cell: Cell, form: dict[Any, Any]) -> Iterator[str]:
    kind = form.get("kind")
    if kind in _OF_CHAT and not study.is_chat(cell.task):
        yield f"{place}: {kind} means nothing there"
    family = mapping(study.families.get(cell.family))
    if family.get("source") == "scratch":
        words = number(mapping(family.get("tokenizer")), "TokenizerSettings", "vocab_size")
        window = number(family, "FamilySettings", "max_positions")
        if kind == "gcg" and words is not None and (number(form, "AttackSettings", "top_k") or 0) > words:
            yield f"{place}: top_k above the {words} tokens there are"
        length = number(form, "AttackSettings", "n_attack_tokens")
        if kind == "beast":
            length = number(form, "Beast", "n_iterations")
        if kind in ("gcg", "random_token", "beast") and window is not None and (length or 0) >= window:
            yield f"{place}: {length} tokens in a window of {window}"
    if kind == "adaptive" and (number(form, "Adaptive", "n_replaced") or 0) > (
        number(form, "Adaptive", "n_attack_tokens") or 0
    ):
        yield f"{place}: replaces more tokens than there are"


def balls(study: PlainStudy) -> Iterator[str]:
    """Steps or starts measured by a ball that is none."""
    for path, block in documented.placed(study.values, documented.STUDY):
        if block not in ("Perturbation", "InnerAttack"):
            continue
        one: Any = study.values
        for key in path:
            one = one[key]
        measured = one.get("step_size_mode") == "relative_eps" or one.get("init") == "uniform_ball"
        if measured and "eps" in one and one["eps"] is None:
            yield f"{_key(path)}: measured by a ball of no size"


def models(study: PlainStudy) -> Iterator[str]:
    """Shapes and sources of models, words of tasks, judges."""
    for name, family in study.families.items():
        source = mapping(family).get("source", "builtin")
        if source == "builtin" and name not in BUILTIN:
            yield f"families.{name}: not built in"
        for scale, said in mapping(mapping(family).get("scales")).items():
            place = f"families.{name}.scales.{scale}"
            width, heads = as_number(mapping(said).get("width")), as_number(mapping(said).get("n_heads"))
            if width and heads and (width % heads or (width // heads) % 2):
                yield f"{place}: {width} for {heads} heads"
            if source == "models" and sum(bool(mapping(said).get(key)) for key in ("hub", "path", "gguf")) != 1:
                yield f"{place}: not one source"
            if source == "scratch" and mapping(said).keys() & {"hub", "path", "gguf"}:
                yield f"{place}: exists already"
    for name, task in study.tasks.items():
        words = mapping(mapping(task).get("words"))
        low, high = number(words, "WordSource", "min_length"), number(words, "WordSource", "max_length")
        if low is not None and high is not None and low > high:
            yield f"tasks.{name}.words: from {low} to {high} letters"
        labels = listed(mapping(task).get("labels"))
        if labels and (len(labels) < 2 or len(set(map(str, labels))) < len(labels)):
            yield f"tasks.{name}.labels: not two different ones"
    for i, judge in enumerate(listed(study.values.get("judges"))):
        asks = mapping(judge).get("kind") in ("harmbench", "strongreject_finetuned", "rubric")
        if asks != bool(mapping(judge).get("model")):
            yield f"judges.{i}: a model where none is asked, or none where one is"


BUILTIN = ("pythia", "qwen2.5")

RULES: tuple[Callable[[PlainStudy], Iterator[str]], ...] = (
    *(empty_lists, blanks, numbers, characters, unknown_names, nothing_meant),
    *(overrides_are_settings, training, attacks_fit, balls, models),
)
__all__ = ["RULES", "found", "value"]
