"""The scaling paper's constants beside those of its studies: the page is the code's, and what differs is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from hardscale.papers.chat_table import with_table
from hardscale.papers.constants_table import constants_table
from hardscale.plan.grid import StudyGrid
from hardscale.settings.study import Study, parse_study, read_yaml
from hardscale.training.pool import attack_iterations

ROOT = Path(__file__).parents[2]
#: Where a study of the paper is not as published, and why that is not fixed.
KNOWN = {"judges.0.model", "judges.0.wording"}
PRETRAIN_TOKENS = 299_892_736_000
#: Tokens that the published GCG read in an iteration on an example (131 passes of a prompt), from its tables.
READ = {"imdb": 40_700, "spam": 41_200, "password_match": 11_300, "word_length": 10_850}


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return [parse_study(read_yaml(ROOT / f"studies/{name}.yaml"), name) for name in ("pythia", "qwen")]


def test_the_page_has_the_table_that_the_code_has(studies: list[Study]) -> None:
    page = (ROOT / "docs/constants.md").read_text(encoding="utf-8")
    assert with_table(page, constants_table(studies)) == page, "run `make schema`"


def test_studies_of_the_paper_have_its_constants(studies: list[Study]) -> None:
    for line in constants_table(studies).splitlines()[2:]:
        name, wanted, _, *own, _ = (cell.strip() for cell in line.strip("| ").split(" | "))
        name = name.strip("`")
        if name == "evaluate.rounds hold":
            assert all(set(wanted.split(", ")) <= set(value.split(", ")) for value in own)
        elif name not in KNOWN:
            assert set(own) <= {wanted, "–"} and set(own) != {"–"}, line


def level_rounds(grid: StudyGrid, scale: str, task: str, levels: tuple[float, ...]) -> list[int]:
    """Rounds after which the defense has cost nearest to these shares of pretraining, by counting passes."""
    lineage = next(
        one
        for one in grid.defended
        if (one.cell.task, one.cell.scale, one.defense) == (task, scale, "gcg-rounds") and one.cell.seed == 0
    )
    settings = grid.defense_settings(lineage)
    spent, shares = 0.0, []
    for number in range(1, settings.rounds + 1):
        attack = settings.n_new_examples * attack_iterations(settings, number) * READ[task] * 2
        spent += attack + settings.set_size * READ[task] / 131 * 6
        shares.append(spent / (6 * PRETRAIN_TOKENS))
    return [1 + min(range(len(shares)), key=lambda i: abs(shares[i] - level)) for level in levels]


@pytest.mark.parametrize("task", list(READ))
@pytest.mark.parametrize("scale", ["14m", "160m", "410m", "1b", "1.4b", "2.8b", "12b"])
def test_models_at_the_levels_of_defense_compute_are_evaluated(studies: list[Study], scale: str, task: str) -> None:
    grid = StudyGrid(studies[0])
    key = f"{task}/pythia/{scale}/s0/gcg-rounds"
    evaluated = {number for lineage, number in grid.evaluated if lineage == key}
    assert {number for number in (1, 2, 3, 4, 5, 10) if number <= max(evaluated)} <= evaluated
    # The mean length of prompts is known to some per cent only: a round beside it will do.
    for number in level_rounds(grid, scale, task, (1e-4, 1e-3, 5e-3)):
        assert evaluated & {number - 1, number, number + 1}, number
