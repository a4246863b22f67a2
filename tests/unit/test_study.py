"""Study files: what is accepted, and how what is wrong is said."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from hardscale.errors import StudyError
from hardscale.settings.attacks import EmbeddingAttack
from hardscale.settings.blocks import Settings, deep_merge
from hardscale.settings.defenses import R2D2, AdversarialRounds, CAdvIPO, CAdvUL, CAt
from hardscale.settings.schema import reference_page, schema_text
from hardscale.settings.study import Cell, parse_study, read_yaml

ROOT = Path(__file__).parents[2]
TINY = read_yaml(ROOT / "studies" / "tiny.yaml")


def broken(**changes):
    values = copy.deepcopy(TINY)
    for path, value in changes.items():
        node = values
        *parents, last = path.split("__")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node[part]
        node[last] = value
    return values


@pytest.mark.parametrize(
    "path", sorted([ROOT / "config.yaml", *(ROOT / "studies").glob("*.yaml")]), ids=lambda p: p.name
)
def test_every_shipped_study_is_valid_and_named_like_its_file(path):
    study = parse_study(read_yaml(path), str(path))
    assert study.cells()
    assert study.name == ("nano" if path.name == "config.yaml" else path.stem)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"finetune__learning_rat": 1}, ["finetune.learning_rat", "unknown key"]),
        (
            {"finetune__batch_size": "many"},
            ["finetune.batch_size: found 'many', expected a whole number of at least 1"],
        ),
        ({"finetune__batch_size": 0}, ["finetune.batch_size: found 0, expected a whole number of at least 1"]),
        ({"attacks__gcg__kind": "gcgg"}, ["attacks.gcg.kind", "'gcg'", "random_token", "gcgg"]),
        ({"grid__0__tasks": ["pasword_match"]}, ["grid.0.tasks", "pasword_match", "did you mean 'password_match'"]),
        ({"grid__0__scales": ["31k"]}, ["grid.0.scales", "31k", "30k"]),
        ({"evaluate__0__attacks": ["gcgx"]}, ["evaluate.0.attacks", "gcgx", "random-token"]),
        ({"evaluate__0__defenses": ["armour"]}, ["evaluate.0.defenses", "armour", "adversarial-rounds"]),
        ({"tasks__mine": {}}, ["tasks.mine", "describe it with source"]),
        (
            {"tasks__mine": {"source": "a.csv", "text": "t", "label": "l", "kind": "described"}},
            ["tasks.mine", "labels"],
        ),
        ({"families__bert": {}}, ["families.bert", "pythia"]),
        ({"defenses__none": {"rounds": 1}}, ["defenses.none", "undefended"]),
        (
            {"finetune__overrides": [{"where": {"scale": ["9k"]}, "set": {}}]},
            ["finetune.overrides.0.where.scale", "9k"],
        ),
        (
            {"finetune__overrides": [{"where": {}, "set": {"steps": -1}}]},
            ["finetune.overrides.0.set.steps: found -1, expected a whole number"],
        ),
        ({"name": "../evil"}, ["name: found '../evil', expected a name"]),
        ({"grid": []}, ["grid: found an empty list, expected at least 1"]),
    ],
)
def test_a_wrong_study_names_key_value_and_what_is_allowed(changes, words):
    with pytest.raises(StudyError) as caught:
        parse_study(broken(**changes), "x.yaml")
    message = str(caught.value)
    assert message.startswith("x.yaml: ")
    for word in words:
        assert word in message, message


def test_two_cells_with_one_path_are_refused():
    values = broken()
    values["grid"] = [values["grid"][0], values["grid"][0]]
    with pytest.raises(StudyError, match=r"grid\.1.*password_match/nano/30k/s0.*grid\.0"):
        parse_study(values, "x.yaml")


def test_overrides_apply_in_order_to_their_cells_only():
    study = parse_study(read_yaml(ROOT / "config.yaml"), "config.yaml")
    small = study.finetune.resolve("password_match", "nano", "30k", 0)
    large = study.finetune.resolve("word_length", "nano", "900k", 0)
    assert (small.steps, small.optimizer.learning_rate) == (study.finetune.steps, 0.004)
    assert large.optimizer.learning_rate == 0.0015
    assert large.optimizer.betas == (0.9, 0.98), "an override keeps the keys that it does not name"


def test_extends_merges_mappings_and_replaces_lists(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"a": {"x": 1, "y": [1, 2]}, "b": 1}))
    (tmp_path / "top.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", "a": {"y": [3]}}))
    assert read_yaml(tmp_path / "top.yaml") == {"extends": "base.yaml", "a": {"x": 1, "y": [3]}, "b": 1}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1", "mapping"),
        ("extends: self.yaml", "extends itself"),
        ("extends: no.yaml", "no.yaml: no such file"),
    ],
)
def test_unreadable_studies_say_why(tmp_path, text, word):
    path = tmp_path / "self.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=word):
        read_yaml(path)


def test_deep_merge_keeps_what_is_not_named():
    assert deep_merge({"a": {"b": 1, "c": 2}}, {"a": {"b": {"d": 3}}}) == {"a": {"b": {"d": 3}, "c": 2}}


def test_cell_key_round_trips():
    cell = Cell("imdb", "pythia", "1.4b", 3)
    assert cell.key == "imdb/pythia/1.4b/s3"
    assert Cell.parse(cell.key) == cell


def test_committed_schema_and_reference_equal_the_types():
    assert (ROOT / "workflow/schemas/study.schema.json").read_text() == schema_text(), "run `make schema`"
    assert (ROOT / "docs/study.md").read_text() == reference_page(), "run `make schema`"


def test_loading_pythia_is_fast_and_loads_no_torch():
    code = (
        "import sys, time; sys.path.insert(0, 'scripts')\n"
        "from pathlib import Path\n"
        "from hardscale.ops.cli import study_from_files; from hardscale.plan.jobs import Jobs\n"
        "study = study_from_files([Path('studies/pythia.yaml')]); n = len(study.cells())\n"
        "bad = [m for m in ('torch', 'transformers', 'datasets', 'pandas', 'deepspeed') if m in sys.modules]\n"
        "print(n, bad, time.process_time())"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.startswith("300 [] "), out
    # Of the processor, Python's own start included: how long it takes by the clock depends on what else runs.
    assert float(out.split()[-1]) < 3, "0.4 s on a quiet machine"


@pytest.mark.parametrize("block", [CAdvUL, CAdvIPO, R2D2, AdversarialRounds, CAt, EmbeddingAttack])
def test_a_nested_block_in_part_keeps_the_rest_of_its_blocks_default(block):
    kind = {"kind": get_args(block.model_fields["kind"].annotation)[0]}
    plain = block.model_validate(kind)
    for name, field in block.model_fields.items():
        for key, value in field.default.model_dump().items() if isinstance(field.default, Settings) else ():
            part = block.model_validate({**kind, name: {key: value}})
            assert part == plain, (name, key)
            assert getattr(part, name).model_fields_set == {key}
            override = {"where": {}, "set": {name: {key: value}}}
            assert block.model_validate({**kind, "overrides": [override]}).resolve("t", "f", "s", 0) == plain


def test_an_embedding_attack_is_unbounded_until_it_says_so_or_takes_a_trainings_ball():
    def eps(**values):
        return EmbeddingAttack.model_validate({"kind": "embedding", **values}).perturbation.eps

    assert eps() is None and eps(perturbation={"step_size": 0.02}) is None
    assert eps(perturbation={"eps": 0.1}) == 0.1
    bounded = EmbeddingAttack.model_validate(
        {"kind": "embedding", "ball": "training", "perturbation": {"init": "uniform_ball"}}
    )
    assert bounded.perturbation.step_size == EmbeddingAttack(kind="embedding").perturbation.step_size


def test_one_changed_number_changes_nothing_else():
    plain = CAdvUL(kind="c_advul")
    changed = CAdvUL.model_validate({"kind": "c_advul", "optimizer": {"learning_rate": 1e-3}})
    assert changed.optimizer == plain.optimizer.model_copy(update={"learning_rate": 1e-3})
    assert (changed.optimizer.kind, changed.optimizer.schedule) == ("adamw", "cosine")
    assert CAdvUL.model_validate(changed.model_dump()) == changed
