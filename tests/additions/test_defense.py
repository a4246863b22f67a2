"""A new defense is a trainer and its block: what CONTRIBUTING quotes, added to a copy and run to a table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study_runs import ROOT, Finished, StudyRun, copy_sources

EXAMPLE = ROOT / "tests/data/additions/defense"
CELL = "password_match/nano/a/s0"
TABLES = ("results/added/tables/runs.parquet", "results/added/tables/cost.parquet")
STUDY = """
name: added
tasks: {password_match: {n_train: 64, n_validation: 24}}
families: {nano: {source: scratch, scales: {a: {n_layers: 1, width: 8, n_heads: 2}}}}
grid: [{tasks: [password_match], families: [nano], seeds: [0]}]
finetune: {steps: 2}
defenses: {rounds: {rounds: 1, n_new_examples: 2, set_size: 8, attack: {kind: random_token, n_iterations: 1}}}
attacks: {random-token: {kind: random_token, n_iterations: 2, n_attack_tokens: 4}}
evaluate: [{attacks: [random-token], defenses: [none, rounds], n_examples: 6}]
"""


class Added:
    """A copy of the checkout, and a small study in it."""

    def __init__(self, folder: Path) -> None:
        (folder / "repo").mkdir(parents=True)
        self.sources = copy_sources(folder / "repo")
        self.run = StudyRun(self.sources, folder / "added.yaml", folder / "work")
        self.run.config.write_text(STUDY, encoding="utf-8")

    def snakemake(self, *options: str) -> Finished:
        done = self.run.snakemake(*options, PYTHONPATH=str(self.sources / "scripts"))
        assert done.status == 0, done.text
        return done

    def jobs(self) -> set[str]:
        """Messages of the jobs that a run to the tables would do now."""
        return set(re.findall(r"^Job \d+: (.*)$", self.snakemake("-n", *TABLES).text, flags=re.MULTILINE))

    def add(self) -> None:
        """What an author of a defense writes."""
        package = self.sources / "scripts/hardscale"
        shutil.copy2(EXAMPLE / "random_text.py", package / "training/random_text.py")
        with (package / "settings/defenses.py").open("a", encoding="utf-8") as blocks:
            blocks.write((EXAMPLE / "block.py.txt").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Added:
    """The study run without the defense, then the defense added."""
    copy = Added(tmp_path_factory.mktemp("defense"))
    copy.snakemake(*TABLES)
    copy.add()
    return copy


def test_adding_it_reruns_nothing(added: Added) -> None:
    assert added.jobs() == set()


def test_a_study_trains_it_and_attacks_what_comes_of_it(added: Added) -> None:
    study = STUDY.replace("defenses: {rounds:", "defenses: {more: {kind: random_text, steps: 3}, rounds:")
    added.run.config.write_text(study.replace("[none, rounds]", "[none, rounds, more]"), encoding="utf-8")
    tables = {"collect all runs", "add up the cost of the defenses"}
    assert added.jobs() == {f"train {CELL}/more", f"attack {CELL}/more round 01 with random-token", *tables}
    added.snakemake(*TABLES)
    runs = pq.read_table(added.run.folder / TABLES[0]).to_pylist()
    found = [row for row in runs if row["defense"] == "more"]
    assert [row["iteration"] for row in found] == [0, 1, 2]
    assert {row["defense_kind"] for row in found} == {"random_text"} and all(row["defense_flops"] > 0 for row in found)
    # Its passes are in no formula, so that the table of costs does not guess them.
    (cost,) = [row for row in pq.read_table(added.run.folder / TABLES[1]).to_pylist() if row["defense"] == "more"]
    assert cost["passes_formula"] is None and cost["defense_flops"] == found[0]["defense_flops"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("steps: 0", "defenses.more.steps: found 0, expected a whole number of at least 1"),
        # Settings that are named as in other blocks have the bounds that they have there.
        ("batch_size: 65", "defenses.more.batch_size: found 65"),
        ("steps: 3, optimizer: {warmup_steps: 4}", "defenses.more.optimizer.warmup_steps: found 4"),
    ],
)
def test_a_study_with_a_wrong_value_is_told_what_is_allowed(
    added: Added, tmp_path: Path, given: str, said: str
) -> None:
    wrong = STUDY.replace("defenses: {rounds:", f"defenses: {{more: {{kind: random_text, {given}}}, rounds:")
    place = tmp_path / "added.yaml"
    place.write_text(wrong.replace("[none, rounds]", "[none, rounds, more]"), encoding="utf-8")
    done = StudyRun(added.sources, place, added.run.folder).snakemake("-n", *TABLES)
    done.refused(said)
