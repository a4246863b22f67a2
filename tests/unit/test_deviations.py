"""Where a study differs from the published runs is said, setting by setting, and said nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hardscale.papers import values
from hardscale.papers.chat_table import published_table, with_table
from hardscale.papers.deviations import deviations, lines
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import Study, parse_study, read_yaml
from hardscale.settings.study_attacks import ATTACK_KINDS
from hardscale.settings.study_defenses import DEFENSE_KINDS

ROOT = Path(__file__).parents[2]
GEMMA = "google/gemma-1.1-2b-it"
#: Settings of a block that nobody published a value of, or that change no result.
UNPUBLISHED = {
    "c_advul": {"kind", "overrides"},
    "c_advipo": {"kind", "overrides"},
    "r2d2": {"kind", "overrides", "utility_batch", "max_tokens", "away_weight", "toward_weight", "utility_weight",
             "share_prompts", "optimizer"},
    "adversarial_rounds": {"kind", "overrides", "n_clean", "rounds_per_job", "rounds"},
    "gcg": {"kind", "overrides", "candidate_rng", "seed"},
    "autodan": {"kind", "overrides", "position", "seed"},
    "pair": {"kind", "overrides", "position", "seed"},
    "adaptive": {"kind", "overrides", "position", "seed"},
    "inner": {"n_suffix_tokens"},
}  # fmt: skip


def study_of(name: str) -> dict[str, Any]:
    return read_yaml(ROOT / "studies" / name)


def found(values: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one.place, one.key) for one in deviations(parse_study(values, "study"))}


def changed(values: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The study with another value at a dotted place."""
    head, _, rest = place.partition(".")
    inner = changed(values.get(head) or {}, rest, value) if rest else value
    return {**values, head: inner}


# --- the studies of this repository ---------------------------------------------------------------------------------


def test_the_chat_study_differs_in_exactly_what_is_known() -> None:
    assert lines(parse_study(study_of("chat.yaml"), "chat.yaml")) == [
        "defenses.refusal-sft: away_weight 0 (0.5), attack none (10 signed steps)",
        "attacks.autodan: roulette softmax (sum), mutator rules (mistralai/Mistral-7B-Instruct-v0.2), pool_file none "
        "(HarmBench's initial prompts)",
        "attacks.pair: judge_prompt_file none (the judge's prompts)",
        "utility: mt_bench.judge Qwen/Qwen2.5-32B-Instruct (GPT-4)",
        "prompts of chat models have the system text of their own templates, not that of the published code",
        "references of C-AdvIPO belong to their own rows (in the published code to those of others, by an error)",
        "each step holds its share of adversarial rows, in an order of the study's seed (published: rows are drawn one "
        "by one), training takes the precision of its site (published: float16) and perturbations are in float32 "
        "(published: in the type of the embeddings)",
        "GCG never stops early (published: by loss and a short reply)",
        "AutoDAN stops by its loss alone (published: also by a short reply)",
        "PAIR's attacker is told its task in our words",
        "the adaptive attack has our template and no restarts (published: 10)",
        "harmless requests are our own list",
        "benchmarks are asked with the chat template (published: without)",
        "MT-Bench's judge is asked in our words",
    ]


def test_the_scaling_studies_differ_in_exactly_what_is_known() -> None:
    tokenizer = "an example is left out as too long by the tokenizer of its own family (published: by any of four)"
    assert lines(parse_study(study_of("pythia.yaml"), "pythia.yaml")) == [
        "instructions of tasks are in our words",
        tokenizer,
        "words are of another list than the published one, where they have 7.2 letters on average (here 9.6)",
    ]
    assert lines(parse_study(study_of("qwen.yaml"), "qwen.yaml")) == [
        "judges.0: model Qwen/Qwen2.5-32B-Instruct (GPT-4o), wording own (published)",
        "instructions of tasks are in our words",
        tokenizer,
        "requests have no answer prompt behind them",
    ]


def test_a_judge_of_the_scaling_study_is_none_of_its_victims() -> None:
    study = parse_study(study_of("qwen.yaml"), "qwen.yaml")
    victims = {(cell.family, cell.scale) for cell in study.cells()}
    judges = {(judge.model.family, judge.model.scale) for judge in study.judges if judge.model}
    assert judges and not judges & victims


def test_the_default_study_says_what_its_authors_wrote_by_hand() -> None:
    said = "\n".join(lines(parse_study(read_yaml(ROOT / "config.yaml"), "config.yaml"), chat=False))
    for part in ("n_candidates 8 (128)", "top_k 16 (256)", "probability 0.5 (0)", "fraction 0.3 (0.8)",
                 "words.max_length 6 (22)", "adamw (adafactor)", "per_example (restart)"):  # fmt: skip
        assert part in said, part


# --- every setting --------------------------------------------------------------------------------------------------

#: A valid value that is published for none of the settings of this name.
OTHER: dict[str, Any] = {
    "kind": {"optimizer.kind": "adafactor"},
    "schedule": "linear",
    "step_size_mode": "relative_norm",
    "eps_mode": "absolute",
    "norm": "linf",
    "step_rule": "l2",
    "init": "uniform_ball",
    "positions": "user",
    "keep": "best",
    "normalize": "global",
    "quantize": None,
    "targets": ["q_proj"],
    "betas": [0.8, 0.999],
    "away_loss": None,
    "loss": "dpo",
    "initial_text": "x",
    "allowed": "any",
    "held": "last",
    "position": "prefix",
    "sampler": "victim",
    "source": "letters",
    "loss_rank": "true",
    "lora": {"rank": 4},
}
#: A block within a block is replaced whole, so it is given whole before one of its values is changed.
ADAMW = {"kind": "adamw", "learning_rate": 2e-4, "schedule": "cosine", "weight_decay": 0.001, "max_grad_norm": 0.3}
CUTOFF = {"c_advul": "continuous", "c_advipo": "clamp"}


def other(kind: str, key: str, value: Any) -> Any:
    """A valid value that is not the published one."""
    last = key.rpartition(".")[2]
    if key == "optimizer.kind":
        return {"adamw": "adafactor", "adafactor": "adamw"}[value]
    if last == "cutoff_form":
        return CUTOFF[kind]
    if last == "schedule":
        return {"linear": "cosine", "constant": "linear", "cosine": "linear"}[value]
    if last == "allowed":
        return "any" if value == "printable_ascii" else "printable_ascii"
    if last == "held":
        return "last" if value == "best" else "best"
    if last == "candidate_rng":
        return "per_example"
    if last in OTHER and last != "kind":
        return OTHER[last]
    if isinstance(value, bool):
        return not value
    if value is None:
        return 3
    if isinstance(value, int) and last != "warmup_steps":
        return value // 2 if value > 2 else value + 1
    return value / 2 + 0.01 if isinstance(value, float) else value + 7


def of_training() -> list[tuple[str, str, Any]]:
    return [
        (kind, key, other(kind, key, one.value))
        for kind in ("c_advul", "c_advipo")
        for key, one in {**values.DEFENSES[kind], **values.INNER}.items()
        if key not in ("away_loss", "steps")
    ]


@pytest.mark.parametrize(("kind", "key", "value"), of_training())
def test_any_setting_of_a_training_is_seen(kind: str, key: str, value: Any) -> None:
    name = {"c_advul": "c-advul", "c_advipo": "c-advipo"}[kind]
    values = changed(study_of("chat.yaml"), f"defenses.{name}.optimizer", ADAMW)
    assert (f"defenses.{name}", key) not in found(values)
    assert (f"defenses.{name}", key) in found(changed(values, f"defenses.{name}.{key}", value))


def test_steps_in_place_of_epochs_and_another_away_loss_are_seen() -> None:
    values = changed(study_of("chat.yaml"), "defenses.c-advul.steps", 30)
    assert found(values) - found(study_of("chat.yaml")) == {("defenses.c-advul", "steps")}
    # The other away loss is an ablation of the paper, which needs no line.
    values = changed(study_of("chat.yaml"), "defenses.c-advul.away_loss", "log_1_minus_p")
    assert found(values) == found(study_of("chat.yaml"))


@pytest.mark.parametrize("family", ["gemma", "phi-3", "mistral", "zephyr", "llama-2"])
def test_the_radius_is_that_of_each_model(family: str) -> None:
    values = study_of("chat.yaml")
    [row] = values["grid"]
    values["grid"] = [{**row, "families": [family]}]
    values["evaluate"] = [{"attacks": ["direct"], "defenses": ["none", "c-advul", "c-advipo"], "n_examples": 40}]
    assert not {place for place, key in found(values) if key == "attack.eps"}
    for name in ("c-advul", "c-advipo"):
        wrong = changed(values, f"defenses.{name}.overrides", [{"where": {}, "set": {"attack": {"eps": 0.06}}}])
        seen = {place for place, key in found(wrong) if key == "attack.eps"}
        # Of C-AdvIPO on Gemma the paper shows other radii too.
        assert seen == (set() if (name, family) == ("c-advipo", "gemma") else {f"defenses.{name}"})


def test_half_an_ablation_is_none() -> None:
    values = changed(study_of("chat.yaml"), "defenses.c-advul-one-step.attack.step_size", 0.5)
    assert {("defenses.c-advul-one-step", f"attack.{key}") for key in ("steps", "step_size", "step_size_mode")} == (
        found(values) - found(study_of("chat.yaml"))
    )


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (kind, key, other(kind, key, one.value))
        for kind, block in values.ATTACKS["chat"].items()
        for key, one in block.items()
        if key not in ("roulette", "mutator", "pool_file", "attacker", "judge", "judge_prompt_file")
    ],
)
def test_any_setting_of_an_attack_on_chat_models_is_seen(kind: str, key: str, value: Any) -> None:
    values = study_of("chat.yaml")
    assert (f"attacks.{kind}", key) in found(changed(values, f"attacks.{kind}.{key}", value)) - found(values)


def test_models_in_roles_are_compared_by_their_names() -> None:
    values = study_of("chat.yaml")
    for key in ("attacker", "judge"):
        mistral = changed(values, f"attacks.pair.{key}", {"family": "mistral", "scale": "7b"})
        assert ("attacks.pair", key) in found(mistral)
    published_one = changed(values, "attacks.autodan.mutator", {"family": "mistral", "scale": "7b"})
    assert found(values) - found(published_one) == {("attacks.autodan", "mutator")}
    assert "AutoDAN's mutator is asked in our words" in lines(parse_study(published_one, "study"))
    pooled = changed(values, "attacks.autodan.pool_file", "pool.json")
    assert found(values) - found(pooled) == {("attacks.autodan", "pool_file")}
    judged = changed(values, "judges", [{"kind": "rules"}])
    assert ("judges.0", "kind") in found(judged) and ("judges.0", "model") in found(judged)


def test_the_attack_on_embeddings_is_to_follow_the_training() -> None:
    values = study_of("chat.yaml")
    own = {"kind": "embedding", "perturbation": {"step_size": 0.0001, "eps": 0.3}}
    assert {("attacks.embedding", key) for key in ("ball", "perturbation.eps")} <= found(
        changed(values, "attacks.embedding", own)
    )
    assert ("attacks.embedding", "perturbation.step_size") in found(
        changed(values, "attacks.embedding.perturbation.step_size", 0.001)
    )
    assert ("attacks.embedding-undefended", "perturbation.eps") in found(
        changed(values, "attacks.embedding-undefended.overrides", [])
    )
    assert ("attacks.embedding-free", "n_iterations") in found(
        changed(values, "attacks.embedding-free.n_iterations", 20)
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tasks.harmbench.test.n", 50),
        ("tasks.harmbench.max_new_tokens", 100),
        ("tasks.harmbench.utility.max_first_turn_characters", 100),
        ("tasks.harmbench.train.n_targets", 1),
        ("utility.n_harmless", 10),
        ("utility.n_polite", 10),
        ("utility.lm_eval.limit", 100),
        ("utility.mt_bench.sampling", "greedy"),
        ("utility.mt_bench.max_new_tokens", 10),
    ],
)
def test_data_and_measures_are_seen(key: str, value: Any) -> None:
    values = study_of("chat.yaml")
    place = ".".join(key.split(".")[: 2 if key.startswith("tasks") else 1])
    assert (place, key.removeprefix(f"{place}.")) in found(changed(values, key, value)) - found(values)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        *(
            ("finetune", key, other("finetune", key, one.value))
            for key, one in values.FINETUNE.items()
            if key not in ("steps", "optimizer.factored")
        ),
        *(
            ("defenses.gcg-rounds", key, other("adversarial_rounds", key, one.value))
            for key, one in values.DEFENSES["adversarial_rounds"].items()
            if key != "optimizer.factored"
        ),
        *(("attacks.gcg", key, other("gcg", key, one.value))
          for key, one in values.ATTACKS["classifiers"]["gcg"].items()),
        *(("attacks.random-token", key, other("random_token", key, one.value))
          for key, one in values.ATTACKS["classifiers"]["random_token"].items()),
        *(("attacks.beast", key, other("beast", key, one.value))
          for key, one in values.ATTACKS["classifiers"]["beast"].items()),
        *(("tasks.password_match", key, other("task", key, one.value)) for key, one in values.WORDS.items()),
        *(("tasks.imdb", key, other("task", key, one.value))
          for key, one in values.TASK.items() if key != "answer_prompt"),
        ("tasks.imdb", "answer_prompt", "?"),
    ],
)  # fmt: skip
def test_any_setting_of_the_scaling_study_is_seen(place: str, key: str, value: Any) -> None:
    values = {**study_of("pythia.yaml"), "analysis": {}}
    assert (place, key) in found(changed(values, f"{place}.{key}", value)) - found(values)


def test_rounds_and_ramp_are_those_of_each_size() -> None:
    values = study_of("pythia.yaml")
    fewer = changed(values, "defenses.gcg-rounds.overrides", [])
    assert {key for place, key in found(fewer) if place == "defenses.gcg-rounds"} >= {"rounds (12b)", "rounds (160m)"}
    assert ("defenses.gcg-rounds", "attack.n_iterations") in found(
        changed(values, "defenses.gcg-rounds.attack.n_iterations", 16)
    )
    for n in (8, 64):  # without a ramp the paper ran about 32
        assert ("defenses.gcg-rounds-no-ramp", "attack.n_iterations_end") in found(
            changed(values, "defenses.gcg-rounds-no-ramp.attack.n_iterations", n)
        )
    assert ("attacks.gcg-128", "allowed") in found(changed(study_of("qwen.yaml"), "attacks.gcg-128.allowed", None))
    for task, wrong in (("imdb", "last_round"), ("spam", "one_later")):
        where = {"where": {"task": [task]}, "set": {"attack": {"ramp_end": wrong}}}
        rest = values["defenses"]["gcg-rounds"]["overrides"]
        seen = changed(values, "defenses.gcg-rounds.attack.overrides", [])
        seen = changed(seen, "defenses.gcg-rounds.overrides", [*rest, where])
        assert ("defenses.gcg-rounds", "attack.ramp_end") in found(seen)
    assert not {key for _, key in found(values) if key == "attack.ramp_end"}
    greedy = changed(study_of("qwen.yaml"), "tasks.strongreject.sampling", None)
    assert ("tasks.strongreject", "sampling") in found(greedy)
    assert ("attacks.gcg-128", "held") in found(changed(study_of("qwen.yaml"), "attacks.gcg-128.held", None))


def test_every_setting_is_either_published_or_known_not_to_be() -> None:
    inner = values.INNER
    for kind, block in {**DEFENSE_KINDS, **ATTACK_KINDS}.items():
        wanted = {**values.ATTACKS["chat"], **values.DEFENSES}.get(kind)
        if wanted is None:
            continue
        known = {key.partition(".")[0] for key in wanted} | UNPUBLISHED[kind]
        known |= {"attack", "dropout_in_attack"} if kind in ("c_advul", "c_advipo") else set()
        known |= {"attack", "optimizer"} if kind == "adversarial_rounds" else set()
        assert set(block.model_fields) == known, kind
    attack = DEFENSE_KINDS["c_advul"](kind="c_advul").attack  # type: ignore[attr-defined,call-arg]
    settings = {f"attack.{name}" for name in type(attack).model_fields} - {"attack.eps"}
    assert settings == {key for key in inner if key.startswith("attack.")} | {"attack.n_suffix_tokens"}


# --- where it is shown ----------------------------------------------------------------------------------------------


def test_captions_say_what_their_figure_is_about() -> None:
    values = study_of("qwen.yaml")
    values = changed(values, "defenses.gcg-rounds.loss_rank", "true")
    specs = Jobs(parse_study(values, "qwen.yaml")).specs
    chat, plain = (specs.deviations(SimpleNamespace(figure=name)) for name in ("robustness_bars", "attack_scaling"))
    assert "GPT\\-4o" in chat and "argsort" not in chat
    assert "argsort" in plain and "GPT" not in plain
    assert all(word in specs.all_deviations() for word in ("GPT-4o", "argsort"))


def test_no_text_of_a_study_becomes_markup() -> None:
    values = changed(study_of("chat.yaml"), "attacks.gcg.initial_text", "</script><!-- `x`_ {7} $")
    specs = Jobs(parse_study(values, "chat.yaml")).specs
    shown = specs.deviations(SimpleNamespace(figure="ablations"))
    assert "<\\/script\\>" in shown and "</script" not in shown and "</script" not in specs.all_deviations()


def test_the_docs_have_the_table_that_the_code_has() -> None:
    page = (ROOT / "docs/chat.md").read_text(encoding="utf-8")
    study = parse_study(study_of("chat.yaml"), "chat.yaml")
    assert with_table(page, published_table(study)) == page, "run `make schema`"


def test_no_torch_is_loaded() -> None:
    code = "import sys, hardscale.papers.deviations, hardscale.papers.chat_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", check=False).returncode == 0


def test_a_study_like_none_of_these_has_no_lines() -> None:
    study: Study = parse_study(
        {
            "name": "mine",
            "tasks": {"tickets": {"source": "x.csv", "text": "t", "label": "l", "labels": ["a", "b"]}},
            "families": {"pythia": {"scales": ["14m"]}},
            "grid": [{"tasks": ["tickets"], "families": ["pythia"], "seeds": [0]}],
            "attacks": {"gcg": {"kind": "gcg", "n_iterations": 10}},
            "evaluate": [{"attacks": ["gcg"], "n_examples": 200}],
        },
        "mine.yaml",
    )
    assert lines(study) == []


def test_seeds_of_each_model_are_no_difference_and_another_one_for_all_is() -> None:
    values = study_of("pythia.yaml")
    assert "attacks.gcg" not in {place for place, _ in found(changed(values, "attacks.gcg.seed", None))}
    assert ("attacks.gcg", "seed") in found(changed(values, "attacks.gcg.seed", 7))
