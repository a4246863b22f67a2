"""Bad input on the real command lines: one line that names the place and the next step, and nothing half-written."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.errors import ModelError
from hardscale.models.prepare import prepare_model
from hardscale.settings.models import FamilySettings
from study_runs import StudyRun, call
from tickets import STUDY, TEAMS, save_model, texts, write_table

SETTINGS = {"source": "bad.parquet", "text": "body", "label": "team", "labels": list(TEAMS)}


def no_manifest(folder: Path) -> bool:
    return not list(folder.rglob("manifest.json")) and not list(folder.rglob(".*.tmp-*"))


def described(sources, folder, text):
    """A study in a folder of its own, beside a good table."""
    write_table(folder / "tickets.csv", texts())
    (folder / "tickets.yaml").write_text(text, encoding="utf-8")
    return StudyRun(sources, folder / "tickets.yaml", folder)


# --- studies --------------------------------------------------------------------------------------------------------


def test_an_unknown_key_of_a_study(sources, tmp_path):
    run = described(sources, tmp_path, STUDY.replace("steps: 24", "step: 24"))
    done = run.snakemake()
    done.refused("tickets.yaml", "finetune.step", "unknown key", "docs/study.md")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("attacks: [gcg]", "attacks: [gcq]", ("evaluate.0.attacks", "'gcq'", "did you mean 'gcg'")),
        ("steps: 24", "steps: -1", ("finetune.steps", "found -1", "expected a whole number of at least 1")),
        ("labels: [billing, tech, other]", "labels: [billing]", ("tasks.tickets", "at least two distinct values")),
        ("name: tickets", "name: [tickets", ("not valid YAML",)),
    ],
)
def test_a_value_of_a_study_that_is_not_allowed(sources, tmp_path, old, new, words):
    run = described(sources, tmp_path, STUDY.replace(old, new))
    done = run.entry("study", "--study", run.config)
    done.refused("tickets.yaml", *words)
    assert not (tmp_path / "results").exists()


# --- tables ---------------------------------------------------------------------------------------------------------


def good_table(**changes):
    columns = {"body": [f"text {i}" for i in range(30)], "team": [TEAMS[i % 3] for i in range(30)], **changes}
    return pa.table({name: values for name, values in columns.items() if values is not None})


def write_bad(case: str, folder: Path) -> None:
    path = folder / "bad.parquet"
    if case == "no column":
        pq.write_table(good_table(team=None), path)
    elif case == "no rows":
        pq.write_table(good_table().slice(0, 0), path)
    elif case == "empty split":
        path.mkdir()
        pq.write_table(good_table(), path / "train.parquet")
        pq.write_table(good_table(body=[" "] * 30), path / "validation.parquet")
    elif case == "unknown label":
        pq.write_table(good_table(team=["billing", "tech", "le\x1b[31mgal\n"] * 10), path)
    else:
        pq.write_table(good_table(), path)
        path.write_bytes(path.read_bytes()[:-100])


BAD_TABLES = {
    "no column": ("bad.parquet", "no column 'team'", "found 'body'", "in the study or fix the file"),
    "no rows": ("bad.parquet", "no rows", "give a table"),
    "empty split": ("validation.parquet", "the validation split of tasks.tickets is empty", "no row with content"),
    "unknown label": ("bad.parquet: row 3", "'le\\x1b[31mgal\\n'", "allowed: 'billing', 'tech', 'other'", "fix"),
    "truncated": ("bad.parquet", "not a readable parquet file", "fetch or write it again"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table(sources, tmp_path, case):
    write_bad(case, tmp_path)
    spec = json.dumps({"name": "tickets", "seed": 0, "settings": SETTINGS})
    run = StudyRun(sources, tmp_path / "tickets.yaml", tmp_path)
    done = run.entry("prepare_task", "--spec", spec, "--out", "out", "--log", "job.log")
    line = done.refused(*BAD_TABLES[case])
    assert done.text == line + "\n"
    assert "\x1b" not in done.text
    assert no_manifest(tmp_path)


def test_a_truncated_table_inside_a_run(sources, tmp_path):
    write_bad("truncated", tmp_path)
    run = described(sources, tmp_path, STUDY.replace("tickets.csv", "bad.parquet").replace("my-model", "model"))
    save_model(tmp_path / "model")
    done = run.snakemake()
    done.refused("[prepare_task] error: bad.parquet: not a readable parquet file")
    assert "Error in rule prepare_task" in done.text
    assert no_manifest(run.results / "tasks")  # the model is prepared beside it, and may be finished
    log = run.results / "logs" / "prepare_task" / "tickets.log"
    assert "Traceback" in log.read_text()


# --- models and the hub ---------------------------------------------------------------------------------------------


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_pickled_weights_are_refused_and_never_opened(sources, tmp_path):
    folder, marker = tmp_path / "my-model", tmp_path / "executed"
    save_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": Payload(marker)}))
    run = described(sources, tmp_path, STUDY)
    done = run.snakemake()
    done.refused("families.mine.scales.small", "my-model/pytorch_model.bin", "never loaded", "save_pretrained")
    assert "Execute" not in done.text
    # Nor by the job, were it reached.
    family = {"source": "models", "scales": {"small": {"path": str(folder)}}}
    with pytest.raises(ModelError, match="never loaded"):
        prepare_model("mine", "small", FamilySettings.model_validate(family), [], tmp_path / "out", 0)
    assert not marker.exists()
    assert no_manifest(tmp_path)


TEXTS = ("imdb", "spam", "helpful", "harmless")
SCALES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")


def test_a_hub_out_of_reach_stops_before_any_job(sources, tmp_path):
    run = StudyRun(sources, sources / "studies" / "pythia.yaml", tmp_path)
    # One target, because drawing up the whole study takes half a minute; all sources are looked at all the same.
    done = run.snakemake("results/pythia/base/pythia/14m/manifest.json")
    assert done.status != 0
    assert "Traceback" not in done.text
    assert "Execute" not in done.text
    assert not (tmp_path / "results").exists()
    keys = [line.split(": ")[1] for line in done.errors]
    assert keys == [*(f"tasks.{name}" for name in TEXTS), *(f"families.pythia.scales.{name}" for name in SCALES)]
    for line in done.errors:
        assert "HARDSCALE_DATA" in line or "hf download EleutherAI/pythia-" in line


# --- places ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def mounting(tmp_path_factory):
    """A command prefix under which tmpfs can be mounted, seen by that command alone."""
    for prefix in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        place = tmp_path_factory.mktemp("mount")
        try:
            tried = call([*prefix, "mount", "-t", "tmpfs", "none", str(place)], place)
        except FileNotFoundError:
            break
        if tried.status == 0:
            return prefix
    pytest.skip("tmpfs cannot be mounted here: needs root or user namespaces")


def on_tmpfs(prefix, place, options, command, cwd, kept=None):
    """Run a command with tmpfs mounted on a folder; what lies there afterwards is copied to ``kept``."""
    script = 'mount -t tmpfs -o "$1" none "$2"; shift 2; "$@"; status=$?; '
    script += f'cp -r "{place}" "{kept}"; ' if kept else ""
    place.mkdir(parents=True, exist_ok=True)
    return call([*prefix, "sh", "-c", f"{script}exit $status", "sh", options, str(place), *command], cwd)


def test_a_file_where_results_should_go(sources, tmp_path):
    save_model(tmp_path / "my-model")
    run = described(sources, tmp_path, STUDY)
    (tmp_path / "results").write_text("not a folder")
    done = run.snakemake()
    done.refused("results/tickets", "cannot be written", "results is a file", "--directory")
    assert "Execute" not in done.text


def test_a_read_only_results_folder(sources, tmp_path, mounting):
    save_model(tmp_path / "my-model")
    run = described(sources, tmp_path, STUDY)
    done = on_tmpfs(mounting, tmp_path / "results", "ro", run.command(), sources)
    done.refused("results/tickets", "Read-only file system", "--directory")
    assert "Execute" not in done.text


def test_a_read_only_place_for_a_job_and_its_log(sources, tmp_path, mounting):
    run = described(sources, tmp_path, STUDY)
    spec = json.dumps({"name": "tickets", "seed": 0, "settings": {**SETTINGS, "source": "tickets.csv"}})
    out = tmp_path / "out"
    for log in ([], ["--log", "out/job.log"]):
        command = run.entry_command("prepare_task", "--spec", spec, "--out", "out/tickets", *log)
        done = on_tmpfs(mounting, out, "ro", command, tmp_path)
        assert done.text == done.refused("out/", "Read-only file system", "fix the place") + "\n"


def test_a_full_disk_while_a_table_is_written(sources, tmp_path, mounting):
    spec = json.dumps({"name": "password_match", "seed": 0, "settings": {}})
    run = StudyRun(sources, tmp_path / "tickets.yaml", tmp_path)
    command = run.entry_command("prepare_task", "--spec", spec, "--out", "full/task", "--log", "job.log")
    done = on_tmpfs(mounting, tmp_path / "full", "size=64k", command, tmp_path, kept=tmp_path / "kept")
    assert done.text == done.refused("full/task", "No space left on device", "MiB free", "--directory") + "\n"
    assert not list((tmp_path / "kept").iterdir())


# --- training -------------------------------------------------------------------------------------------------------


def finetune_command(tickets, folder, state, *options, **optimizer):
    """The finetune entry on the prepared artifacts of a finished study, with other optimizer settings."""
    cell = "tickets/mine/small/s0"
    trained = tickets.results / "models" / cell / "none" / "r00" / "manifest.json"
    spec = json.loads(trained.read_text(encoding="utf-8"))["spec"]
    spec["settings"]["optimizer"] |= optimizer
    inputs = ["--base", tickets.results / "base" / "mine" / "small", "--task", tickets.results / "tasks" / "tickets"]
    places = ["--state", state, "--out", folder / "out", "--log", folder / "job.log"]
    return tickets.entry_command("finetune", "--spec", json.dumps(spec), *inputs, *places, *options)


def test_a_training_that_diverges_stops_at_its_step(tickets, tmp_path):
    """With the largest settings there are, the weights grow a hundredfold in each step."""
    command = finetune_command(tickets, tmp_path, tmp_path / "state", learning_rate=10, weight_decay=10)
    done = call(command, tmp_path)
    line = done.refused("finetune tickets/mine/small/s0", "gradient norm is nan at step", "lower the learning rate")
    assert done.text == line + "\n"
    assert no_manifest(tmp_path)


def test_a_full_disk_while_a_checkpoint_is_written(tickets, tmp_path, mounting):
    state = tmp_path / "full"
    command = finetune_command(tickets, tmp_path, state, "--save-seconds", "0")
    done = on_tmpfs(mounting, state, "size=128k", command, tmp_path, kept=tmp_path / "kept")
    done.refused("finetune tickets/mine/small/s0", str(state), "No space left on device", "MiB free")
    assert not list((tmp_path / "kept").rglob("seal.json"))
    assert no_manifest(tmp_path)
