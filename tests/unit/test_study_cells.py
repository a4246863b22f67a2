"""What is empty, unknown or contradictory is refused at load, with its key, in every cell as it would be run."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest

from hardscale.errors import StudyError
from hardscale.settings.study import data_root, parse_study, read_yaml

ROOT = Path(__file__).parents[2]
GONE = object()


def base(name: str) -> dict[str, Any]:
    return read_yaml(ROOT / ("config.yaml" if name == "nano" else f"studies/{name}.yaml"))


BASES = {name: base(name) for name in ("nano", "chat", "pythia", "qwen")}


def changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A study with other values at some places: ``a/0/b``; the mappings on the way are made where they are missing."""
    values = copy.deepcopy(BASES[name])
    for place, value in changes.items():
        node: Any = values
        *parents, last = [int(step) if step.isdecimal() else step for step in place.split("/")]
        for step in parents:
            node = node[step] if isinstance(node, list) else node.setdefault(step, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return values


def refusal(name: str, changes: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        parse_study(changed(name, changes), "s.yaml")
    return str(caught.value)


def over(where: dict[str, Any], **values: Any) -> list[dict[str, Any]]:
    return [{"where": where, "set": values}]


RNDS, CAT = "defenses/adversarial-rounds", "defenses/c-at"
EMPTY = [
    ("nano", {"tasks": {}}, "tasks: found an empty mapping"),
    ("nano", {"families": {}}, "families: found an empty mapping"),
    ("nano", {"attacks": {}}, "attacks: found an empty mapping"),
    ("nano", {"grid": []}, "grid: found an empty list"),
    ("nano", {"evaluate": []}, "evaluate: found an empty list"),
    ("nano", {"evaluate": GONE}, "evaluate: this key is required"),
    ("nano", {"judges": []}, "judges: found an empty list"),
    ("nano", {"grid/0/tasks": []}, "grid.0.tasks: found an empty list"),
    ("nano", {"grid/0/families": []}, "grid.0.families: found an empty list"),
    ("nano", {"grid/0/scales": []}, "grid.0.scales: found an empty list"),
    ("nano", {"grid/0/seeds": []}, "grid.0.seeds: found an empty list"),
    ("nano", {"evaluate/0/attacks": []}, "evaluate.0.attacks: found an empty list"),
    ("nano", {"evaluate/0/defenses": []}, "evaluate.0.defenses: found an empty list"),
    ("nano", {"evaluate/0/rounds": []}, "evaluate.0.rounds: found an empty list"),
    ("nano", {"evaluate/1/where/seed": []}, "evaluate.1.where.seed: found an empty list"),
    ("nano", {"analysis/target_asr": []}, "analysis.target_asr: found an empty list"),
    ("nano", {"families/nano/scales": {}}, "families.nano.scales: found an empty mapping"),
    ("nano", {"ranks": {}}, "ranks: found an empty mapping"),
    ("nano", {"finetune/overrides/0/set": {}}, "finetune.overrides.0.set: found an empty mapping"),
    ("nano", {"attacks/gcg/initial_text": ""}, "attacks.gcg.initial_text: found ''"),
    ("nano", {"data/root": " "}, "data.root: found ' '"),
    ("chat", {"tasks/harmbench/test/ids": []}, "tasks.harmbench.test.ids: found an empty list"),
    ("chat", {"tasks/harmbench/target": " "}, "tasks.harmbench.target: found ' '"),
    ("chat", {"utility/lm_eval/tasks": []}, "utility.lm_eval.tasks: found an empty list"),
    ("chat", {"defenses/c-advul/lora": {"targets": []}}, "defenses.c-advul.lora.targets: found an empty list"),
]
UNKNOWN = [
    ("nano", {"ranks": {"default": 1, "12b": 8}}, "ranks: '12b' is not one of default, 220k"),
    ("nano", {"analysis/headline_iteration": {"gcgg": 4}}, "headline_iteration: 'gcgg' is not one of gcg"),
    (
        "nano",
        {"analysis/headline_iteration": {"word_lengths/gcg": 4}},
        "headline_iteration.word_lengths/gcg: 'word_lengths' is not one of password_match, word_length (tasks)",
    ),
    (
        "nano",
        {"analysis/headline_iteration": {"gcg@rounds": 4}},
        "headline_iteration.gcg@rounds: 'rounds' is not one of none, adversarial-rounds, c-at (defenses)",
    ),
    ("nano", {"analysis/headline_iteration": {"gcg@": 4}}, "headline_iteration.gcg@: found 'gcg@', expected the name"),
    ("nano", {"evaluate/1/where": {"seed": [7]}}, "evaluate.1.where.seed: '7' is not one of 0, 1"),
    ("nano", {"evaluate/1/where": {"task": ["imdb"]}}, "evaluate.1.where.task: 'imdb' is not one of"),
    ("nano", {"finetune/overrides": over({"seed": [7]}, steps=60)}, "finetune.overrides.0.where.seed: '7'"),
    (
        "nano",
        {f"{RNDS}/attack/overrides": over({"scale": ["7b"]}, top_k=8)},
        "defenses.adversarial-rounds.attack.overrides.0.where.scale: '7b'",
    ),
    (
        "nano",
        {"families/nano/pretrain": {"overrides": over({"scale": ["7b"]}, steps=60)}},
        "families.nano.pretrain.overrides.0.where.scale: '7b'",
    ),
    (
        "nano",
        {f"{RNDS}/overrides": over({}, attack={"iterations": 3})},
        "overrides.0.set.attack.iterations: unknown key",
    ),
    (
        "nano",
        {f"{RNDS}/attack/overrides": over({}, n_iteration=3)},
        "defenses.adversarial-rounds.attack.overrides.0.set.n_iteration: unknown key",
    ),
    ("nano", {"evaluate/0/rounds": [4]}, "evaluate.0.rounds: found [4], and 'adversarial-rounds' has 3"),
    ("nano", {"evaluate/0/rounds": [1, 99]}, "evaluate.0.rounds: found 99, and its defenses have at most 3"),
    ("nano", {"evaluate/0/rounds": [0, 1]}, "evaluate.0.rounds.0: found 0"),
    ("pythia", {"evaluate/2/rounds": [30, 60]}, "evaluate.2.rounds: found [30, 60], and 'gcg-rounds' has 21 for"),
    ("nano", {"evaluate/1/where": {"task": ["word_length"], "seed": [1]}}, "evaluate.1.where: no cell of the grid"),
    (
        "chat",
        {"defenses/c-advul/overrides": over({"family": ["gemma"], "scale": ["mini"]}, epochs=6)},
        "defenses.c-advul.overrides.0.where: no family has such a scale (mini of gemma)",
    ),
    ("chat", {"attacks/pair/attacker/scale": "large"}, "attacks.pair.attacker.scale: 'large' is not one of mixtral"),
    (
        "chat",
        {"attacks/pair/overrides": over({"family": ["gemma"]}, attacker={"scale": "large"})},
        "attacks.pair.attacker.scale: 'large' is not one of mixtral",
    ),
    ("nano", {"data/root": "~nosuchuser/data"}, "data.root: ~nosuchuser/data: data.root: this has no home folder"),
    (
        "chat",
        {"families/gemma/scales/2b": {"path": "~nosuchuser/gemma"}},
        "families.gemma.scales.2b.path: ~nosuchuser/gemma",
    ),
]
TWICE = [
    ("nano", {"grid/0/seeds": [0, 1, 0]}, "grid.0.seeds: 0 is there twice"),
    ("nano", {"grid/0/tasks": ["password_match"] * 2}, "grid.0.tasks: 'password_match' is there twice"),
    ("nano", {"grid/0/scales": ["30k", "30k"]}, "grid.0.scales: '30k' is there twice"),
    ("nano", {"evaluate/0/attacks": ["gcg", "gcg"]}, "evaluate.0.attacks: 'gcg' is there twice"),
    ("nano", {"evaluate/0/rounds": [1, 1]}, "evaluate.0.rounds: 1 is there twice"),
    ("nano", {"evaluate/1/where/seed": [0, 0]}, "evaluate.1.where.seed: 0 is there twice"),
    ("nano", {"analysis/target_asr": [0.1, 0.1]}, "analysis.target_asr: 0.1 is there twice"),
    (
        "nano",
        {"evaluate/2/attacks": ["gcg"]},
        "evaluate.2: 'gcg' on 'none' for password_match/nano/30k/s0 is already in evaluate.0",
    ),
    ("chat", {"judges/2": {"kind": "rules"}}, "judges.2: the same as judges.1"),
    ("chat", {"tasks/harmbench/test/ids": ["a", "a"]}, "tasks.harmbench.test.ids: 'a' is there twice"),
]
IGNORED = [
    ("nano", {"finetune/epochs": 2}, "finetune.epochs: nothing looks at it where steps is given"),
    (
        "nano",
        {"finetune/overrides": over({"scale": ["80k"]}, epochs=2)},
        "finetune.overrides.0.set.epochs: nothing looks at it where steps is given, as for password_match/nano/80k/s0",
    ),
    ("nano", {"finetune/optimizer/factored": False}, "finetune.optimizer.factored: nothing looks at it"),
    ("pythia", {"finetune/optimizer/betas": [0.9, 0.9]}, "finetune.optimizer.betas: nothing looks at it"),
    ("nano", {"attacks/random-token/top_k": 8}, "attacks.random-token.top_k: nothing looks at it"),
    (
        "nano",
        {"attacks/random-token/overrides": over({"scale": ["80k"]}, gradient=False)},
        "attacks.random-token.overrides.0.set.gradient: nothing looks at it",
    ),
    ("nano", {f"{CAT}/attack/n_suffix_tokens": 5}, "defenses.c-at.attack.n_suffix_tokens: nothing looks at it"),
    ("chat", {"attacks/embedding-free/perturbation": {"eps": None, "norm": "l2"}}, "embedding-free.perturbation.norm"),
    ("chat", {"defenses/ipo/dropout_in_attack": True}, "defenses.ipo.dropout_in_attack: nothing looks at it"),
    ("chat", {"judges/1/max_completion_tokens": 5}, "judges.1.max_completion_tokens: nothing looks at it"),
    ("nano", {"tasks/password_match/max_words": 5}, "tasks.password_match.max_words: a task of this kind"),
    (
        "nano",
        {"tasks/password_match/source": "a.csv", "tasks/password_match/kind": "password_match"},
        "source: a task of",
    ),
    ("pythia", {"tasks/imdb/words": {"min_length": 2}}, "tasks.imdb.words: a task of this kind"),
    ("pythia", {"families/pythia/max_positions": 5}, "families.pythia.max_positions: source: builtin does not look"),
    ("chat", {"families/gemma/tokenizer": {}}, "families.gemma.tokenizer: source: models does not look"),
    (
        "chat",
        {"families/gemma/scales/2b": {"path": "a", "revision": "b"}},
        "families.gemma.scales.2b.revision: found without",
    ),
    ("nano", {"attacks/random-token/candidate_rng": "restart"}, "attacks.random-token.candidate_rng: nothing looks"),
    ("chat", {"attacks/direct/position": "prefix"}, "attacks.direct.position: nothing looks at it"),
    ("chat", {"attacks/adaptive/position": "prefix"}, "attacks.adaptive.position: nothing looks at it"),
    ("chat", {"attacks/embedding/position": "prefix"}, "attacks.embedding.position: nothing looks at it"),
    ("nano", {"utility": {}}, "utility: found in a study without a chat task"),
    ("nano", {"judges": [{"kind": "rules"}]}, "judges: found in a study without a chat task"),
    ("chat", {"finetune": {"steps": 5}}, "finetune: found in a study without a classification task"),
    ("nano", {"evaluate/2/rounds": "last"}, "evaluate.2.rounds: found beside defenses: [none]"),
    (
        "nano",
        {"attacks/gcg/overrides": over({}, kind="random_token")},
        "attacks.gcg.overrides.0.set.kind: this cannot",
    ),
    ("nano", {"attacks/gcg/overrides": over({}, overrides=[])}, "attacks.gcg.overrides.0.set.overrides: this cannot"),
    (
        "nano",
        {"families/nano/pretrain": {"overrides": over({"seed": [0]}, steps=60)}},
        "families.nano.pretrain.overrides.0.where.seed: pretraining differs",
    ),
]
TOGETHER = [
    (
        "nano",
        {"finetune/steps": None, "finetune/epochs": None, "finetune/overrides": []},
        "finetune.epochs: found null beside steps: null",
    ),
    ("nano", {f"{CAT}/steps": None, f"{CAT}/epochs": None}, "defenses.c-at.epochs: found null beside steps: null"),
    (
        "nano",
        {"finetune/overrides": over({}, steps=None) + over({"scale": ["80k"]}, epochs=None)},
        "finetune.overrides: 0, 1 together, for password_match/nano/80k/s0: epochs: found null beside steps: null",
    ),
    (
        "nano",
        {"finetune/overrides": over({}, steps=60) + over({"seed": [1]}, optimizer={"warmup_steps": 61})},
        "finetune.optimizer.warmup_steps: found 61 for password_match/nano/30k/s1, allowed are at most 60",
    ),
    (
        "nano",
        {f"{RNDS}/attack/overrides": over({"scale": ["80k"]}, top_k=513)},
        "defenses.adversarial-rounds.attack.top_k: found 513 for password_match/nano/80k/s0, allowed are at most 512",
    ),
    ("nano", {"finetune/optimizer/warmup_steps": 801}, "finetune.optimizer.warmup_steps: found 801"),
    ("nano", {"finetune/optimizer/betas": [1, 0.9]}, "finetune.optimizer.betas.0: found 1, expected a number of"),
    ("nano", {"finetune/batch_size": 60_000}, "finetune.batch_size: found 60,000"),
    ("nano", {f"{CAT}/checkpoints": 121}, "defenses.c-at.checkpoints: found 121 for"),
    (
        "nano",
        {f"{CAT}/overrides": over({"scale": ["80k"]}, steps=2, optimizer={"warmup_steps": 0})},
        "c-at.checkpoints: found 3",
    ),
    ("nano", {f"{RNDS}/batch_size": 1_281}, "defenses.adversarial-rounds.batch_size: found 1,281"),
    ("nano", {f"{RNDS}/n_new_examples": 51_201}, "defenses.adversarial-rounds.n_new_examples: found 51,201"),
    ("nano", {"evaluate/0/shards": 161}, "evaluate.0.shards: found 161 for n_examples: 160"),
    (
        "nano",
        {"evaluate/0/n_examples": 1_501},
        "evaluate.0.n_examples: found 1,501, and tasks.password_match.n_validation",
    ),
    ("chat", {"evaluate/0/n_examples": 41}, "evaluate.0.n_examples: found 41, and tasks.harmbench.test.n is 40"),
    ("nano", {"attacks/gcg/top_k": 513}, "attacks.gcg.top_k: found 513"),
    ("pythia", {"attacks/gcg/top_k": 50_305}, "attacks.gcg.top_k: found 50,305 for imdb/pythia/14m/s0"),
    ("nano", {"finetune/exposure/max_tokens": 256}, "finetune.exposure.max_tokens: found 256"),
    ("nano", {f"{RNDS}/exposure/max_tokens": 300}, "defenses.adversarial-rounds.exposure.max_tokens: found 300"),
    ("nano", {f"{CAT}/exposure/max_tokens": 300}, "defenses.c-at.exposure.max_tokens: found 300"),
    ("nano", {"attacks/gcg/n_attack_tokens": 256}, "attacks.gcg.n_attack_tokens: found 256"),
    ("pythia", {"attacks/random-token/n_attack_tokens": 1_000}, "attacks.random-token.n_attack_tokens: found 1,000"),
    ("pythia", {"attacks/beast/n_iterations": 1_000}, "attacks.beast.n_iterations: found 1,000"),
    ("chat", {"attacks/adaptive/n_replaced": 26}, "attacks.adaptive.n_replaced: found 26"),
    ("chat", {"defenses/c-advul/micro_batch": 65}, "defenses.c-advul.micro_batch: found 65"),
    ("chat", {"defenses/c-advul/lora": None}, "defenses.c-advul.quantize: found nf4 beside lora: null"),
    (
        "chat",
        {"defenses/refusal-sft/toward_weight": 0, "defenses/refusal-sft/utility_weight": 0},
        "found 0 for harmbench",
    ),
    ("chat", {"attacks/gcg/position": "infix90"}, "attacks.gcg.position: found infix90 for harmbench/gemma/2b/s0"),
    ("chat", {"tasks/harmbench/train": GONE}, "tasks.harmbench.train: absent, and defenses.c-advul trains on it"),
    ("chat", {"tasks/harmbench/utility": GONE}, "tasks.harmbench.utility: absent, and defenses.c-advul trains"),
    ("chat", {"judges": [{"kind": "copyright"}]}, "judges.0: found copyright"),
    (
        "nano",
        {"analysis/headline_iteration": {"gcg": 17}},
        "analysis.headline_iteration.gcg: found 17, and the attack has",
    ),
    (
        "nano",
        {"analysis/headline_iteration": {"gcg": 16}, "attacks/gcg/overrides": over({"scale": ["80k"]}, n_iterations=8)},
        "analysis.headline_iteration.gcg: found 16, and the attack has n_iterations: 8 for password_match/nano/80k/s0",
    ),
    (
        "nano",
        {"analysis/headline_iteration": {"more": 1}, "attacks/more": {"kind": "gcg"}},
        "analysis.headline_iteration.more: no row of `evaluate` runs this attack",
    ),
    (
        "nano",
        {"analysis/headline_iteration": {"gcg": 16, "word_length/gcg@none": 17}},
        "analysis.headline_iteration.word_length/gcg@none: found 17, and the attack has n_iterations: 16",
    ),
    (
        "nano",
        {"analysis/headline_iteration": {"gcg": 1, "password_match/gcg": 2, "word_length/gcg": 2}},
        "analysis.headline_iteration.gcg: no row of `evaluate` runs this attack where this entry counts; leave it out",
    ),
]
NAMED = [
    ("nano", {"attacks/gcg.1of2": {"kind": "gcg"}}, "attacks.gcg.1of2: named like a shard"),
    ("nano", {"defenses/c.10of20": {"rounds": 1}}, "defenses.c.10of20: named like a shard"),
    ("nano", {"attacks/none": {"kind": "gcg"}}, "attacks.none: this name is kept"),
    ("nano", {"attacks/GCG": {"kind": "gcg"}}, "attacks.GCG: found 'GCG', expected a name"),
    ("nano", {"attacks/a\x1b[2J": {"kind": "gcg"}}, "expected a name"),
    (
        "nano",
        {"families/nano/scales/default": {"n_layers": 1, "width": 8, "n_heads": 1}, "ranks": {"default": 2}},
        "ranks.default: a scale is called so, too",
    ),
]
HUGE = [
    (
        "nano",
        {f"{RNDS}/rounds": 10_000_000},
        "rounds: found 10000000, expected a whole number of at least 1 and at most 1,000",
    ),
    ("nano", {"tasks/password_match/words/max_length": 10**9}, "max_length: found 1000000000, expected a whole number"),
    ("nano", {"finetune/optimizer/learning_rate": 1e30}, "learning_rate: found 1e+30, expected a number of at least"),
    ("nano", {"seed": 10**400}, "seed: found a number of too many digits, expected a whole number of at least 0"),
    (
        "nano",
        {"grid/0/seeds": [*range(1_000)], "grid/0/tasks": ["password_match", "word_length"]},
        "grid: found 8,004 cells",
    ),
    (
        "nano",
        {"evaluate/0/shards": 1_000, "evaluate/0/n_examples": 1_500, f"{RNDS}/rounds": 500},
        "evaluate: found 6,012,",
    ),
]
CASES = [*EMPTY, *UNKNOWN, *TWICE, *IGNORED, *TOGETHER, *NAMED, *HUGE]


@pytest.mark.parametrize(("name", "changes", "words"), CASES, ids=[words[:60] for _, _, words in CASES])
def test_nonsense_is_refused_on_one_line_with_its_key(name, changes, words):
    message = refusal(name, changes)
    assert words in message
    assert message.startswith("s.yaml: ") and message.count("\n") == 0 and len(message) < 1_000


#: Defenses of the chat study that train on ordinary chat, too.
UTILITY = ("c-advul", "c-advul-one-step", "refusal-sft", "c-advul-log-1-minus-p")
#: Close to the above, and what somebody means.
MEANT = [
    ("nano", {}),
    ("nano", {"evaluate/0/rounds": [1, 3]}),
    ("pythia", {"evaluate/2/rounds": [1, 5, 60]}),
    (
        "nano",
        {
            "evaluate/0/rounds": [1],
            "evaluate/4": {"attacks": ["gcg"], "defenses": ["adversarial-rounds"], "rounds": [2]},
        },
    ),
    ("nano", {"finetune/overrides": over({"scale": ["80k"]}, steps=None, epochs=2)}),
    ("nano", {"finetune/overrides": over({"seed": [1], "scale": ["80k"]}, optimizer={"warmup_steps": 800})}),
    ("nano", {"ranks": {"default": 1, "900k": 2}}),
    ("nano", {"attacks/gcg/n_attack_tokens": 255}),
    ("nano", {"attacks/gcg/top_k": 512}),
    ("nano", {f"{CAT}/checkpoints": 120}),
    ("nano", {"attacks/unused": {"kind": "beast"}, "defenses/unused": {"rounds": 2}}),
    ("nano", {"analysis/headline_iteration": {"gcg": 16, "random-token": 136}}),
    ("nano", {"analysis/headline_iteration": {"gcg": 16, "gcg@none": 4, "word_length/gcg@adversarial-rounds": 8}}),
    ("chat", {"utility": None}),
    ("chat", {"tasks/harmbench/utility": GONE, **{f"defenses/{name}/adversarial_share": 1.0 for name in UTILITY}}),
]


@pytest.mark.parametrize(("name", "changes"), MEANT, ids=[f"{name} {list(changes)}"[:70] for name, changes in MEANT])
def test_what_makes_sense_loads(name, changes):
    values = changed(name, {place: value for place, value in changes.items() if place != "evaluate/4"})
    if "evaluate/4" in changes:
        values["evaluate"].append(changes["evaluate/4"])
    assert parse_study(values, "s.yaml").cells()


def test_an_override_that_changes_an_optimizer_keeps_what_its_base_says_of_another():
    values = changed("nano", {"finetune/overrides": over({"scale": ["80k"]}, optimizer={"kind": "adafactor"})})
    form = parse_study(values, "s.yaml").finetune.resolve("password_match", "nano", "80k", 0)
    assert form.optimizer.kind == "adafactor"


def test_what_is_refused_does_not_take_long():
    """Sizes just within their bounds, each alone; far above them nothing is even listed."""
    seeds = {"grid": [{"tasks": ["password_match", "word_length"], "families": ["nano"], "seeds": [*range(25)]}]}
    rows = [{"attacks": ["random-token"], "where": {"seed": [i % 25]}} for i in range(900)]
    overrides = [{"where": {"seed": [i % 25]}, "set": {"steps": 100 + i}} for i in range(950)]
    attacks = {f"a{i}": {"kind": "gcg"} for i in range(1_000)}
    families = {
        f"f{i}": {"source": "scratch", "scales": BASES["nano"]["families"]["nano"]["scales"]} for i in range(100)
    }
    for changes in (
        {**seeds, "evaluate": rows},
        {**seeds, "finetune/overrides": overrides, "evaluate": rows[:1]},
        {"attacks": attacks, "evaluate": [{"attacks": list(attacks), "defenses": ["none", "adversarial-rounds"]}]},
        {"families": families, "grid/0/families": list(families), "grid/0/seeds": [*range(1_000)]},
        {f"k{i}": i for i in range(50_000)},
    ):
        start = time.process_time()
        try:
            parse_study(changed("nano", changes), "s.yaml")
        except StudyError as error:
            assert len(str(error).splitlines()) <= 21
        assert time.process_time() - start < 2


def test_a_data_root_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("HARDSCALE_DATA", "~nosuchuser/data")
    with pytest.raises(StudyError, match="~nosuchuser/data: HARDSCALE_DATA: this has no home folder"):
        data_root(parse_study(BASES["nano"], "s.yaml"))


def test_a_part_of_the_grid_keeps_the_overrides_for_the_rest() -> None:
    values = base("nano")
    values["grid"] = [{"tasks": ["password_match"], "families": ["nano"], "scales": ["30k"], "seeds": [0]}]
    values["evaluate"] = [{"attacks": ["gcg"], "defenses": ["none"], "n_examples": 20}]
    assert [cell.scale for cell in parse_study(values, "part").cells()] == ["30k"]
