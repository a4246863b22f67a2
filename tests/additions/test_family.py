"""A family of models is a block of a study: nothing of the library knows it by name."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
from additions_kit import STUDY, Checkout, files_of

NAME, SCALE = "narrow", "9k"


def test_a_family_is_a_block_of_a_study_and_no_code(added: Checkout) -> None:
    assert files_of("family") == {"family.yaml"}
    assert added.changed() == files_of("figure") | files_of("task")
    for path in (added.folder / "scripts").rglob("*.py"):
        assert f'"{NAME}"' not in path.read_text(encoding="utf-8"), path


def test_its_models_are_as_the_block_describes_them(added: Checkout) -> None:
    block = STUDY["families"][NAME]["scales"][SCALE]
    base = added.run.results / "base" / NAME / SCALE / "model"
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    shape = (config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"])
    assert shape == (block["n_layers"], block["width"], block["n_heads"])


def test_it_is_trained_attacked_and_in_the_table_of_runs(added: Checkout) -> None:
    rows = pq.read_table(added.run.results / "tables" / "runs.parquet").to_pylist()
    assert {(row["family"], row["scale"]) for row in rows} == {(NAME, SCALE)}
    assert all(row["n_params"] > 0 and row["pretrain_flops"] > 0 for row in rows)
