"""Every figure has a caption that renders, with the study's deviations in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from docutils.core import publish_parts

from hardscale.figures.registry import FIGURES

REPORT = Path(__file__).parents[2] / "workflow" / "report"


def render(name: str, **params: object) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((REPORT / f"{name}.rst").read_text(encoding="utf-8")).render(
        snakemake=SimpleNamespace(params=SimpleNamespace(**params))
    )
    settings = {"halt_level": 2, "report_level": 2}
    return publish_parts(text, writer="html", settings_overrides=settings)["body"]


@pytest.mark.parametrize("name", FIGURES)
def test_caption_renders_without_and_with_a_note(name: str) -> None:
    assert "differs from the paper" not in render(name, spec={"caption_note": "", "scratch_families": []})
    note = "8 candidates (128), top_k 16, *see* `docs` |x| <script>alert(1)</script>\n.. raw:: html"
    for params in ({"spec": {"caption_note": note}}, {"spec": "{}", "caption_note": note}):
        html = render(name, **params)
        assert "8 candidates (128), top_k 16, *see* `docs` |x| &lt;script&gt;" in html
        assert "<script>" not in html


def test_scratch_families_are_said_in_the_caption_of_relative_compute() -> None:
    assert "For nano, models made here" in render("attack_scaling", spec={"scratch_families": ["nano"]})
    assert "models made here" not in render("attack_scaling", spec={"scratch_families": []})
