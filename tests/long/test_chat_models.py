"""The chat study's shape on five tiny random models with the tokenizers and templates of the real ones, to its report.

Needs the real tokenizers (``tests/real_pairs.py``). About 250 jobs, most of which import torch: 40 minutes of a core.
"""

from __future__ import annotations

import json
import stat
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from chat_models import THINGS, describe_chat_models
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import Study, parse_study, read_yaml
from real_pairs import needs_tokenizers
from study_runs import ROOT, StudyRun

pytestmark = [pytest.mark.long, pytest.mark.timeout(4 * 3600), needs_tokenizers]
FAMILIES = {"gemma", "phi-3", "mistral", "zephyr", "llama-2"}
JUDGE = "harmbench-judges-harmbench-13b"


@pytest.fixture(scope="module")
def run(sources, tmp_path_factory):
    """The study, run from nothing with two cores."""
    folder = tmp_path_factory.mktemp("chat_models")
    run = StudyRun(sources, describe_chat_models(folder, sources), folder)
    done = run.snakemake("--cores", "2")
    assert done.status == 0, "\n".join(done.errors) or done.text[-5_000:]
    return run


@pytest.fixture(scope="module")
def study(run) -> Study:
    return parse_study(read_yaml(run.config), str(run.config))


@pytest.fixture(scope="module")
def runs(run) -> pd.DataFrame:
    return pq.read_table(run.results / "tables/runs.parquet").to_pandas()


def attacks_of(run) -> dict[Path, list[dict]]:
    """Folder of every attack on a chat model -> its rows."""
    return {
        path.parent: pq.read_table(path).to_pylist()
        for path in sorted(run.results.glob("attacks/harmbench/**/attack.parquet"))
    }


def test_it_is_the_chat_study_with_all_its_attacks_and_defenses(study, runs):
    original = read_yaml(ROOT / "studies/chat.yaml")
    chat = runs[runs["task"] == "harmbench"]
    assert set(original["attacks"]) <= set(chat["attack"])
    assert set(original["defenses"]) | {"none", "r2d2-trained"} == set(chat["defense"])
    assert {block.kind for block in study.attacks.values()} == set(chat["attack_kind"])
    assert set(chat["family"]) == FAMILIES
    for family in FAMILIES:
        mine = chat[(chat["family"] == family) & (chat["defense"] == "none")]
        assert set(original["attacks"]) - {"embedding"} <= set(mine["attack"]), family
        assert {"c-advul", "c-advipo"} <= set(chat[chat["family"] == family]["defense"])
    assert set(runs[runs["task"] == "word_length"]["defense"]) == {"none", "c-at"}


def test_every_target_is_there_and_nothing_is_left_to_do(run, study):
    for target in Jobs(study).targets():
        assert (run.folder / target).is_file(), target
    assert "Nothing to be done" in run.snakemake("-n").text
    assert run.snakemake("--report", str(run.folder / "report.html")).status == 0
    assert (run.folder / "report.html").stat().st_size > 10**5


def test_every_judge_says_its_part_and_the_first_one_decides(runs):
    chat = runs[(runs["task"] == "harmbench") & runs["judge"].notna()]
    assert {JUDGE, "rules-prefix", "rules-anywhere"} <= set(chat["judge"])
    decided = chat[chat["judge"] == JUDGE]
    assert decided["n_attacked"].gt(0).all()
    # The judge's answers differ from reply to reply: neither all of them comply nor none.
    assert 0 < decided["n_success"].sum() < decided["n_attacked"].sum()


def test_every_attack_wrote_what_it_says(run, study):
    kinds = {name: block.kind for name, block in study.attacks.items()}
    shares = defaultdict(list)
    for folder, rows in attacks_of(run).items():
        kind = kinds[folder.name.partition(".")[0]]
        assert rows, folder
        if kind != "embedding":
            assert all(row["adversarial_text"] for row in rows), folder
        notes = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["facts"].get("notes") or {}
        if "retokenized_share" in notes:
            shares[kind].append(notes["retokenized_share"])
    assert {"beast", "adaptive"} <= set(shares)
    assert all(max(found) <= 0.05 for found in shares.values()), shares


def test_every_training_moved_its_model_and_attacked_within_its_ball(run):
    base = {}
    for family in FAMILIES:
        folder = next((run.results / "models/harmbench" / family).glob("*/s0/none/r00/model"))
        base[family] = weights(folder)
    trained = [path for path in run.results.glob("models/harmbench/*/*/s0/*/r01/model") if path.is_dir()]
    assert len(trained) >= 20
    for folder in trained:
        family = folder.relative_to(run.results / "models/harmbench").parts[0]
        # To a random model of Gemma's vocabulary every token is less likely than NPO's published cut-off: no gradient.
        unmoved = family == "gemma" and folder.parts[-3] == "npo"
        assert (weights(folder) == base[family]) == unmoved, folder


def weights(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))


def test_utility_is_measured_of_every_model(run, runs):
    rows = pq.read_table(run.results / "tables/utility.parquet").to_pandas()
    wanted = {"utility_perplexity", "harmless_answered", "mmlu", "arc_easy", "mt_bench_unparsed"}
    models = runs[runs["task"] == "harmbench"][["family", "defense"]].drop_duplicates()
    for family, defense in models.itertuples(index=False):
        mine = rows[(rows["family"] == family) & (rows["defense"] == defense)]
        assert wanted <= set(mine["metric"]), (family, defense)


def test_captions_name_what_is_not_as_published(run):
    said = (run.results / "tables/summary.md").read_text(encoding="utf-8")
    for part in ("attacks.autodan: ", "n\\_iterations 3 (500)", "PAIR's attacker is told its task in our words"):
        assert part in said, part


def test_requests_stay_in_files_of_their_owner(run):
    for name in ("behaviors", "attack", "replies", "ratings"):
        private = [path for path in run.results.rglob(f"{name}.parquet") if "word_length" not in path.parts]
        assert private, name
        for path in private:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    words = [f"making of a {thing}" for thing in THINGS] + [f"one builds a {thing}" for thing in THINGS]
    for path in run.results.rglob("*"):
        if path.suffix in (".log", ".json", ".csv", ".md", ".svg") and path.parent.name != "model":
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [word for word in words if word in text], path
