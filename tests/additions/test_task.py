"""A constructed task is one module; settings, plan, preflight and jobs find it by its file."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
from additions_kit import Checkout, files_of

from study_runs import call

NAME = "alphabet_order"


def test_a_task_is_a_module(added: Checkout) -> None:
    assert files_of("task") == {f"scripts/hardscale/tasks/{NAME}.py"}
    assert added.changed() == files_of("figure") | files_of("task")


def test_its_examples_are_what_it_says(added: Checkout) -> None:
    for split, n in (("train", 64), ("validation", 24)):
        rows = pq.read_table(added.run.results / "tasks" / NAME / f"{split}.parquet").to_pylist()
        assert len(rows) == n and sum(row["label"] for row in rows) == n // 2
        for row in rows:
            first, second = (line.partition(": ")[2] for line in row["chunks"][1].splitlines()[:2])
            assert (first > second) == bool(row["label"])


def test_its_cell_is_attacked_and_in_the_table_of_runs(added: Checkout) -> None:
    rows = pq.read_table(added.run.results / "tables" / "runs.parquet").to_pylist()
    assert [(row["task"], row["iteration"]) for row in rows] == [(NAME, 0), (NAME, 1), (NAME, 2)]
    assert all(24 >= row["n_attacked"] > 0 for row in rows)


def test_the_commands_of_make_schema_name_it_where_tasks_are_listed(added: Checkout, tmp_path: Path) -> None:
    copy = Checkout(shutil.copytree(added.folder, tmp_path / "copy", symlinks=True), added.run)
    before = copy.changed()
    done = call([sys.executable, "scripts/study_schema.py"], copy.folder)
    assert done.status == 0, done.text
    assert copy.changed() - before == {"workflow/schemas/study.schema.json", "docs/study.md"}
    assert f'"{NAME}"' in (copy.folder / "workflow/schemas/study.schema.json").read_text(encoding="utf-8")
    assert NAME in (copy.folder / "docs/study.md").read_text(encoding="utf-8")


def test_a_study_that_names_another_task_is_told_of_it(added: Checkout) -> None:
    wrong = added.run.folder / "wrong.yaml"
    text = added.run.config.read_text(encoding="utf-8").replace("name: added", "name: wrong")
    wrong.write_text(text.replace(NAME, "order_of_words"), encoding="utf-8")
    done = call([sys.executable, str(added.folder / "scripts/status.py"), "--study", str(wrong)], added.run.folder)
    assert f"not a built-in task ({NAME}, password_match, word_length, imdb" in done.text
