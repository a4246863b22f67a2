"""Every figure has a caption that renders, with the study's deviations in it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
from docutils.core import publish_parts

from hardscale.figures.about import figures
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import parse_study, read_yaml

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "workflow" / "report"
NOTE = (
    "8 candidates (128), top_k 16, *see* `docs` |x| <script>alert(1)</script>\n.. raw:: html\r\r"
    "   <b>bold</b>\x85\x85.. include:: /etc/passwd\u2028 {{ 7*7 }} $10^{-3}$ Figures_"
)
SHOWN = (
    "8 candidates (128), top_k 16, *see* `docs` |x| &lt;script&gt;alert(1)&lt;/script&gt; .. raw:: html "
    "&lt;b&gt;bold&lt;/b&gt; .. include:: /etc/passwd {{ 7*7 }} $10^{-3}$ Figures_"
)


def render(name: str, note: str = "", families: list[str] | None = None) -> str:
    """A caption as Snakemake renders it, with the parameters that the rule of a figure gets."""
    values = read_yaml(ROOT / "studies" / "tiny.yaml")
    values["analysis"] = {**values.get("analysis", {}), "caption_note": note}
    specs = Jobs(parse_study(values, "tiny.yaml")).specs
    scratch = specs.scratch_families() if families is None else families
    params = SimpleNamespace(caption_note=specs.caption_note(), scratch_families=scratch)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((REPORT / f"{name}.rst").read_text(encoding="utf-8")).render(
        snakemake=SimpleNamespace(params=params)
    )
    settings = {"halt_level": 2, "report_level": 2}
    links = "\n\n.. _Figures: javascript:app.showCategory('Figures')\n"  # Snakemake adds such
    return publish_parts(text + links, writer="html", settings_overrides=settings)["body"]


@pytest.mark.parametrize("name", figures())
def test_caption_renders_without_and_with_a_note(name: str) -> None:
    assert "differs from the paper" not in render(name)
    html = " ".join(render(name, NOTE).split())
    assert f"This study differs from the paper:</strong> {SHOWN}</p>" in html
    assert "href" not in html


def test_scratch_families_are_said_in_the_caption_of_relative_compute() -> None:
    assert "For nano, models made here" in render("attack_scaling")
    assert "models made here" not in render("attack_scaling", families=[])


def test_the_name_of_a_family_is_no_link() -> None:
    values = read_yaml(ROOT / "studies" / "tiny.yaml")
    values["families"]["figures_.x"] = values["families"]["nano"]
    names = Jobs(parse_study(values, "tiny.yaml")).specs.scratch_families()
    html = render("attack_scaling", families=names)
    assert "figures_.x" in html
    assert "href" not in html
