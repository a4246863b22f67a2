"""A chat study from nothing: a model made here, two continuous defenses, attacks, utility, tables, figures."""

import re
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chats import FRUITS, describe_chats
from frozen import assert_frozen
from lm_eval_stand_in import asked
from study_runs import StudyRun

CELL = Path("fruit/toy/20k/s0")
VICTIMS = {"none": "none/r00", "c-advul": "c-advul/r01", "c-advipo": "c-advipo/r01"}


@pytest.fixture(scope="module")
def chats(sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chats")
    run = StudyRun(sources, describe_chats(folder), folder)
    done = run.snakemake()
    assert done.status == 0, done.text
    return run, done


def rows_of(path):
    return pq.read_table(path).to_pylist()


def test_every_victim_has_a_row_before_and_after_each_attack(chats):
    run, _ = chats
    rows = rows_of(run.results / "tables/runs.parquet")
    found = {(r["defense"], r["attack"], r["iteration"]) for r in rows if r["judge"] == rows[0]["judge"]}
    last = {"gcg": 2, "embedding": 3}
    assert found == {(d, a, i) for d in VICTIMS for a, n in last.items() for i in (0, n)}
    for row in rows:
        assert row["success_rule"] == "judge"
        assert row["clean_accuracy"] is None
        assert row["n_attacked"] == row["n_examples"] == 3
        assert row["asr"] == row["n_success"] / 3
    eps = {row["attack"]: row["eps"] for row in rows}
    assert eps["gcg"] is None
    assert eps["embedding"] > 0


def test_what_it_computes_is_what_it_computed(chats):
    assert_frozen(chats[0].results)


def test_the_passes_of_the_cost_table_are_those_of_the_formula(chats):
    run, _ = chats
    cost = {row["defense"]: row for row in rows_of(run.results / "tables/cost.parquet")}
    # 2 steps of 4 rows; 2 inner steps: 4 passes of the attack and 4 of the two answers; utility rows 2.
    wanted = {"c-advipo": 2 * 4 * (4 + 4), "c-advul": 2 * (2 * (4 + 4) + 2 * 2)}
    assert {name: row["passes_formula"] for name, row in cost.items()} == wanted
    assert {name: row["forward_passes"] + row["backward_passes"] for name, row in cost.items()} == wanted


def test_utility_stands_beside_robustness(chats):
    run, _ = chats
    rows = rows_of(run.results / "tables/utility.parquet")
    metrics = {(row["defense"], row["metric"]) for row in rows}
    assert {(d, m) for d in VICTIMS for m in ("utility_perplexity", "harmless_answered")} <= metrics
    assert not any(
        row["collapsed"] for row in rows if row["defense"] == "none" and row["metric"].endswith("perplexity")
    )


def test_benchmarks_and_mt_bench_stand_there_too(chats):
    run, _ = chats
    rows = {(row["defense"], row["metric"]): row for row in rows_of(run.results / "tables/utility.parquet")}
    for defense in VICTIMS:
        assert (rows[defense, "mmlu"]["value"], rows[defense, "mmlu"]["n"]) == (0.25, 5)
        assert (rows[defense, "arc_easy"]["value"], rows[defense, "arc_easy"]["n"]) == (0.25, 8)
        # Ratings of the two questions: 9 and 2, unread and 9.
        assert rows[defense, "mt_bench"]["value"] == pytest.approx(20 / 3)
        assert rows[defense, "mt_bench_unparsed"]["value"] == 1
    models = {request["model"] for mode, request in asked(run.folder / "lm-eval") if mode == "run"}
    assert models == {str((run.results / "models" / CELL / place / "model").absolute()) for place in VICTIMS.values()}
    assert next(mode for mode, _ in asked(run.folder / "lm-eval")) == "check"


def test_requests_and_replies_stay_in_files_of_their_owner(chats):
    run, done = chats
    private = [
        path for name in ("behaviors", "attack", "replies", "ratings") for path in run.results.rglob(f"{name}.parquet")
    ]
    assert len(private) > 10
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    texts = [path for path in run.results.rglob("*") if path.suffix in (".log", ".json", ".csv", ".md", ".svg")]
    words = [f"the word {fruit}" for fruit in FRUITS]
    said = {path: path.read_text(encoding="utf-8", errors="replace") for path in texts}
    said[Path("terminal")] = done.text
    leaks = {
        str(path): word
        for path, text in said.items()
        for word in words
        if word in text and path.parent.name != "model"  # a tokenizer may have learnt anything
    }
    assert not leaks


def test_nothing_is_left_to_do_and_a_deleted_model_is_trained_again(chats):
    run, _ = chats
    assert "Nothing to be done" in run.snakemake("-n").text
    (run.results / "models" / CELL / "c-advipo/r01/manifest.json").rename(run.folder / "kept.json")
    try:
        planned = run.snakemake("-n", "--quiet", "rules").text
        counted = dict(re.findall(r"^(\w+) +(\d+)$", planned, flags=re.MULTILINE))
        assert {
            name: counted.get(name)
            for name in ("continuous", "attack", "utility", "lm_eval", "mt_bench", "import_model")
        } == {
            "continuous": "1",
            "attack": "2",
            "utility": "1",
            "lm_eval": "1",
            "mt_bench": "1",
            "import_model": None,
        }
    finally:
        (run.folder / "kept.json").rename(run.results / "models" / CELL / "c-advipo/r01/manifest.json")
