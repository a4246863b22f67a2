"""Tasks from tables: every format, every refusal, hostile text, splits that never overlap."""

import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardscale.artifacts.manifest import verify
from hardscale.errors import ArtifactError, DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.build import build_task, prepare_task
from hardscale.tasks.check import check_source
from hardscale.tasks.data import load_split, load_task
from hardscale.tasks.source import read_columns

PREPARE = Path(__file__).parents[2] / "scripts" / "prepare_task.py"
HOSTILE = ["{0} %s", "\x01\x1b[31m", "<script>alert(1)</script>", "../../etc", "\"'`$(x),;", "a\r\nb\u2028c", "𝔘́‮"]
ROWS = [{"body": f"text {i} {hostile}", "kind": ["x", "y", "z"][i % 3]} for i, hostile in enumerate(HOSTILE * 9)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def described(source, **other):
    return TaskSettings(
        **{
            "source": str(source),
            "text": "body",
            "label": "kind",
            "labels": ["x", "y", "z"],
            "answer_prompt": "?",
            **other,
        }
    )


def contents(examples):
    return [example.chunks[1] for example in examples]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "jsonl.gz", "parquet"])
def test_every_format_gives_the_same_splits_with_text_unchanged(tmp_path, suffix):
    path = write(tmp_path / f"rows.{suffix}", ROWS)
    task = build_task("mine", described(path), 0, None)
    by_text = {row["body"]: row["kind"] for row in ROWS}
    for example in task.train + task.validation:
        assert by_text[example.chunks[1]] == "xyz"[example.label]
        assert ROWS[example.example_id]["body"] == example.chunks[1]
    assert sorted(contents(task.train + task.validation)) == sorted(by_text)
    assert task.labels == (" x", " y", " z") and task.chunk_kinds == ("immutable", "perturbable", "immutable")
    assert task.facts["source"] == str(path) and len(task.facts["source_files"]) == 1
    again = build_task("mine", described(write(tmp_path / "again.parquet", ROWS)), 0, None)
    assert (task.train, task.validation) == (again.train, again.validation)


def test_the_split_by_content_ignores_the_order_of_rows(tmp_path):
    one = build_task("mine", described(write(tmp_path / "a.csv", ROWS)), 0, None)
    other = build_task("mine", described(write(tmp_path / "b.csv", ROWS[::-1])), 0, None)
    assert set(contents(one.validation)) == set(contents(other.validation))
    assert 0 < len(one.validation) < len(one.train)
    more = build_task("mine", described(tmp_path / "a.csv", validation_fraction=0.5), 0, None)
    assert set(contents(one.validation)) < set(contents(more.validation))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=6, unique=True))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_any_text_is_read_unchanged(tmp_path_factory, suffix, texts):
    if suffix == "csv":  # what a csv file can hold, as Python's own writer has it
        texts = [text.replace("\x00", "") + "." for text in texts]
    path = write(tmp_path_factory.mktemp("any") / f"rows.{suffix}", [{"body": text, "kind": "x"} for text in texts])
    assert read_columns(path, ("body", "kind")) == {"body": texts, "kind": ["x"] * len(texts)}


def test_csv_values_stay_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffbody,kind,n\n007,1,\nNA,null,2\n,1.0,3\n", encoding="utf-8")
    assert read_columns(path, ("body", "kind")) == {"body": ["007", "NA", ""], "kind": ["1", "null", "1.0"]}


def test_labels_of_other_types_are_given_as_text(tmp_path):
    for name, values, labels in (
        ("int", [0, 1], ["0", "1"]),
        ("float", [0.0, 1.0], ["0", "1"]),
        ("bool", [False, True], ["false", "true"]),
    ):
        rows = [{"body": f"t{i}", "kind": values[i % 2]} for i in range(40)]
        task = build_task("mine", described(write(tmp_path / f"{name}.parquet", rows), labels=labels), 0, None)
        assert all(example.label == int(example.chunks[1][1:]) % 2 for example in task.train)


def test_folders_have_a_file_a_split_or_shards(tmp_path):
    train, validation = ROWS[:40], ROWS[40:]
    write(tmp_path / "plain" / "train.csv", train)
    write(tmp_path / "plain" / "test.csv", validation)
    write(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet", train[:25])
    write(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet", train[25:])
    write(tmp_path / "hub" / "data" / "validation-00000-of-00001.parquet", validation)
    plain = build_task("mine", described(tmp_path / "plain"), 0, None)
    sharded = build_task("mine", described("hub"), 0, tmp_path)
    assert (plain.train, plain.validation) == (sharded.train, sharded.validation)
    assert set(contents(plain.validation)) == {row["body"] for row in validation}
    assert sharded.facts["source"] == "hub"
    one = write(tmp_path / "one" / "anything.jsonl", ROWS).parent
    assert build_task("mine", described(one), 0, None).validation
    (tmp_path / "hub" / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 of 2 files like train-00000-of-00002"):
        build_task("mine", described("hub"), 0, tmp_path)


def test_a_path_is_looked_up_from_the_working_directory_then_from_the_root(tmp_path, monkeypatch):
    write(tmp_path / "here" / "rows.csv", ROWS)
    write(tmp_path / "root" / "there.csv", ROWS)
    monkeypatch.chdir(tmp_path / "here")
    assert check_source("mine", described("rows.csv"), None) is None
    assert check_source("mine", described("there.csv"), Path("../root")) is None
    line = check_source("mine", described("nowhere.csv"), Path("../root"))
    assert "nowhere.csv' is not there (looked for nowhere.csv or ../root/nowhere.csv)" in line


def test_rows_in_both_splits_stay_in_training_only(tmp_path):
    write(tmp_path / "t" / "train.csv", ROWS[:40])
    write(tmp_path / "t" / "validation.csv", ROWS[30:])
    task = build_task("mine", described(tmp_path / "t"), 0, None)
    assert not set(contents(task.train)) & set(contents(task.validation))
    assert len(task.validation) == len(ROWS) - 40
    assert task.facts["dropped"] == {"without_content": 0, "validation_also_in_train": 10}
    # Cutting can make rows equal that were not.
    cut = build_task("mine", described(write(tmp_path / "rows.csv", ROWS), max_words=2), 0, None)
    assert all(len(text.split()) == 2 for text in contents(cut.train + cut.validation))
    assert not set(contents(cut.train)) & set(contents(cut.validation))


def test_the_first_rows_of_the_shuffle_are_kept(tmp_path):
    path = write(tmp_path / "rows.csv", ROWS)
    whole = build_task("mine", described(path), 0, None)
    part = build_task("mine", described(path, n_train=7, n_validation=3), 0, None)
    assert (part.train, part.validation) == (whole.train[:7], whole.validation[:3])
    assert build_task("mine", described(path), 1, None).train != whole.train


BAD_ROWS = {
    "another label": (
        [*ROWS[:5], {"body": "b", "kind": "w"}],
        r"row 6: column 'kind' holds 'w', allowed: 'x', 'y', 'z'",
    ),
    "missing column": ([{"body": "b", "class": "x"}], r"no column 'kind'; found 'body', 'class'"),
    "no rows with content": (
        [{"body": " ", "kind": "x"}],
        r"the train split of tasks\.mine is empty: no row with content",
    ),
    "nothing to validate on": (
        [ROWS[0]],
        r"empty: no row with content after 0\.2 of the rows were split off by content",
    ),
}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("case", sorted(BAD_ROWS))
def test_bad_tables_are_refused_in_one_line_that_names_the_file(tmp_path, case, suffix):
    rows, message = BAD_ROWS[case]
    path = write(tmp_path / f"rows.{suffix}", rows)
    with pytest.raises(DataError, match=message) as info:
        build_task("mine", described(path), 0, None)
    assert str(path) in str(info.value) and "\n" not in str(info.value)


def test_unusable_values_are_refused(tmp_path):
    for row, message in (
        ({"body": 3, "kind": "x"}, "row 2: column 'body' holds int 3, expected text"),
        ({"body": "\ud800", "kind": "x"}, "row 2: column 'body' holds half a character"),
        ({"body": "b", "kind": None}, "row 2: column 'kind' holds None, allowed"),
        ({"body": "b"}, "row 2 has no column 'kind'"),
        ([1], "row 2 is list, expected an object"),
    ):
        path = write(tmp_path / "rows.jsonl", [ROWS[0], row])
        with pytest.raises(DataError, match=message):
            build_task("mine", described(path), 0, None)
    path.write_text('{"body": "b", "kind": "x"}\n{"body"')
    with pytest.raises(DataError, match="row 2 is not JSON"):
        build_task("mine", described(path), 0, None)
    nulls = write(tmp_path / "rows.parquet", [*ROWS, {"body": None, "kind": "x"}])
    assert build_task("mine", described(nulls), 0, None).facts["dropped"]["without_content"] == 1


def test_unreadable_files_are_refused_by_name(tmp_path):
    whole = write(tmp_path / "rows.parquet", ROWS).read_bytes()
    zipped = write(tmp_path / "whole.jsonl.gz", ROWS).read_bytes()
    for name, data, message in (
        ("cut.parquet", whole[: len(whole) // 2], "not a readable parquet file"),
        ("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\n", "not a readable parquet file"),
        ("empty.parquet", b"", "not a readable parquet file"),
        ("cut.jsonl.gz", zipped[: len(zipped) // 2], "not a readable gz file"),
        ("not.jsonl.gz", b"text", "not a readable gz file"),
        ("latin.csv", b"body,kind\n\xff\xfe,x\n", "not a readable csv file"),
        ("ragged.csv", b"body,kind\na,x\nb\n", r"row 2 \(line 3\) has 1 fields, the header 2"),
        ("twice.csv", b"body,kind,kind\na,x,y\n", "2 columns are called 'kind'"),
        ("empty.csv", b"", "the file is empty"),
        ("header.csv", b"body,kind\n", "no rows"),
        ("empty.jsonl", b"\n", "no rows"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as info:
            build_task("mine", described(path), 0, None)
        assert str(path) in str(info.value) and "\n" not in str(info.value)


def test_places_that_hold_no_table_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    for source, root, message in (
        (tmp_path / "notes.txt", None, "a table is a file .parquet"),
        (tmp_path, None, "no train.parquet"),
        ("x.csv", tmp_path / "absent", "the data root is not a folder"),
    ):
        line = check_source("mine", described(source), root)
        assert line is not None and message in line
        with pytest.raises(DataError) as info:
            build_task("mine", described(source), 0, root)
        assert str(info.value) == line
    incomplete = TaskSettings(source=str(write(tmp_path / "a.csv", ROWS)))
    assert "also needs text, label and labels" in check_source("imdb", incomplete, None)
    with pytest.raises(DataError, match=r"tasks\.imdb: a task with a source also needs"):
        build_task("imdb", incomplete, 0, None)
    assert "'poetry' is not a task" in check_source("poetry", TaskSettings(), None)


def preference_root(tmp_path, n=31):
    rows = [
        {"chosen": f"\n\nHuman: q {i}\n\nAssistant: good {i}", "rejected": f"\n\nHuman: q {i}\n\nAssistant: bad {i}"}
        for i in range(n)
    ]
    rows += [{"chosen": "same", "rejected": "same"}, {"chosen": "", "rejected": "x"}]
    write(tmp_path / "hh_rlhf_helpful" / "train.parquet", rows)
    write(
        tmp_path / "hh_rlhf_helpful" / "validation.parquet",
        [{"chosen": f"c{i}", "rejected": f"r{i}"} for i in range(9)],
    )
    return tmp_path


def test_preference_order_follows_the_place_after_the_shuffle(tmp_path):
    task = build_task("helpful", TaskSettings(), 0, preference_root(tmp_path))
    assert [example.label for example in task.train] == [i % 2 for i in range(31)]
    for example in task.train:
        first, second = example.chunks[1].removeprefix("Conversation 1\n---\n").split("\n---\nConversation 2\n---\n")
        chosen = second.removesuffix("\n---\n") if example.label else first
        assert chosen == f"\n\nHuman: q {example.example_id}\n\nAssistant: good {example.example_id}"
    assert task.facts["dropped"]["without_content"] == 2
    assert task.facts["source"] == "root:hh_rlhf_helpful"


def test_preference_cutting_keeps_the_last_replies(tmp_path):
    task = build_task("helpful", TaskSettings(max_words=4), 0, preference_root(tmp_path))
    example = task.train[0]
    assert example.chunks[1] == (
        f"Conversation 1\n---\ngood {example.example_id}\n---\nConversation 2\n---\nbad {example.example_id}\n---\n"
    )


def test_builtin_text_tasks_take_0_and_1(tmp_path):
    rows = [{"text": f"t {i}", "label": i % 2} for i in range(20)]
    write(tmp_path / "imdb" / "train.parquet", rows)
    write(tmp_path / "imdb" / "validation.parquet", [{"text": "new", "label": 1}])
    task = build_task("imdb", TaskSettings(), 0, tmp_path)
    assert all(example.label == int(example.chunks[1][2:]) % 2 for example in task.train)
    other = build_task("films", TaskSettings(kind="imdb", source="imdb"), 0, tmp_path)
    assert sorted(contents(other.train)) == sorted(contents(task.train)) and other.labels == (" NEGATIVE", " POSITIVE")
    write(tmp_path / "imdb" / "validation.parquet", [{"text": "new", "label": -1}])
    with pytest.raises(DataError, match=r"imdb/validation.parquet: row 1: column 'label' holds -1, allowed: 0, 1"):
        build_task("imdb", TaskSettings(), 0, tmp_path)


def test_publishing_is_byte_equal_and_reads_back(tmp_path):
    source = write(tmp_path / "rows.parquet", ROWS)
    for out in ("one", "two"):
        prepare_task("mine", described(source, position="prefix"), 0, None, tmp_path / out)
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert set(files) == {"manifest.json", "train.parquet", "validation.parquet"}
    verify(tmp_path / "one")
    built = build_task("mine", described(source), 0, None)
    for split in ("train", "validation"):
        assert load_split(tmp_path / "one", split) == getattr(built, split)
    task = load_task(tmp_path / "one")
    assert (task.name, task.labels, task.pieces) == ("mine", built.labels, built.pieces)
    assert task.facts["position"] == "prefix" and task.facts["revision"] == "unpinned"
    assert task.facts["n_train"] == len(built.train)
    shares = Counter(example.label for example in built.train)
    assert task.facts["class_balance"]["train"] == [shares[i] / len(built.train) for i in range(3)]


def test_long_prompts_are_left_out_whole(tmp_path):
    prepare_task("mine", described(write(tmp_path / "rows.csv", ROWS), instruction="Go: "), 0, None, tmp_path / "t")

    def by_character(texts):
        return {"input_ids": [list(text) for text in texts]}

    every = load_split(tmp_path / "t", "train")
    lengths = sorted(len(example.text) for example in every)
    limit = lengths[len(lengths) // 2]
    kept = load_split(tmp_path / "t", "train", by_character, limit)
    assert kept == [example for example in every if len(example.text) <= limit] and len(kept) < len(every)
    with pytest.raises(DataError, match=r"t/train.parquet: all \d+ prompts are longer than max_tokens 3"):
        load_split(tmp_path / "t", "train", by_character, 3)
    with pytest.raises(ArtifactError, match="never finished"):
        load_task(tmp_path)


def test_the_entry_publishes_or_says_one_line(tmp_path):
    def prepare(spec, out):
        command = [
            sys.executable,
            str(PREPARE),
            "--spec",
            spec,
            "--root",
            "",
            "--out",
            str(tmp_path / out / "manifest.json"),
            "--log",
            str(tmp_path / "log"),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    settings_ = {"n_train": 20, "n_validation": 6}
    done = prepare(json.dumps({"name": "password_match", "settings": settings_, "seed": 0}), "pm")
    assert done.returncode == 0, done.stderr
    assert "password_match: 20 training and 6 validation examples" in done.stderr
    assert load_task(tmp_path / "pm").facts["n_train"] == 20
    for spec, message in (
        (json.dumps({"name": "imdb", "settings": {"kind": "imdb", "source": "no.csv"}, "seed": 0}), "is not there"),
        (json.dumps({"name": "mine", "settings": {"n_train": 0}, "seed": 0}), "settings.n_train"),
        ("{", "--spec: expected JSON"),
    ):
        failed = prepare(spec, "bad")
        assert failed.returncode == 1 and message in failed.stderr and len(failed.stderr.splitlines()) == 1
        assert not (tmp_path / "bad").exists()
