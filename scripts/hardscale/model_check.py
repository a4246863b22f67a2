"""Whether the models of a study can do what it asks of them, before anything runs. No torch, no transformers here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hardscale.errors import ModelError, StudyError
from hardscale.models.chat_templates import template_problem
from hardscale.models.fit import ability_of, ability_of_name, config_at_hand, problems
from hardscale.models.supported import writing_problem
from hardscale.plan.demands import Demands
from hardscale.settings.study import Study, data_root


def model_problems(study: Study) -> list[str]:
    """One line for each setting that a model of the study can not meet, as far as is known before any job."""
    asked, root = Demands(study), data_root(study)
    lines: list[str] = []
    for family, scale in asked.models():
        ability = ability_of(family, scale, study.families[family], root)
        lines += problems(asked.of(family, scale), f"{family} {scale}", ability)
        if (family, scale) in asked.writers:
            victim = (family, scale) in asked.victims
            lines += _writing_problems(study, family, scale, root, victim)
    for key, where, demands in asked.of_externals():
        lines += problems(demands, key, ability_of_name(where, root))
    return list(dict.fromkeys(lines))


def _writing_problems(study: Study, family: str, scale: str, root: Path | None, victim: bool) -> Iterator[str]:
    """Why a model that is to write replies can not, where its files lie at hand; one under attack by a template."""
    try:
        folder, config = config_at_hand(family, scale, study.families[family], root)
    except (ModelError, StudyError):
        return  # said by who looks at sources
    problem = writing_problem(config)
    if problem is None and folder is not None and victim:
        problem = template_problem(folder)
    if problem:
        yield f"families.{family}.scales.{scale}: {problem}"
