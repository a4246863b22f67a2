"""Training against persistent discrete suffixes: the pool, the passes, kills, ranks."""

import json
import signal

import pytest
from continuous_kit import CELL, behaviors, chat_tokenizer, letter_tokenizer, make_inputs, make_start, tiny_lm
from train_kit import files_of, in_ranks

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.tables import read_table
from hardscale.attacks.base import run_attack
from hardscale.errors import AttackError
from hardscale.models.chat import ChatTemplate
from hardscale.models.flops import r2d2_passes
from hardscale.settings.attacks import AttackSettings, Beast
from hardscale.settings.defenses import R2D2
from hardscale.training.continuous.r2d2 import SuffixPool, r2d2, search_of
from hardscale.training.options import RunOptions

SETTINGS = {
    "kind": "r2d2",
    "steps": 4,
    "pool_size": 5,
    "cases_per_step": 2,
    "gcg_steps": 2,
    "n_candidates": 4,
    "top_k": 8,
    "n_attack_tokens": 3,
    "reset_every": 2,
    "reset_share": 0.4,
    "utility_batch": 3,
    "optimizer": {"kind": "adamw", "learning_rate": 2e-3, "schedule": "constant"},
}
EAGER = RunOptions(save_seconds=0.0)


def spec(**changes):
    return {"cell": CELL, "defense": "r2d2", "seed": 3, "ranks": 1, "settings": {**SETTINGS, **changes}}


def run(group, settings, made, root, options=RunOptions()):  # noqa: B008 - frozen
    r2d2(settings, *made, root / "state", root / "out", group, options)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def unbroken(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("unbroken")
    in_ranks(run, spec(), made, root)
    return root / "out"


def test_the_pool():
    pool = SuffixPool(4, 7)
    pool.fill(6)
    assert sorted(case.goal for case in pool.cases[:4]) == [0, 1, 2, 3]
    assert pool.choose(3, 0) == sorted(set(pool.choose(3, 0))) and len(pool.choose(9, 0)) == 6
    assert len({tuple(pool.choose(3, step)) for step in range(20)}) > 5
    for case in pool.cases:
        case.tokens = [1, 2]
    pool.begin_again(0.34, 5)
    assert sum(case.tokens is None for case in pool.cases) == 2 and pool.n_drawn == 8
    other = SuffixPool(4, 7)
    other.load(json.loads(json.dumps(pool.dump())))
    assert other.dump() == pool.dump() and other.choose(3, 9) == pool.choose(3, 9)


def test_an_attack_resumes_from_the_tokens_of_an_earlier_one():
    tokenizer, lm = chat_tokenizer(), tiny_lm().eval()
    template = ChatTemplate(tokenizer, None)
    prompts = [template.around(behavior.request) for behavior in behaviors()[:2]]
    options = {"n_candidates": 8, "top_k": 16, "n_attack_tokens": 4, "candidate_rng": "per_example"}
    three, single = (AttackSettings(kind="gcg", n_iterations=n, **options) for n in (3, 1))
    first = run_attack(three, lm, tokenizer, prompts, ["Sure"] * 2)
    tokens = [first[0].tokens, None]
    one, two = run_attack(single, lm, tokenizer, prompts, ["Sure"] * 2, starts=tokens, seed=1)
    changed = sum(a != b for a, b in zip(one.tokens, first[0].tokens, strict=True))
    assert changed <= 1  # one iteration replaces one token
    [alone] = run_attack(single, lm, tokenizer, prompts[1:], ["Sure"], keys=[1], seed=1)
    assert two.tokens == alone.tokens


def test_a_step_searches_with_the_settings_of_the_defense():
    defense = R2D2(kind="r2d2", gcg_steps=3, n_candidates=7, top_k=11, n_attack_tokens=4, allowed="any")
    search = search_of(defense)
    assert (search.kind, search.n_iterations, search.n_candidates, search.top_k) == ("gcg", 3, 7, 11)
    assert (search.n_attack_tokens, search.allowed, search.held) == (4, "any", "last")
    assert search.candidate_rng == "per_example" and search.gradient and not search.early_stop
    # A search that cannot go on from tokens says so instead of beginning anew.
    with pytest.raises(AttackError, match="starts: found with beast"):
        run_attack(Beast(kind="beast"), tiny_lm(), chat_tokenizer(), [("a", "b")], ["c"], starts=[[1]])


def test_what_is_published(unbroken):
    facts = open_artifact(unbroken, "model")["facts"]
    terms = read_table(unbroken / "terms.parquet").to_pylist()
    assert (facts["defense"], facts["round"], facts["n_triples"]) == ("r2d2", 1, 10)
    assert [(row["n_adversarial"], row["n_utility"]) for row in terms] == [(2, 3)] * 4
    assert all(row["away"] > 0 and row["max_ratio"] is None for row in terms)
    assert facts["generation_flops"] > 0
    metrics = read_table(unbroken / "metrics.parquet").to_pylist()
    wanted = [row["toward"] + row["away"] + row["utility"] for row in terms]
    assert [row["loss"] for row in metrics] == pytest.approx(wanted, rel=1e-9)


def test_the_passes_made_are_those_of_the_formula(made, tmp_path):
    start = make_start(tmp_path / "start", letter_tokenizer())
    in_ranks(run, spec(), (start, made[1]), tmp_path)
    facts = open_artifact(tmp_path / "out", "model")["facts"]
    assert facts["n_forward_passes"] + facts["n_backward_passes"] == r2d2_passes(4, 2, 5, 2, 4)
    assert facts["n_backward_passes"] == 4 * (2 * 2 + 2 * 2 + 3)  # of attacks, of both answers, of utility


@pytest.mark.parametrize("fault", ["kill:continuous:step=4", "kill:continuous:publish=1"])
def test_a_broken_run_resumes_and_ends_as_an_unbroken_one(unbroken, made, tmp_path, fault):
    assert in_ranks(run, spec(), made, tmp_path, EAGER, fault=fault, codes=True) == [-signal.SIGKILL]
    in_ranks(run, spec(), made, tmp_path, EAGER)
    assert files_of(tmp_path / "out") == files_of(unbroken)


@pytest.mark.parametrize("stage", [0, 3])
def test_ranks_share_the_attack(unbroken, made, tmp_path, stage):
    in_ranks(run, spec(), made, tmp_path, RunOptions(zero_stage=stage), world=2)
    two, one = (read_table(folder / "metrics.parquet").to_pylist() for folder in (tmp_path / "out", unbroken))
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-5)  # later ones hang on choices between tokens
    assert len(two) == 4
