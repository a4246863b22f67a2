"""The hub as a source: preflight, cache, pins, and never a long wait."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks import hub
from hardscale.tasks.check import check_source
from hardscale.tasks.locate import HubTable, LocalFiles, locate
from hardscale.tasks.source import read_source
from waiting import HANG_SECONDS

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHA = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)
    return tmp_path / "hf" / "datasets"


def fake_datasets(monkeypatch, splits, error=None, cache_file="/cache/none/x.arrow"):
    """A stand-in for the datasets package that records how it was asked."""
    calls = []

    class Split:
        def __init__(self, table):
            self.table = table
            self.column_names = table.column_names
            self.cache_files = [{"filename": cache_file}]

        def select_columns(self, names):
            return Split(self.table.select(names))

        def with_format(self, kind):
            assert kind == "arrow"
            return self.table

    def load_dataset(repo, **settings):
        calls.append((repo, settings))
        if error:
            raise error
        return {name: Split(pa.table(columns)) for name, columns in splits.items()}

    module = types.SimpleNamespace(load_dataset=load_dataset, DownloadConfig=lambda **settings: settings)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def online(monkeypatch):
    monkeypatch.setattr(hub, "reachable", lambda: True)


ROWS = {"text": ["good", "bad"], "label": [1, 0], "other": [0, 0]}


def test_hub_is_asked_with_the_folder_and_the_pin(monkeypatch):
    online(monkeypatch)
    calls = fake_datasets(monkeypatch, {"train": ROWS, "test": {"text": ["fine"], "label": [1]}, "unsupervised": ROWS})
    settings = TaskSettings(kind="imdb", source=f"hub:some-org/reviews/part@{SHA}")
    source = read_source("imdb", settings, None, ("text", "label"))
    assert calls[0][0] == "some-org/reviews"
    assert calls[0][1]["data_dir"] == "part" and calls[0][1]["revision"] == SHA
    assert [row.values for row in source.splits["validation"]] == [{"text": "fine", "label": 1}]
    assert (source.facts["source"], source.facts["revision"]) == ("hub:some-org/reviews/part", SHA)
    assert list(source.facts["read"].values()) == [{"rows": 2}, {"rows": 1}]


def test_builtin_hub_sources_are_unpinned(monkeypatch):
    online(monkeypatch)
    calls = fake_datasets(monkeypatch, {"train": {"chosen": ["a"], "rejected": ["b"]}})
    source = read_source("helpful", TaskSettings(), None, ("chosen", "rejected"))
    assert calls[0] == (
        "Anthropic/hh-rlhf",
        {"data_dir": "helpful-base", "revision": None, "download_config": {"max_retries": 2}},
    )
    assert source.facts["revision"] == "unpinned" and "validation" not in source.splits


def test_hub_errors_are_one_line(monkeypatch):
    online(monkeypatch)
    fake_datasets(monkeypatch, {}, error=RuntimeError("Revision 'x'\ndoes not exist"))
    with pytest.raises(
        DataError, match=r"tasks\.imdb: stanfordnlp/imdb could not be read .*Revision 'x' does not"
    ) as info:
        read_source("imdb", TaskSettings(), None, ("text", "label"))
    assert "\n" not in str(info.value)
    fake_datasets(monkeypatch, {"test": ROWS})
    with pytest.raises(DataError, match="no split 'train'; found 'test'"):
        read_source("imdb", TaskSettings(), None, ("text", "label"))
    fake_datasets(monkeypatch, {"train": {"text": ["a"]}})
    with pytest.raises(DataError, match="stanfordnlp/imdb, split train: no column 'label'; found 'text'"):
        read_source("imdb", TaskSettings(), None, ("text", "label"))


@pytest.mark.parametrize("task", ["imdb", "spam", "helpful", "harmless"])
def test_offline_and_absent_is_one_line_that_says_what_to_fetch(task, offline, tmp_path):
    line = check_source(task, TaskSettings(), None)
    assert line is not None and "\n" not in line
    for part in (f"tasks.{task}", "HARDSCALE_DATA", "data.root", "/train.parquet", "run once with network"):
        assert part in line
    with pytest.raises(DataError) as info:
        read_source(task, TaskSettings(), None, ("text", "label"))
    assert str(info.value) == line
    with_root = check_source(task, TaskSettings(), tmp_path)
    assert with_root is not None and str(tmp_path) in with_root


def test_offline_never_asks_the_network(offline, monkeypatch):
    monkeypatch.setattr(hub, "_answers", lambda endpoint: pytest.fail("asked"))
    assert not hub.reachable()


def test_an_endpoint_that_never_answers_costs_a_bounded_wait(monkeypatch):
    late, answered = threading.Event(), threading.Event()

    def answer_late(*_, **__):
        late.wait(HANG_SECONDS)
        answered.set()
        raise OSError("too late")

    monkeypatch.setattr(hub.urllib.request, "urlopen", answer_late)
    monkeypatch.setattr(hub, "_ANSWER_SECONDS", 0.2)
    try:
        assert not hub._answers("https://never.example")
        assert not answered.is_set(), "waited for the endpoint"
    finally:
        late.set()


def test_an_unpleasant_answer_is_an_answer(monkeypatch):
    def refuse(*_, **__):
        raise hub.urllib.error.HTTPError("x", 405, "no", None, None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    assert hub._answers("https://grumpy.example")
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("gone")))
    assert not hub._answers("https://gone.example")


def test_cache_is_found_by_name_folder_and_revision(offline):
    fetched = offline / "Anthropic___hh-rlhf" / "default-data_dir=helpful-base" / "0.0.0" / SHA
    fetched.mkdir(parents=True)
    assert hub.cached(HubTable("Anthropic/hh-rlhf", "helpful-base", None))
    assert hub.cached(HubTable("Anthropic/hh-rlhf", "helpful-base", SHA))
    assert not hub.cached(HubTable("Anthropic/hh-rlhf", "harmless-base", None))
    assert not hub.cached(HubTable("Anthropic/hh-rlhf", "helpful-base", "0" * 40))
    assert not hub.cached(HubTable("Anthropic/hh", None, None))
    assert check_source("helpful", TaskSettings(), None) is None
    assert check_source("harmless", TaskSettings(), None) is not None


def test_the_root_comes_before_the_hub(tmp_path):
    for folder in ("stanfordnlp/imdb", "imdb"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "train.parquet").touch()
        place = locate("imdb", TaskSettings(), tmp_path)
        assert isinstance(place, LocalFiles) and place.origin == f"root:{folder}"


@pytest.mark.parametrize("source", ["hub:imdb", "hub:a/b@", "hub:a/../b", "hub:", "hub:a/b c"])
def test_malformed_hub_names_are_refused(source):
    line = check_source("t", TaskSettings(kind="imdb", source=source), None)
    assert line is not None and "hub:org/name" in line


def test_preflight_imports_nothing_heavy():
    code = """
        import sys
        from hardscale.settings.tasks import TaskSettings
        from hardscale.tasks.check import check_source
        check_source("imdb", TaskSettings(), None)
        heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "numpy"} & set(sys.modules)
        assert not heavy, heavy
    """
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_a_fetched_table_is_read_offline_by_the_real_package(offline, tmp_path):
    """A cache as the datasets package writes it for a hub table; offline it is read, another revision is refused."""
    code = """
        import sys, json, shutil
        from pathlib import Path
        import datasets
        source, cache, sha = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
        files = {"train": str(source), "test": str(source)}
        found = datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache))
        made = Path(found["train"].cache_files[0]["filename"]).parent
        place = cache / "stanfordnlp___imdb" / "plain_text" / "0.0.0" / sha
        place.parent.mkdir(parents=True)
        shutil.copytree(made, place)
        for path in place.glob("parquet-*.arrow"):
            path.rename(path.with_name(path.name.replace("parquet-", "imdb-")))
        info = json.loads((place / "dataset_info.json").read_text())
        info.update(dataset_name="imdb", config_name="plain_text")
        (place / "dataset_info.json").write_text(json.dumps(info))
    """
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    arguments = [str(tmp_path / "rows.parquet"), str(offline), SHA]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), *arguments], check=True, env=environment)
    shutil.rmtree(offline / "parquet")
    read = """
        import json, sys
        from hardscale.settings.tasks import TaskSettings
        from hardscale.tasks.source import read_source
        for revision in sys.argv[1:]:
            settings = TaskSettings(kind="imdb", source="hub:stanfordnlp/imdb" + revision)
            source = read_source("imdb", settings, None, ("text", "label"))
            print(json.dumps([[row.values for row in source.splits["validation"]], source.facts["revision"]]))
    """
    command = [sys.executable, "-c", textwrap.dedent(read), "", f"@{SHA}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[rows, "unpinned"], [rows, SHA]]
    other = check_source("imdb", TaskSettings(kind="imdb", source="hub:stanfordnlp/imdb@" + "0" * 40), None)
    assert other is not None and "at revision 000" in other


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_csv_and_json_of_the_hub_are_read_from_their_files(offline, tmp_path, monkeypatch, suffix):
    """The datasets package makes 7 of 007, and nothing of NA; its reader of a folder stands in for that of the hub."""
    import datasets
    import huggingface_hub

    folder = tmp_path / "snapshot"
    folder.mkdir()
    rows = [{"text": text, "label": "1"} for text in ("NA", "007", "null")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    csv_text = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
    (folder / f"train.{suffix}").write_text(csv_text if suffix == "csv" else text)
    asked = []

    def fetch(repo, **options):
        asked.append((repo, options["repo_type"], options["revision"]))
        return str(folder)

    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: load(str(folder), cache_dir=str(tmp_path / "cache")))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    online(monkeypatch)
    settings = TaskSettings(kind="imdb", source=f"hub:some-org/reviews@{SHA}")
    source = read_source("imdb", settings, None, ("text", "label"))
    assert [row.values["text"] for row in source.splits["train"]] == ["NA", "007", "null"]
    assert asked == [("some-org/reviews", "dataset", SHA)]
    assert (source.facts["source"], source.facts["revision"]) == ("hub:some-org/reviews", SHA)


def test_errors_of_the_hubs_readers_quote_no_row(monkeypatch):
    online(monkeypatch)
    broken = pa.ArrowInvalid("CSV parse error: a private row of text")
    generation = type("DatasetGenerationError", (Exception,), {})("An error occurred: a private row")
    generation.__cause__ = broken
    for error in (broken, generation):
        fake_datasets(monkeypatch, {}, error=error)
        with pytest.raises(DataError, match=r"could not be read from the hub \(its rows: ") as caught:
            read_source("imdb", TaskSettings(), None, ("text", "label"))
        assert "private" not in str(caught.value) and caught.value.__suppress_context__
