"""What figures say about themselves: which a study has, in which order, and from which tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hardscale.figures.about import About, figures
from hardscale.plan.jobs import Jobs
from hardscale.settings.study import parse_study, read_yaml

ROOT = Path(__file__).parents[2]
CLASSIFIERS = [
    "asr_vs_parameters",
    "attack_scaling",
    "attack_comparison",
    "asr_by_round",
    "defense_scaling",
    "offense_defense",
    "clean_accuracy",
]
CHAT = ["robustness_bars", "ablations", "loss_correlation", "embedding_losses", "chat_defense_compute"]
SHOWN = {
    "config": [*CLASSIFIERS, "joint_defense_compute"],
    "studies/chat": CHAT,
    "studies/pythia": CLASSIFIERS,
    "studies/qwen": [*CLASSIFIERS, *CHAT, "chat_asr_by_size"],
    "studies/smollm2": CHAT,
    "studies/smollm2_shares": CHAT,
    "studies/sms": CLASSIFIERS,
    "studies/text": CLASSIFIERS,
    "studies/tiny": CLASSIFIERS,
}
#: Besides runs and fits.
TABLES = {
    "robustness_bars": ["utility", "worst"],
    "ablations": ["utility", "losses", "cost"],
    "loss_correlation": ["utility", "losses"],
    "embedding_losses": ["losses"],
    "chat_defense_compute": ["utility"],
    "chat_asr_by_size": ["utility"],
    "joint_defense_compute": ["cost"],
}


def jobs_of(study: str) -> Jobs:
    return Jobs(parse_study(read_yaml(ROOT / f"{study}.yaml"), study))


def test_every_shipped_study_is_listed_here() -> None:
    assert set(SHOWN) == {"config", *(f"studies/{path.stem}" for path in (ROOT / "studies").glob("*.yaml"))}


@pytest.mark.parametrize("study", SHOWN)
def test_a_study_has_these_figures_in_this_order_from_these_tables(study: str) -> None:
    jobs = jobs_of(study)
    folder = jobs.layout.root
    wanted = [f"{folder}/figures/{name}.{suffix}" for name in SHOWN[study] for suffix in ("png", "svg")]
    assert jobs.outputs_of.figures() == wanted
    assert [target for target in jobs.targets() if "/figures/" in target] == wanted
    for name in SHOWN[study]:
        tables = [f"{folder}/tables/{stem}.parquet" for stem in TABLES.get(name, [])]
        assert jobs.outputs_of.tables_of(name) == tables, name


def test_every_figure_has_a_caption_and_every_caption_but_the_summary_a_figure() -> None:
    assert {path.stem for path in (ROOT / "workflow/report").glob("*.rst")} == {*figures(), "summary"}


def test_a_figure_of_any_victim_is_everywhere_with_the_tables_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"both": About(place=0, victims="any", tables=("cost", "utility"))}
    monkeypatch.setattr("hardscale.plan.outputs.figures", lambda: more)
    for study, stems in (("studies/tiny", ["cost"]), ("studies/chat", ["cost", "utility"])):
        outputs = jobs_of(study).outputs_of
        assert outputs.figure_names == ("both",)
        assert [Path(table).stem for table in outputs.tables_of("both")] == stems


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"place": "first"}, "place: found 'first', expected a whole number"),
        ({"victims": "all"}, "victims: found 'all', expected one of classifiers, chat, any"),
        ({"tables": "cost"}, "tables: found 'cost', expected a tuple of claims, cost"),
        ({"tables": ("costs",)}, r"tables: found \('costs',\)"),
        ({"only": "large"}, "only: found 'large', expected one of several_sizes, continuous_classifiers"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(values: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        About(**{"place": 10, "victims": "any", **values})


def test_reading_what_figures_say_loads_no_plotting() -> None:
    code = (
        "import sys; from hardscale.figures.about import figures; figures()\n"
        "print([name for name in ('matplotlib', 'pandas', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
