"""lm-evaluation-harness in another interpreter: settings, the worker, the job, the real package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from attack_fixtures import language_model
from chat_job_kit import publish_task, publish_victim
from planted import Planted, chat_tokenizer
from pydantic import ValidationError

from hardscale.artifacts.manifest import open_artifact, verify
from hardscale.artifacts.tables import read_table
from hardscale.errors import DataError, ModelError, StudyError
from hardscale.evaluation import lm_eval_worker as worker
from hardscale.evaluation.lm_eval_job import headlines, run_lm_eval
from hardscale.evaluation.lm_eval_tool import PYTHON, interpreter, task_folder
from hardscale.evaluation.measure_schemas import LM_EVAL
from hardscale.settings.utility import LmEvalSettings
from lm_eval_stand_in import asked, stand_in

SCRIPT = Path(__file__).parents[2] / "scripts" / "lm_eval_harness.py"
REAL = os.environ.get(PYTHON)


def spec(**settings: Any) -> dict[str, Any]:
    return {"cell": "a/b/c/s0", "defense": "none", "round": 0, "settings": settings}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_numbers_are_of_all_tasks_or_of_each() -> None:
    same = LmEvalSettings(limit=5, num_fewshot=2)
    assert same.tasks == ["mmlu", "arc_easy", "arc_challenge"]
    assert [(same.limit_of(name), same.num_fewshot_of(name)) for name in same.tasks] == [(5, 2)] * 3
    each = LmEvalSettings(tasks=["a", "b"], limit={"a": 3}, num_fewshot={"b": 0})
    assert [(each.limit_of(name), each.num_fewshot_of(name)) for name in "ab"] == [(3, None), (None, 0)]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tasks": []}, "at least 1"),
        ({"tasks": ["a", "a"]}, "a name is there twice"),
        ({"tasks": ["a"], "limit": {"b": 3}}, "limit: 'b' is not one of tasks (a)"),
        ({"tasks": ["a; rm"]}, "tasks.0"),
        ({"limit": 0}, "at least"),
    ],
)
def test_settings_without_a_meaning_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as error:
        LmEvalSettings.model_validate(values)
    assert words in str(error.value)


def test_the_interpreter_is_the_studys_the_environments_or_this_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    assert interpreter() == Path(sys.executable)
    link = tmp_path / "link"
    link.symlink_to(sys.executable)
    monkeypatch.setenv(PYTHON, str(link))
    assert interpreter() == link  # not what it points to: a virtual environment is where its link is
    assert interpreter("sh").is_absolute() and interpreter("sh").name == "sh"


def test_a_folder_of_tasks_is_found_by_its_path_or_below_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    assert task_folder(None, None) is None
    assert task_folder(str(tmp_path / "tasks"), None) == task_folder("tasks", tmp_path) == tmp_path / "tasks"
    with pytest.raises(DataError, match=r"include_path: 'nowhere' is no folder \(looked for nowhere or "):
        task_folder("nowhere", tmp_path)


# --- the worker -------------------------------------------------------------------------------------------------------

Entry = namedtuple("Entry", "kind cfg tags")


def entry(kind: str, cfg: dict[str, Any] | None = None, tags: set[str] | None = None) -> Entry:
    return Entry(SimpleNamespace(name=kind), cfg, tags or set())


def test_results_become_rows_and_groups_count_their_tasks() -> None:
    found = {
        "results": {
            "all": {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "all"},
            "one": {"acc,none": 0.25, "acc_stderr,none": "N/A", "f1,strict": 1, "alias": "- one", "sample_len": 4},
            "two": {"acc,none": 0.75, "acc_stderr,none": 0.2, "alias": "- two"},
        },
        "groups": {"all": {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "all"}},
        "group_subtasks": {"all": ["half", "two"], "half": ["one"], "one": [], "two": []},
        "n-samples": {"one": {"original": 9, "effective": 4}, "two": {"original": 4, "effective": 4}},
        "n-shot": {"one": 2, "two": 0},
        "versions": {"one": 1.0},
    }
    rows = list(worker._rows("all", found))
    brief = [
        tuple(row[key] for key in ("task", "metric", "filter", "value", "stderr", "n", "num_fewshot")) for row in rows
    ]
    assert brief == [
        ("all", "acc", "none", 0.5, 0.1, 8, None),
        ("one", "acc", "none", 0.25, None, 4, 2),
        ("one", "f1", "strict", 1.0, None, 4, 2),
        ("two", "acc", "none", 0.75, 0.2, 4, 0),
    ]
    assert {row["asked"] for row in rows} == {"all"} and rows[1]["task_version"] == "1.0"


def test_the_data_of_groups_and_tags_are_those_of_their_tasks() -> None:
    index = {
        "group": entry("GROUP", {"task": ["one", {"task": "two", "num_fewshot": 3}, {"task": ["tag"]}, "gone"]}),
        "one": entry("TASK", {"dataset_path": "org/one"}),
        "two": entry("PY_TASK", {"dataset_path": "json"}),
        "three": entry("TASK", {"dataset_path": "org/three"}),
        "tag": entry("TAG", None, {"three"}),
        "own": entry("GROUP", {"task": [{"task": "x", "dataset_path": "org/four"}]}),
    }
    assert list(worker._data(index, "group")) == ["org/one", "json", "org/three"]
    assert list(worker._data(index, "own")) == ["org/four"]


@pytest.fixture
def fake_package(monkeypatch: Any) -> dict[str, Any]:
    """A package lm_eval that records how it is asked."""
    calls: dict[str, Any] = {"evaluations": []}

    class TaskManager:
        def __init__(self, include_path: str | None = None) -> None:
            calls["include_path"] = include_path
            self.task_index = {"toy": entry("TASK", {"dataset_path": "org/toy"}), "own": entry("TASK", {})}
            self.all_tasks = sorted(self.task_index)

    class HFLM:
        def __init__(self, **options: Any) -> None:
            calls["model"] = options
            self.tokenizer = SimpleNamespace(get_chat_template=lambda: "{{ x }}")

    def simple_evaluate(**options: Any) -> dict[str, Any]:
        calls["evaluations"].append(options)
        [name] = options["tasks"]
        return {"results": {name: {"acc,none": 0.5}}, "n-samples": {name: {"original": 2, "effective": 2}}}

    parts = {
        "lm_eval": {"simple_evaluate": simple_evaluate},
        "lm_eval.tasks": {"TaskManager": TaskManager},
        "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": HFLM},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    real = importlib.metadata.version
    monkeypatch.setattr(worker.importlib.metadata, "version", lambda name: "9.9" if name == "lm_eval" else real(name))
    return calls


def told(tmp_path: Path, mode: str, request: dict[str, Any]) -> dict[str, Any]:
    (tmp_path / "request").write_text(json.dumps(request))
    before = list(sys.path)
    try:
        worker.main([mode, str(tmp_path / "request"), str(tmp_path / "answer")])
    finally:
        sys.path[:] = before
    return json.loads((tmp_path / "answer").read_text())


def test_the_worker_names_what_it_does_not_know(tmp_path: Path, fake_package: dict[str, Any]) -> None:
    said = told(tmp_path, "check", {"tasks": ["toy", "toi", "own"], "include_path": "/tasks"})
    assert said == {"version": "9.9", "unknown": ["toi"], "known": ["own", "toy"], "data": ["org/toy"]}
    assert fake_package["include_path"] == "/tasks"


def test_the_worker_always_asks_with_the_chat_template(tmp_path: Path, fake_package: dict[str, Any]) -> None:
    tasks = [{"name": "toy", "limit": 3, "num_fewshot": 2}, {"name": "own", "limit": None, "num_fewshot": None}]
    request = {"model": "/m", "tasks": tasks, "include_path": None, "batch_size": 4, "system_prompt": "Be kind."}
    said = told(tmp_path, "run", request)
    first, second = fake_package["evaluations"]
    assert first["apply_chat_template"] is True and second["apply_chat_template"] is True
    assert (first["limit"], first["num_fewshot"], first["fewshot_as_multiturn"]) == (3, 2, True)
    assert (second["limit"], second["num_fewshot"], second["fewshot_as_multiturn"]) == (None, None, True)
    assert first["system_instruction"] == "Be kind."
    assert fake_package["model"]["pretrained"] == "/m" and fake_package["model"]["trust_remote_code"] is False
    assert [row["task"] for row in said["rows"]] == ["toy", "own"]
    assert said["chat_template_sha256"] == hashlib.sha256(b"{{ x }}").hexdigest()


def test_what_goes_wrong_there_is_an_answer(tmp_path: Path, fake_package: dict[str, Any], monkeypatch: Any) -> None:
    said = told(tmp_path, "run", {"model": "/m"})
    assert said["error"] == "failed" and said["message"].startswith("KeyError")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert told(tmp_path, "check", {})["error"] == "import"


# --- the job ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def victim(tmp_path_factory: Any) -> Path:
    tokenizer = chat_tokenizer()
    model = language_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    return publish_victim(tmp_path_factory.mktemp("lm_eval") / "victim", Planted(model, tokenizer, [], [], ""))


def test_the_job_publishes_every_row_and_marks_what_stands_for_a_task(
    tmp_path: Path, victim: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv(PYTHON, str(stand_in(tmp_path / "tool")))
    monkeypatch.setenv("PYTHONPATH", "/ours")
    task, out = publish_task(tmp_path / "task", system_prompt="Be brief."), tmp_path / "out"
    run_lm_eval(victim, task, spec(tasks=["toy", "own"], limit={"toy": 3}, batch_size=2), out)
    verify(out)
    manifest = open_artifact(out, "lm_eval")
    rows = read_table(out / "lm_eval.parquet", LM_EVAL).to_pylist()
    assert [(row["task"], row["metric"], row["n"], row["headline"]) for row in rows] == [
        ("toy", "acc", 3, True),
        ("toy", "acc_norm", 3, False),
        ("own", "acc", 8, True),
        ("own", "acc_norm", 8, False),
    ]
    assert {(row["lm_eval_version"], row["chat_template_sha256"]) for row in rows} == {("9.9", "ab")}
    assert manifest["facts"]["versions"] == {"torch": "9.9"} and set(manifest["inputs"]) == {"victim", "task"}
    [(mode, request)] = asked(tmp_path / "tool")
    assert mode == "run" and request["model"] == str(victim / "model") and request["system_prompt"] == "Be brief."
    assert request["end_tokens"] == [chat_tokenizer().eos_token_id]
    assert request["tasks"][0] == {"name": "toy", "limit": 3, "num_fewshot": None}


def test_a_tag_is_each_of_its_tasks_and_nothing_is_an_error() -> None:
    def row(task: str, metric: str, kind: str = "none") -> dict[str, Any]:
        return {"asked": "tag", "task": task, "metric": metric, "filter": kind}

    rows = [row("b", "f1"), row("a", "bleu"), row("a", "acc_norm"), row("b", "exact_match", "loose")]
    assert [(one["task"], one["metric"]) for one in headlines(rows, "tag")] == [("b", "exact_match"), ("a", "acc_norm")]
    with pytest.raises(ModelError, match="no number for other"):
        headlines(rows, "other")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"run": {"error": "failed", "message": "RuntimeError:\nno  memory"}}, "failed (RuntimeError: no memory)"),
        ({"run": {"error": "import", "message": "no module"}}, "has no usable lm_eval (no module); install"),
        ({"status": 3}, "ended with status 3 and without an answer"),
        ({"text": "{"}, "its answer is not JSON"),
        ({"text": "[1]"}, "its answer is not a JSON object"),
    ],
)
def test_what_goes_wrong_is_one_line(
    tmp_path: Path, victim: Path, monkeypatch: Any, said: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv(PYTHON, str(stand_in(tmp_path / "tool", **said)))
    task = publish_task(tmp_path / "task")
    with pytest.raises(StudyError) as error:
        run_lm_eval(victim, task, spec(tasks=["toy"]), tmp_path / "out")
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_malformed_spec_is_named(tmp_path: Path, victim: Path) -> None:
    task = publish_task(tmp_path / "task")
    with pytest.raises(StudyError, match=r"settings\.limit"):
        run_lm_eval(victim, task, spec(limit=0), tmp_path / "out")
    with pytest.raises(StudyError, match="allowed: cell, defense, instruction_set, round, settings"):
        run_lm_eval(victim, task, {"cell": "a"}, tmp_path / "out")


def command(victim: Path, task: Path, out: Path, values: dict[str, Any]) -> list[str]:
    words = [sys.executable, str(SCRIPT), "--spec", json.dumps(values), "--victim", str(victim / "manifest.json")]
    return [*words, "--task", str(task), "--out", str(out / "manifest.json"), "--log", str(out.with_suffix(".log"))]


def test_the_command_line_loads_no_torch_of_ours(tmp_path: Path, victim: Path) -> None:
    task, out = publish_task(tmp_path / "task"), tmp_path / "out"
    words = command(victim, task, out, spec(tasks=["toy"]))
    environment = {**os.environ, PYTHON: str(stand_in(tmp_path / "tool")), "HF_HUB_OFFLINE": "1"}
    words[1:1] = ["-X", "importtime"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    log = out.with_suffix(".log").read_text()
    assert done.returncode == 0, done.stderr
    assert "toy acc 0.25" in done.stderr and "| torch\n" not in log + done.stderr
    assert open_artifact(out, "lm_eval")["spec"] == spec(tasks=["toy"])


@pytest.mark.long
@pytest.mark.skipif(not REAL, reason=f"{PYTHON} names no interpreter with lm_eval")
def test_the_real_package_measures_a_chat_model(tmp_path: Path, victim: Path) -> None:
    """Likelihoods of a random model against its own, asked with the chat template by hand."""
    import torch

    from hardscale.models.chat import load_chat_model

    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"q": f"Which word is it, {i}?", "choices": ["apple", "pear", "fig"], "a": i % 3} for i in range(6)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "toy.yaml").write_text(
        "task: toy_words\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {folder / 'rows.jsonl'}\n"
        "test_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{q}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{a}}"\n'
        'target_delimiter: ""\nmetric_list:\n  - {metric: acc}\nmetadata: {version: 1.0}\n'
    )
    (folder / "group.yaml").write_text(
        "group: toy_group\ntask: [toy_words]\naggregate_metric_list:\n  - {metric: acc, weight_by_size: true}\n"
        "metadata: {version: 1.0}\n"
    )
    task, out = publish_task(tmp_path / "task"), tmp_path / "out"
    values = spec(tasks=["toy_words", "toy_group"], limit={"toy_group": 4}, include_path=str(folder), batch_size=2)
    done = subprocess.run(command(victim, task, out, values), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + out.with_suffix(".log").read_text()[-3000:]
    found = {row["asked"]: row for row in read_table(out / "lm_eval.parquet", LM_EVAL).to_pylist() if row["headline"]}
    assert (found["toy_words"]["n"], found["toy_group"]["n"]) == (6, 4)
    model, tokenizer = load_chat_model(victim)
    right = []
    for row in rows:
        asked_for = [{"role": "user", "content": row["q"]}]
        text = tokenizer.apply_chat_template(asked_for, tokenize=False, add_generation_prompt=True)
        losses = []
        for choice in row["choices"]:
            prompt, whole = (tokenizer(one, add_special_tokens=False)["input_ids"] for one in (text, text + choice))
            with torch.no_grad():
                scores = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            losses.append(sum(float(scores[i - 1, whole[i]]) for i in range(len(prompt), len(whole))))
        right.append(losses.index(max(losses)) == row["a"])
    assert found["toy_words"]["value"] == pytest.approx(sum(right) / 6)
    assert found["toy_group"]["value"] == pytest.approx(sum(right[:4]) / 4)
