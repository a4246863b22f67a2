"""A user's own table and model reach a figure and the table of runs through a study file alone."""

import csv
import re
import shutil

import yaml

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import EXAMPLES, RUNS
from hardscale.artifacts.tables import read_table
from hardscale.settings.study import parse_study
from study_runs import ROOT
from tickets import ODD, STUDY, TEAMS, texts

BROUGHT = ODD[1]


def test_the_table_is_read_as_it_stands(tickets):
    with (tickets.folder / BROUGHT / "tickets.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["body"], row["team"]) for row in csv.DictReader(file)]
    assert rows == texts()
    task = tickets.results / "tasks" / "tickets"
    found = []
    for split in ("train", "validation"):
        for row in read_table(task / f"{split}.parquet", EXAMPLES).to_pylist():
            found.append((row["chunks"][row["modifiable"]], TEAMS[row["label"]]))
    assert sorted(found) == sorted(rows)
    assert open_artifact(task, "task")["facts"]["labels"] == [" billing", " tech", " other"]


def test_the_model_is_the_users_with_a_new_head_for_three_classes(tickets):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    base = tickets.results / "base" / "mine" / "small" / "model"
    given, kept = (load_file(folder / "model.safetensors") for folder in (tickets.folder / BROUGHT / "my-model", base))
    assert given.keys() == kept.keys()
    assert all(torch.equal(given[name], kept[name]) for name in given)
    trained = tickets.results / "models" / "tickets" / "mine" / "small" / "s0" / "none" / "r00" / "model"
    model = AutoModelForSequenceClassification.from_pretrained(trained)
    assert model.config.num_labels == 3
    assert list(model.config.id2label.values()) == [" billing", " tech", " other"]


def test_runs_and_a_figure_come_out(tickets):
    runs = read_table(tickets.results / "tables" / "runs.parquet", RUNS).to_pylist()
    assert [row["iteration"] for row in runs] == [0, 1, 2]
    for row in runs:
        assert (row["study"], row["task"], row["family"], row["scale"]) == ("tickets", "tickets", "mine", "small")
        assert row["n_examples"] >= row["n_attacked"] > 0
        assert row["pretrain_flops"] is None  # nobody said how many tokens this model has seen
    assert (tickets.results / "figures" / "asr_vs_parameters.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "<svg" in (tickets.results / "figures" / "asr_vs_parameters.svg").read_text()


def test_an_edit_of_the_table_or_the_model_is_seen(tickets, tmp_path):
    shutil.copytree(tickets.folder, tmp_path, dirs_exist_ok=True)
    edited = tickets.elsewhere(tmp_path)
    target = "results/tickets/tables/runs.parquet"
    assert "Nothing to be done" in edited.snakemake("--dry-run", target).text
    with (tmp_path / BROUGHT / "tickets.csv").open("a") as file:
        file.write("one more,tech\n")
    config = tmp_path / BROUGHT / "my-model" / "config.json"
    config.write_text(config.read_text() + "\n")
    planned = edited.snakemake("--dry-run", target).text
    for job in ("prepare task tickets", "prepare model mine small", "finetune tickets/mine/small/s0"):
        assert job in planned


def test_another_run_elsewhere_gives_the_same_bytes(tickets, tmp_path):
    (tmp_path / BROUGHT).symlink_to(tickets.folder / BROUGHT)
    again = tickets.elsewhere(tmp_path)
    done = again.snakemake("results/tickets/tables/runs.parquet")
    assert done.status == 0, done.text
    names = [path.relative_to(again.results) for path in again.results.rglob("*.parquet")]
    compared = {name for name in names if name.name != "timing.parquet" and "state" not in name.parts}
    assert {name.name for name in compared} == {
        "train.parquet",
        "validation.parquet",
        "clean.parquet",
        "metrics.parquet",
        "attack.parquet",
        "runs.parquet",
    }
    for name in compared:
        assert (again.results / name).read_bytes() == (tickets.results / name).read_bytes(), name


def test_the_readme_describes_such_a_study():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    ours = parse_study(yaml.safe_load(STUDY), "tickets.py")
    (block,) = [block for block in blocks if "tickets.csv" in block]
    shown = parse_study(yaml.safe_load(block), "README.md")
    assert shown.tasks == ours.tasks
    assert (shown.name, shown.families, shown.grid) == (ours.name, ours.families, ours.grid)
