"""A new attack is a module and its block: the example that CONTRIBUTING quotes, added to a copy and run to a table."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study_runs import ROOT, Finished, StudyRun, call, copy_sources

EXAMPLE = ROOT / "tests/data/additions/attack"
CELL = "password_match/nano/a/s0"
GENERATED = ("workflow/schemas/study.schema.json", "docs/study.md", "docs/chat.md", "docs/constants.md")
STUDY = """
name: added
tasks: {password_match: {n_train: 64, n_validation: 24}}
families: {nano: {source: scratch, scales: {a: {n_layers: 1, width: 8, n_heads: 2}}}}
grid: [{tasks: [password_match], families: [nano], seeds: [0]}]
finetune: {steps: 2}
attacks:
  gcg: {kind: gcg, n_iterations: 1, n_attack_tokens: 4, n_candidates: 4, top_k: 8}
  random-token: {kind: random_token, n_iterations: 2, n_attack_tokens: 4}
evaluate: [{attacks: [gcg, random-token], defenses: [none], n_examples: 6}]
"""


class Added:
    """A copy of the checkout, and a small study in it."""

    def __init__(self, folder: Path) -> None:
        (folder / "repo").mkdir(parents=True)
        self.sources = copy_sources(folder / "repo")
        shutil.copytree(ROOT / "docs", self.sources / "docs")
        self.run = StudyRun(self.sources, folder / "added.yaml", folder / "work")
        self.run.config.write_text(STUDY, encoding="utf-8")
        self.codes_before: dict[str, str] = {}
        self.pages_before: list[str] = []

    def snakemake(self, *options: str) -> Finished:
        done = self.run.snakemake(*options, PYTHONPATH=str(self.sources / "scripts"))
        assert done.status == 0, done.text
        return done

    def jobs(self) -> set[str]:
        """Messages of the jobs that a run to the table of runs would do now."""
        return set(re.findall(r"^Job \d+: (.*)$", self.snakemake("-n", TABLE).text, flags=re.MULTILINE))

    def codes(self) -> dict[str, str]:
        """Kind -> digest of the code of its jobs."""
        program = (
            "import json; from hardscale.artifacts.digest import code_digest\n"
            "from hardscale.settings.study_attacks import ATTACK_KINDS, attack_facts\n"
            "jobs = ['hardscale.evaluation.attack_job', 'hardscale.evaluation.chat_attack_job']\n"
            "print(json.dumps({kind: code_digest(*jobs, attack_facts(kind).module) for kind in ATTACK_KINDS}))\n"
        )
        done = self.python("-c", program)
        found: dict[str, str] = json.loads(done.text)
        return found

    def pages(self) -> list[str]:
        """The generated files."""
        self.python("scripts/study_schema.py")
        return [(self.sources / name).read_text(encoding="utf-8") for name in GENERATED]

    def python(self, *arguments: str) -> Finished:
        """Run Python in the copy."""
        scripts = str(self.sources / "scripts")
        done = call([sys.executable, *arguments], self.sources, PYTHONPATH=scripts, PYTHONDONTWRITEBYTECODE="1")
        assert done.status == 0, done.text
        return done

    def add(self) -> None:
        """What an author of an attack writes."""
        shutil.copytree(EXAMPLE / "scripts", self.sources / "scripts", dirs_exist_ok=True)
        with (self.sources / "scripts/hardscale/settings/attacks.py").open("a", encoding="utf-8") as blocks:
            blocks.write((EXAMPLE / "block.py.txt").read_text(encoding="utf-8"))


TABLE = "results/added/tables/runs.parquet"


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> Added:
    """The study run without the attack, then the attack added."""
    copy = Added(tmp_path_factory.mktemp("attack"))
    copy.snakemake(TABLE)
    copy.codes_before, copy.pages_before = copy.codes(), copy.pages()
    copy.add()
    return copy


def test_adding_it_reruns_nothing(added: Added) -> None:
    after = added.codes()
    assert {kind: after[kind] for kind in added.codes_before} == added.codes_before
    assert set(after) == {*added.codes_before, "repeat"}
    assert added.jobs() == set()


def test_the_schema_and_its_page_tell_of_it(added: Added) -> None:
    """Beside the other attacks, and nothing else of the generated files changes."""
    schema, page, *others = added.pages()
    assert json.loads(schema)["$defs"]["Repeat"]["properties"]["word"]["default"] == "and"
    assert '| `word` | string | `"and"` |  |' in page and "\\| [Repeat](#repeat) |" in page
    [lost] = set(added.pages_before[1].splitlines()) - set(page.splitlines())
    assert "[Templates](#templates)" in lost  # the line with the list of all attacks
    assert others == added.pages_before[2:]


def test_a_study_runs_it_to_rows_and_a_table(added: Added) -> None:
    attacks = "  repeat: {kind: repeat, n_iterations: 3, word: then}\nevaluate: [{attacks: [repeat, "
    added.run.config.write_text(STUDY.replace("evaluate: [{attacks: [", attacks), encoding="utf-8")
    assert added.jobs() == {f"attack {CELL}/none round 00 with repeat", "collect all runs"}
    added.snakemake(TABLE)
    rows = pq.read_table(added.run.results / f"attacks/{CELL}/none/r00/repeat/attack.parquet").to_pylist()
    assert rows
    for row in rows:
        assert len(row["losses"]) == 3 and row["losses"] == sorted(row["losses"], reverse=True)
        assert any(" then" * n in row["adversarial_text"] for n in (1, 2, 3))
    runs = pq.read_table(added.run.folder / TABLE).to_pylist()
    found = [(row["iteration"], row["n_attacked"]) for row in runs if row["attack_kind"] == "repeat"]
    assert found == [(i, len(rows)) for i in range(4)]


def test_a_study_with_a_wrong_value_is_told_what_is_allowed(added: Added) -> None:
    wrong = STUDY.replace("evaluate:", "  repeat: {kind: repeat, n_iterations: 0}\nevaluate:")
    place = added.run.config.parent / "wrong" / "added.yaml"
    place.parent.mkdir()
    place.write_text(wrong, encoding="utf-8")
    done = StudyRun(added.sources, place, added.run.folder).snakemake("-n", TABLE)
    done.refused("attacks.repeat.n_iterations: found 0, expected a whole number of at least 1")
