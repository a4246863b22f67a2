"""A figure is one module and its caption; nobody else is told of it."""

from __future__ import annotations

import re
import sys

from additions_kit import Checkout, files_of

from study_runs import call

NAME = "success_by_iteration"


def test_a_figure_is_a_module_and_its_caption(added: Checkout) -> None:
    assert files_of("figure") == {f"scripts/hardscale/figures/{NAME}.py", f"workflow/report/{NAME}.rst"}
    assert added.changed() == files_of("figure") | files_of("task")


def test_it_is_drawn_from_the_runs_of_the_study(added: Checkout) -> None:
    figures = added.run.results / "figures"
    assert (figures / f"{NAME}.png").read_bytes().startswith(b"\x89PNG\r\n")
    text = (figures / f"{NAME}.svg").read_text(encoding="utf-8")
    assert {"Iteration", "Attack success rate"} <= set(re.findall(r"<!-- (.*?) -->", text))


def test_it_stands_at_its_place_among_the_targets_with_its_caption(added: Checkout) -> None:
    done = added.run.snakemake("--dry-run", "--forceall", "all")
    assert done.status == 0, done.text
    assert f"draw {NAME}" in done.text
    code = "from hardscale.figures.about import figures; print(*list(figures())[1:4])"
    found = call([sys.executable, "-c", code], added.folder, PYTHONPATH="scripts")
    assert found.text.split() == ["attack_scaling", NAME, "attack_comparison"]
