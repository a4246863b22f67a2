"""Private rows: never in an error, a trace or a log; never in a file that others could open, not for a moment."""

import contextlib
import json
import os
import stat
import traceback

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_kit import BEHAVIORS, chat_settings, make_files, write_csv

from hardscale.artifacts import tables
from hardscale.artifacts.schemas import BEHAVIORS as SCHEMA
from hardscale.artifacts.schemas import REPLIES
from hardscale.artifacts.tables import read_table, write_table
from hardscale.errors import DataError, HardscaleError, TrainingError
from hardscale.evaluation.chat_replies import write_private
from hardscale.evaluation.judges.copyright import read_references
from hardscale.evaluation.mt_bench_job import read_dialogues
from hardscale.evaluation.questions import choice_questions, harmless_questions, polite_questions
from hardscale.ops.differences import compare_tables
from hardscale.tasks.build_chat import prepare_chat_task
from hardscale.training.session import write_json
from hardscale.untrusted.redaction import withholding_quotations

SECRET = "mulberry zeppelin quartz"  # three words that no message holds
LONG = f"Please write about the {SECRET} as well as you can."
TEST = "mine/test.csv"


def csv_rows(*rows):
    return lambda root: write_csv(root / TEST, list(rows))


def raw(name, data):
    def write(root):
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return write


def behaviors(**changes):
    return {**BEHAVIORS[0], "Behavior": LONG, **changes}


HEADER = "Behavior,FunctionalCategory,ContextString,BehaviorID\n"
BREAKAGES = {
    "ragged": (raw(TEST, HEADER + f"{LONG},a\n"), {}),
    "unclosed": (raw(TEST, HEADER + f'"{LONG},a,b,c\nd,e,f,g\n'), {}),
    "text after a quote": (raw(TEST, HEADER + f'"{LONG}"{LONG},a,b,c\n'), {}),
    "a quote in a field": (raw(TEST, HEADER + f'{LONG}"{LONG},a,b,c\n'), {}),
    "no header": (raw(TEST, f"{LONG},{LONG},a,b\n{LONG},b,c,d\n"), {}),
    "a request in place of an id": (csv_rows(behaviors(BehaviorID=LONG), behaviors(BehaviorID=LONG)), {}),
    "an empty id": (csv_rows(behaviors(BehaviorID="")), {}),
    "requests as categories": (
        csv_rows(behaviors(FunctionalCategory=LONG)),
        {"test": {"behaviors": TEST, "categories": ["x"]}},
    ),
    "not UTF-8": (raw(TEST, HEADER.encode() + LONG.encode() + b"\xff,a,b,c\n"), {}),
    "UTF-16": (raw(TEST, (HEADER + LONG).encode("utf-16")), {}),
    "NUL": (raw(TEST, HEADER + LONG + "\0,a,b,c\n"), {}),
    "broken lines": (raw("mine/t.jsonl", f'{{"Behavior": "{LONG}'), {"test": {"behaviors": "mine/t.jsonl"}}),
    "lines of texts": (raw("mine/t.jsonl", json.dumps(LONG)), {"test": {"behaviors": "mine/t.jsonl"}}),
    "a text as key": (raw("mine/t.jsonl", json.dumps({LONG: LONG})), {"test": {"behaviors": "mine/t.jsonl"}}),
    "a list as request": (
        raw("mine/t.jsonl", json.dumps({"Behavior": [LONG]})),
        {"test": {"behaviors": "mine/t.jsonl"}},
    ),
    "half a character": (
        raw("mine/t.jsonl", json.dumps({"Behavior": LONG + "\ud800"})),
        {"test": {"behaviors": "mine/t.jsonl"}},
    ),
    "broken targets": (raw("mine/targets.json", f'{{"apple": "{LONG}'), {}),
    "targets by their requests": (raw("mine/targets.json", json.dumps({LONG: 3})), {}),
    "targets in objects": (raw("mine/targets.json", json.dumps({"apple": {"text": LONG}})), {}),
    "empty targets by requests": (raw("mine/targets.json", json.dumps({LONG: [""]})), {}),
    "two safe answers": (
        lambda root: write_csv(root / "mine/safe.csv", [{"Behavior": LONG, "Safe_Response": LONG + a} for a in "ab"]),
        {},
    ),
    "same in both": (
        lambda root: [write_csv(root / f"mine/{split}.csv", [behaviors()]) for split in ("train", "test")],
        {},
    ),
    "a role": (
        raw("mine/chats.jsonl", json.dumps({"messages": [{"role": LONG, "content": LONG}]})),
        {},
    ),
    "a broken conversation": (raw("mine/chats.jsonl", json.dumps({"messages": LONG})), {}),
    "parquet that is none": (raw("mine/t.parquet", LONG), {"test": {"behaviors": "mine/t.parquet"}}),
}


def told(error):
    """What a log would hold: the error, all that caused it, and the frames."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("case", BREAKAGES)
def test_no_error_quotes_a_row(tmp_path, case, capfd):
    root = make_files(tmp_path / "root")
    change, settings = BREAKAGES[case]
    change(root)
    with pytest.raises(HardscaleError) as caught:
        prepare_chat_task("chat", chat_settings(**settings), 0, root, tmp_path / "out")
    assert "\n" not in str(caught.value)
    shown = told(caught.value) + "".join(capfd.readouterr())
    assert not any(word in shown for word in SECRET.split()), case
    assert not (tmp_path / "out").exists()


def test_an_error_that_nobody_expected_is_told_by_its_place(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ValueError(LONG)

    monkeypatch.setattr("hardscale.tasks.build_chat.read_behaviors", fails)
    with pytest.raises(DataError, match=r"ValueError in test_private_rows\.py:\d+; its message is withheld") as caught:
        prepare_chat_task("chat", chat_settings(), 0, make_files(tmp_path), tmp_path / "out")
    assert SECRET not in told(caught.value)


READERS = {
    "harmless": lambda path: harmless_questions(str(path), 9, None),
    "mmlu": lambda path: choice_questions(str(path), 9, None),
    "polite": lambda path: polite_questions(str(path), 9, None),
    "mt_bench": lambda path: read_dialogues(str(path), None, None),
    "references": read_references,
}
FILES = {
    "cut": f'{{"Behavior": "{LONG}',
    "a key twice": f'{{"Behavior": "a", "Behavior": "{LONG}"}}',
    "an object": json.dumps(
        {"prompt": [LONG], "type": 3, "question": LONG, "choices": LONG, "answer": LONG, "Goal": LONG}
    ),
    "a list": json.dumps([LONG]),
    "a text": json.dumps(LONG),
    "other types": json.dumps(
        {"question_id": LONG, "category": [LONG], "turns": [LONG], "Behavior": [LONG], "goal": LONG}
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("file", FILES)
def test_other_readers_quote_nothing_either(tmp_path, reader, file):
    path = tmp_path / "rows.jsonl"
    path.write_text(FILES[file])
    with pytest.raises(DataError) as caught:
        READERS[reader](path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not any(word in told(caught.value) for word in SECRET.split())


ROW = dict.fromkeys(("behavior_id", "category", "judge", "raw", "reply"), "x") | {
    "example_id": 1,
    "iteration": 0,
    "complied": True,
    "score": 1.0,
}


def test_tables_name_columns_and_no_values(tmp_path):
    for bad in ({**ROW, "example_id": LONG}, {**ROW, "score": [LONG]}, {**ROW, "reply": {"a": LONG}}):
        with pytest.raises(
            DataError, match=r"column '(example_id|score|reply)' is missing or holds something else"
        ) as caught:
            write_table(tmp_path / "t.parquet", [bad], REPLIES)
        assert SECRET not in told(caught.value)
    pq.write_table(pa.table({name: [LONG] for name in SCHEMA.names}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="wrong type: column 'row_id'") as caught:
        read_table(tmp_path / "b.parquet", SCHEMA)
    assert SECRET not in told(caught.value)


def test_rows_that_only_texts_tell_apart_are_named_without_them():
    rows = [{"reply": f"{LONG} {i}", "judge": "rules", "score": float(i)} for i in range(3)]
    other = [{**row, "score": row["score"] + 1} for row in rows]
    line = compare_tables(pa.Table.from_pylist(rows), pa.Table.from_pylist(other)).describe()
    assert "3 row(s)" in line and "a text of" in line and SECRET not in line


def test_training_tells_what_libraries_say_unless_it_quotes():
    with pytest.raises(RuntimeError, match="CUDA"), withholding_quotations([LONG]):
        raise RuntimeError("CUDA is out of memory")
    with pytest.raises(HardscaleError, match="is withheld") as caught, withholding_quotations(iter([LONG])):
        try:
            raise ValueError(f"bad template: {LONG}")
        except ValueError as error:
            raise TrainingError("the template refuses turns") from error
    assert SECRET not in told(caught.value)


# --- files ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("umask", [0, 0o022, 0o277, 0o777])
def test_private_files_are_made_private_whatever_the_umask(tmp_path, monkeypatch, umask):
    """Looked at when the first byte is written, and the table's bytes are those of any table."""
    modes, write = [], tables.pq.write_table

    def watched(table, place, **options):
        modes.append(stat.S_IMODE(os.fstat(place.fileno()).st_mode))
        write(table, place, **options)

    write_table(tmp_path / "open.parquet", [ROW], REPLIES)
    monkeypatch.setattr(tables.pq, "write_table", watched)
    (tmp_path / "link").write_text("another file")
    for path in (tmp_path / "new.parquet", tmp_path / "there.parquet", tmp_path / "leads.parquet"):
        if "there" in path.name:
            path.write_text("readable by all")
            path.chmod(0o644)
        if "leads" in path.name:
            path.symlink_to(tmp_path / "link")
        with mask(umask):
            write_private(path, [ROW], REPLIES)
        assert (
            stat.S_IMODE(path.lstat().st_mode) == 0o600
            and path.read_bytes() == (tmp_path / "open.parquet").read_bytes()
        )
    assert modes == [0o600] * 3 and (tmp_path / "link").read_text() == "another file"


@pytest.mark.parametrize("umask", [0, 0o777])
def test_the_state_of_a_training_with_attack_texts_is_private_from_its_draft_on(tmp_path, monkeypatch, umask):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(stat.S_IMODE(os.fstat(handle).st_mode)))
    with mask(umask):
        write_json(tmp_path / "progress.json", {"pool": [1]}, private=True)
    assert seen[0] == 0o600 and stat.S_IMODE((tmp_path / "progress.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "progress.json").read_text()) == {"pool": [1]}


def test_what_a_task_publishes_is_private_from_the_first_byte(tmp_path, monkeypatch):
    opened = []
    real = os.open

    def watched(path, flags, mode=0o777, **more):
        if str(path).endswith("behaviors.parquet") and flags & os.O_CREAT:
            opened.append(mode)
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", watched)
    with mask(0):
        prepare_chat_task("chat", chat_settings(), 0, make_files(tmp_path / "root"), tmp_path / "out")
    assert opened == [0o600]
