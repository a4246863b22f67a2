"""Folders in the hub's layouts: the datasets package, given the same folder, is the oracle."""

import gzip
import json
import time

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.locate import locate
from hardscale.tasks.source import read_place


def write(folder, files):
    """Every file with two rows that tell which one it is; texts are written as they are."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"text": f"{name} {i}", "label": i} for i in range(2)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif name.endswith(".csv"):
            path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
        elif name.endswith(".json"):
            path.write_text(json.dumps(rows))
        else:
            path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def ours(folder):
    place = locate("mine", TaskSettings(kind="imdb", source=str(folder)), None)
    source = read_place("mine", place, None, ("text", "label"))
    return {split: [row.values["text"] for row in rows] for split, rows in source.splits.items()}


def theirs(folder, cache):
    """The hub's splits under our names: training, and of the others the first that is there."""
    found = datasets.load_dataset(str(folder), cache_dir=str(cache))
    train = next(name for name in ("train", "train_sft") if name in found)
    known = ("validation", "valid", "val", "dev", "test", "test_sft")
    other = next((name for name in known if name in found), None)
    splits = {"train": train, **({"validation": other} if other else {})}
    return {split: found[name]["text"][:] for split, name in splits.items()}


def shards(begin, n, of=None, end=""):
    return [f"{begin}-{i:05d}-of-{of or n:05d}{end}.parquet" for i in range(n)]


LAYOUTS = {
    "shards with a hash": ["data/train-00000-of-00002-abc123.parquet", "data/train-00001-of-00002-def456.parquet"],
    "shards of three splits": [
        *(f"data/{split}-00000-of-00001-0a1b2c.parquet" for split in ("train", "validation", "test")),
        "data/unsupervised-00000-of-00001.parquet",
    ],
    "shards with other names": ["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"],
    "shards beside the folder": [*shards("train", 2), *shards("test", 1)],
    "the hub's conversion": ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"],
    "folders of splits": ["train/0000.parquet", "validation/0000.parquet"],
    "a cut conversion": ["default/partial-train/0000.parquet", "default/partial-test/0000.parquet"],
    "plain names": ["train.jsonl.gz", "test.jsonl.gz"],
    "csv": ["train.csv", "test.csv"],
    "json": ["train.json", "valid.json"],
    "dev": ["train.jsonl", "dev.jsonl"],
    "val": ["imdb-train.parquet", "imdb-val.parquet"],
    "evaluation": ["training_2.csv", "my_evaluation.csv"],
    "below a configuration": ["plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"],
    "deep": ["a/b/c/train.parquet"],
    "one file of any name": ["rows.jsonl"],
    "parts of one table": ["part-00000.parquet", "part-00001.parquet"],
    "underscores": ["train_a.jsonl", "test_a.jsonl"],
    "validation before test": ["train.csv", "validation.csv", "test.csv"],
    "hidden things beside it": ["train.csv", ".git/train.csv", "__pycache__/train.csv", ".train.csv"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_read_as_the_hub_reads_it(tmp_path, layout):
    folder = write(tmp_path / "folder", LAYOUTS[layout])
    assert ours(folder) == theirs(folder, tmp_path / "cache")


READMES = {
    "one configuration": (
        "configs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'some/*.parquet'}\n"
        "  - {split: test, path: ['other/b.parquet', 'other/a*']}\n",
        ["some/x.parquet", "some/y.parquet", "other/a.parquet", "other/b.parquet", "other/c.parquet"],
    ),
    "a default among two": (
        "configs:\n- config_name: old\n  data_files: 'old/train.csv'\n"
        "- config_name: new\n  default: true\n  data_files: 'new/**'\n",
        ["old/train.csv", "new/a/train.csv"],
    ),
    "a folder": (
        "configs:\n- config_name: default\n  data_dir: part\n  data_files: '*.jsonl'\n",
        ["part/x.jsonl", "y.jsonl"],
    ),
    "keys that are numbers": (
        "years:\n  2019: few\n  1.5: some\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        "    path: a.csv\n  - split: test\n    path: b.csv\n",
        ["a.csv", "b.csv"],
    ),
    "says nothing of files": ("license: mit\n", ["train.csv", "test.csv"]),
}


@pytest.mark.parametrize("case", READMES)
def test_a_readme_says_which_files_are_which_split(tmp_path, case):
    head, files = READMES[case]
    folder = write(tmp_path / "folder", files)
    (folder / "README.md").write_text(f"---\n{head}---\n# A data set\n")
    assert {k: sorted(v) for k, v in ours(folder).items()} == {
        k: sorted(v) for k, v in theirs(folder, tmp_path / "cache").items()
    }


HEADS = {
    "an alias that grows": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
    "a merge that grows": "m0: &m0 {x: 1}\n"
    + "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 8)),
    "a truth that is none": "x: !!bool x\n",
    "a time that is none": "x: !!timestamp x\n",
    "deep": "x: " + "[" * 5000 + "]" * 5000 + "\n",
    "a key twice": "license: mit\nlicense: apache-2.0\n",
}


@pytest.mark.parametrize("case", HEADS)
def test_a_head_of_a_readme_that_is_no_such_is_refused(tmp_path, case):
    folder = write(tmp_path / "folder", ["train.csv"])
    (folder / "README.md").write_text(f"---\n{HEADS[case]}---\n# A data set\n")
    with pytest.raises(DataError, match=r"README\.md: .*(line|twice).*or remove it") as caught:
        ours(folder)
    assert len(str(caught.value).splitlines()) == 1


def test_line_ends_without_end_in_a_readme_cost_nothing(tmp_path):
    folder = write(tmp_path / "folder", ["train.csv", "test.csv"])
    (folder / "README.md").write_text("---" + "\n" * 1_000_000)
    began = time.process_time()
    assert set(ours(folder)) == {"train", "validation"}
    assert time.process_time() - began < 2, "a matcher that splits them in every way takes hours"


REFUSED = {
    "a missing shard": (shards("data/train", 2, of=3), "2 of 3 files like"),
    "a missing first one": (["train/0001.parquet", "train/0000.parquet", "train/0003.parquet"], "3 of 4 files like"),
    "a shard of two revisions": ([*shards("data/train", 2, end="-aa"), *shards("data/train", 1, 2, "-bb")], "twice"),
    "two divisions": ([*shards("data/train", 1), *shards("data/train", 2)], "several divisions"),
    "two configurations": (["a/train/0000.parquet", "b/train/0000.parquet"], "several tables, in a, b"),
    "two formats": (["train.parquet", "train.csv"], "a split in several forms, train.csv, train.parquet"),
    "a whole one beside shards": (["train.parquet", "train-00000-of-00001.parquet"], "a split in several forms"),
    "both splits in a name": (["train-val.csv"], "its name says training and validation"),
    "no training": (["test.csv", "validation.csv"], "no split 'train'; found test, validation"),
    "unrelated tables": (["apples.csv", "pears.csv"], "2 tables that no name tells apart"),
    "nothing": (["notes.txt"], "no train.parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_clear_or_not_whole_is_refused(tmp_path, case):
    files, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        ours(write(tmp_path / "folder", files))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_links(tmp_path):
    """As the hub's cache keeps files; a folder that leads back to itself is looked at once."""
    write(tmp_path / "blobs", ["data/train-00000-of-00001.parquet"])
    folder = tmp_path / "snapshot"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train-00000-of-00001.parquet").symlink_to(tmp_path / "blobs/data/train-00000-of-00001.parquet")
    (folder / "data/again").symlink_to(folder)
    assert list(ours(folder)) == ["train"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="loop: cannot be looked at"):
        ours(tmp_path / "loop")


def test_columns_that_one_shard_lacks_are_refused_by_file(tmp_path):
    folder = write(tmp_path / "folder", ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"])
    pq.write_table(pa.table({"text": ["a"]}), folder / "data/train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"00001-of-00002.parquet: no column 'label'; found 'text'"):
        ours(folder)


def test_every_row_of_every_file_is_counted(tmp_path):
    place = locate(
        "mine", TaskSettings(kind="imdb", source=str(write(tmp_path / "f", ["train.csv", "test.jsonl"]))), None
    )
    source = read_place("mine", place, None, ("text", "label"))
    assert source.facts["read"] == {
        "f/train.csv": {"rows": 2, "blank_lines": 0},
        "f/test.jsonl": {"rows": 2, "blank_lines": 0},
    }
