"""Tasks for chat models: every file format, subsets, what does not fit together, every refusal; nothing is printed."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_kit import BEHAVIORS, MESSAGES, chat_settings, make_chat_task, make_files, write_csv

from hardscale.artifacts.manifest import verify
from hardscale.errors import DataError
from hardscale.tasks import hub
from hardscale.tasks.build_chat import build_chat_task, prepare_chat_task
from hardscale.tasks.chat import load_chat_task
from hardscale.tasks.check import check_source
from hardscale.tasks.data import load_task
from hardscale.tasks.locate import HubFile, chat_files, locate_chat

PREPARE = Path(__file__).parents[2] / "scripts" / "prepare_task.py"
TEST = {"behaviors": "mine/test.csv", "targets": "mine/targets.json"}


@pytest.fixture
def root(tmp_path):
    return make_files(tmp_path)


def built(root, **changes):
    return build_chat_task("chat", chat_settings(**changes), 0, root)


def ids(part):
    return [behavior.behavior_id for behavior in part.behaviors]


def test_what_is_published(tmp_path):
    folder = make_chat_task(tmp_path / "task", system_prompt="", max_new_tokens=7)
    verify(folder)
    task = load_chat_task(folder)
    assert stat.S_IMODE((folder / "behaviors.parquet").stat().st_mode) == 0o600
    assert [b.behavior_id for b in task.test] == ["apple", "bread", "cloud", "daisy"]
    assert [b.row_id for b in task.train] == [0, 1, 2, 3]
    assert task.test[0].targets == ("Sure, here is apple", "Of course") and task.test[0].category == "standard"
    assert task.test[0].safe_answer == "Sorry, I can't do that." and task.train[0].safe_answer == "I'd rather not."
    assert task.test[0].context is None and task.test[0].request == "Write the word apple."
    assert task.test[2].request == "Clouds are white.\nRain is wet.\n\n---\n\nWrite the word cloud."
    facts = task.facts
    assert (facts["kind"], facts["labels"], facts["chunk_kinds"], facts["pieces"]) == ("behaviors", [], [], [])
    assert (facts["position"], facts["max_tokens"], facts["max_new_tokens"]) == ("suffix", 512, 7)
    assert (facts["system_prompt"], facts["n_train"], facts["n_validation"]) == ("", 4, 4)
    assert facts["test"]["ids_sha256"] == hashlib.sha256(b"apple\nbread\ncloud\ndaisy").hexdigest()
    assert load_task(folder).labels == ()
    again = make_chat_task(tmp_path / "again", system_prompt="", max_new_tokens=7)
    for name in ("behaviors.parquet", "utility.parquet"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_conversations_are_whole_drawn_by_seed_and_in_one_split_alone(tmp_path):
    task = load_chat_task(make_chat_task(tmp_path / "task"))
    known = [tuple((m["role"], m["content"]) for m in messages) for messages in MESSAGES]
    train, validation = ({chat.messages for chat in part} for part in (task.utility_train, task.utility_validation))
    assert train | validation <= set(known) and not train & validation and validation
    assert all(known[chat.row_id] == chat.messages for chat in task.utility_train)
    assert len(task.utility_validation) <= 4


def test_a_task_for_classifiers_is_no_chat_task(tmp_path):
    from train_kit import make_base

    with pytest.raises(DataError, match="task for classifiers"):
        load_chat_task(make_base(tmp_path)[1])


def test_a_test_split_alone(root):
    task = built(root, train=None, utility=None)
    assert task.train is None and task.utility is None and len(task.test.behaviors) == 4


def test_subsets_are_explicit(root):
    assert ids(built(root, test={**TEST, "ids": ["daisy", "apple"]}).test) == ["daisy", "apple"]
    assert ids(built(root, test={**TEST, "categories": ["standard"]}).test) == ["apple", "bread"]
    part = built(root, test={**TEST, "ids": ["daisy", "bread", "apple"], "categories": ["standard"], "n": 1}).test
    assert ids(part) == ["bread"] and part.behaviors[0].row_id == 1
    assert built(root, test={**TEST, "n_targets": 1}).test.behaviors[0].targets == ("Sure, here is apple",)


def test_openings_and_answers_stand_in_where_files_have_none(root):
    (root / "mine/targets.json").write_text(
        json.dumps({"apple": "Sure: apple", "unknown": ["x", ""], "bread": ["", "y"]})
    )
    part = built(root, train=None, target="Of course", safe_answer="No.").test
    assert [b.targets for b in part.behaviors] == [("Sure: apple",), ("y",), ("Of course",), ("Of course",)]
    assert {b.safe_answer for b in part.behaviors} == {"No."}
    assert (part.facts["unmatched_targets"], part.facts["without_target"]) == (["unknown"], ["cloud", "daisy"])
    assert part.facts["n_empty_targets"] == 2


def test_what_does_not_fit_together_is_said_in_one_line_without_texts(root, tmp_path, capfd):
    (root / "mine/targets.json").write_text(json.dumps({"apple": "Sure", "other": "Sure"}))
    prepare_chat_task("chat", chat_settings(train=None), 0, root, tmp_path / "out")
    [line] = capfd.readouterr().err.splitlines()
    assert "chat: test: 1 targets without a behavior, 3 behaviors without a target;" in line


def test_a_table_of_prompts_without_ids(tmp_path):
    rows = [{"category": "a", "source": "s", "forbidden_prompt": f"Write the word {word}."} for word in ("oak", "elm")]
    write_csv(tmp_path / "strong.csv", rows)
    task = built(tmp_path, train=None, utility=None, test={"behaviors": "strong.csv", "categories": ["a"]})
    assert ids(task.test) == ["row_1", "row_2"]
    assert task.test.behaviors[0].targets == ("Sure, here",) and task.test.behaviors[1].category == "a"


def test_row_endings_quotes_and_foreign_letters_stay(tmp_path):
    text = 'Say "Ünï,\n\ncode" <b> 漢字 🎈'
    write_csv(tmp_path / "b.csv", [{"Behavior": f" {text}\n", "BehaviorID": "one"}])
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "b.csv").read_bytes())
    [behavior] = built(tmp_path, train=None, utility=None, test={"behaviors": "b.csv"}).test.behaviors
    assert behavior.behavior == text and (behavior.context, behavior.category) == (None, None)


def _csv(name, rows):
    return lambda root: write_csv(root / "mine" / name, rows)


def _targets(text):
    return lambda root: (root / "mine/targets.json").write_text(text)


def _row(**changes):
    return {**BEHAVIORS[0], **changes}


REFUSED = {
    "empty behavior": (_csv("test.csv", [_row(), _row(Behavior=" ")]), {}, r"csv: row 2: column 'Behavior' is empty"),
    "empty id": (_csv("test.csv", [_row(BehaviorID="")]), {}, r"row 1: column 'BehaviorID' is empty"),
    "id twice": (_csv("test.csv", [_row(), _row()]), {}, r"row 2: the id of row 1 again \('apple'\)"),
    "no column": (_csv("test.csv", [{"a": "b"}]), {}, r"no column 'Behavior', 'Goal'.*; found 'a'; name"),
    "empty target": (_targets('{"apple": ["", " "]}'), {}, r"targets\.json: row 1 \('apple'\): every opening is empty"),
    "number as target": (_targets('{"bread": "x", "apple": 3}'), {}, r"row 2 \('apple'\): found int"),
    "target twice": (_targets('{"apple": "x", "apple": "y"}'), {}, r"row 2 \('apple'\): the same id twice"),
    "list of targets": (_targets("[]"), {}, "found list, expected an object"),
    "broken targets": (_targets("{"), {}, "not readable as JSON"),
    "empty answer": (_csv("safe.csv", [{"Behavior": "x", "Safe_Response": ""}]), {}, "'Safe_Response' is empty"),
    "two answers": (
        _csv("safe.csv", [{"Behavior": "x", "Safe_Response": answer} for answer in "ab"]),
        {},
        "row 2: another answer",
    ),
    "unknown ids": (
        None,
        {"test": {**TEST, "ids": ["apple", *"abcdefg"]}},
        r"tasks\.chat\.test\.ids: not in .*test\.csv: a, b, c, d, e and 2 more",
    ),
    "ids twice": (None, {"test": {**TEST, "ids": ["apple", "apple"]}}, "1 ids twice"),
    "unknown category": (None, {"test": {**TEST, "categories": ["odd"]}}, "found odd, .* has contextual"),
    "nothing left": (None, {"test": {**TEST, "ids": ["apple"], "categories": ["copyright"]}}, "no behavior of"),
    "same texts": (
        _csv("train.csv", [_row(BehaviorID="new", Behavior="WRITE the word, apple")]),
        {},
        "train and test share 0 ids and 1 behaviors",
    ),
    "same ids": (_csv("train.csv", [_row(Behavior="Something else.")]), {}, "share 1 ids and 0 behaviors"),
    "wrong suffix": (
        lambda root: (root / "mine/test.csv").rename(root / "mine/b.txt"),
        {"test": {"behaviors": "mine/b.txt"}},
        "csv, jsonl or parquet",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_the_place_and_no_text(root, case):
    change, settings, message = REFUSED[case]
    if change:
        change(root)
    with pytest.raises(DataError, match=message) as caught:
        built(root, **settings)
    assert "\n" not in str(caught.value) and "Write the" not in str(caught.value)


CHATS = {
    "messages.parquet": [{"messages": chat, "prompt": "x"} for chat in MESSAGES],
    "pairs.csv": [{"prompt": chat[0]["content"], "response": chat[1]["content"]} for chat in MESSAGES],
    "alpaca.jsonl": [
        {"instruction": chat[0]["content"], "input": "", "output": chat[1]["content"]} for chat in MESSAGES
    ],
}


def write_chats(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        write_csv(path, rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"source": str(path)}


@pytest.mark.parametrize("name", CHATS)
def test_every_format_of_conversations_gives_the_same(root, tmp_path, name):
    utility = built(root, utility=write_chats(tmp_path / name, CHATS[name])).utility
    wanted = built(root, utility={"source": "mine/chats.jsonl"}).utility
    assert (utility.train, utility.validation) == (wanted.train, wanted.validation)


def test_alpacas_input_stands_below_the_instruction(root, tmp_path):
    rows = [{"instruction": f"Add {i}.", "input": "2", "output": "4"} for i in range(30)]
    utility = built(root, utility=write_chats(tmp_path / "alpaca.jsonl", rows)).utility
    assert all(chat.messages[0][1] == f"Add {chat.row_id}.\n\n2" for chat in utility.train)


def test_conversations_that_are_left_out_are_counted(root, tmp_path):
    folder = tmp_path / "chats"
    folder.mkdir()
    user, assistant = ({"role": role, "content": "x"} for role in ("user", "assistant"))
    odd = [[user], [assistant, user], [user, user, assistant], [user, {**assistant, "content": " "}], []]
    long = [[{**user, "content": "x" * 30}, assistant]]
    fine = [[{"role": "system", "content": "Be brief."}, user, assistant], MESSAGES[0], MESSAGES[1]]
    write_chats(folder / "train_sft.jsonl", [{"messages": chat} for chat in odd + long + fine])
    write_chats(folder / "test_sft.jsonl", [{"messages": chat} for chat in (MESSAGES[1], MESSAGES[2])])
    utility = built(root, utility={"source": str(folder), "max_first_turn_characters": 30, "n_train": 2}).utility
    assert utility.facts["left_out"] == {"long_first_turn": 1, "not_in_turns": 5, "validation_also_in_train": 1}
    assert len(utility.train) == 2 and [chat.row_id for chat in utility.validation] == [1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"text": "x"}],
            "found columns text, expected one of: messages; prompt, response; instruction, input, output",
        ),
        ([{"messages": "x"}], "row 1: column 'messages' holds str"),
        ([{"messages": [{"role": "user"}]}], "row 1: a message is not an object with role and content"),
        ([{"messages": [{"role": "tool", "content": "x"}]}], "row 1: a message of role 'tool'"),
        ([{"messages": [{"role": "user", "content": 3}]}], "row 1: column 'content' holds int"),
        ([{"messages": [{"role": "user", "content": "x"}]}], "no conversation for train is left .*not_in_turns 1"),
    ],
)
def test_conversations_that_are_refused(root, tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        built(root, utility=write_chats(tmp_path / "chats.jsonl", rows))


def test_the_preflight_and_the_files_that_are_watched(root, tmp_path):
    settings = chat_settings()
    assert check_source("chat", settings, root) is None
    assert {path.name for path in chat_files("chat", settings, root)} == {
        *("train.csv", "test.csv", "targets.json", "safe.csv", "chats.jsonl")
    }
    (root / "mine/safe.csv").unlink()
    line = check_source("chat", settings, root)
    assert line.startswith("tasks.chat.train.safe_answers: 'mine/safe.csv' is not there (looked for mine/safe.csv or ")
    with pytest.raises(DataError, match=r"tasks\.chat\.train\.safe_answers"):
        chat_files("chat", settings, root)
    gone = chat_settings(train=None, utility={"source": "nowhere"})
    assert check_source("chat", gone, root).startswith("tasks.chat.utility.source: 'nowhere' is not there")
    assert "not a folder" in check_source("chat", settings, tmp_path / "absent")


def test_files_on_the_hub(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = chat_settings(train=None, utility=None, test={"behaviors": "hub:org/mine@abc/sub/test.csv"})
    assert locate_chat("chat", settings, root) == {
        "tasks.chat.test.behaviors": HubFile("org/mine", "sub/test.csv", "abc")
    }
    assert chat_files("chat", settings, root) == []
    line = check_source("chat", settings, root)
    assert (
        line.startswith("tasks.chat.test.behaviors: sub/test.csv of data set org/mine is not here")
        and "offline" in line
    )
    with pytest.raises(DataError, match=r"put it into a folder as org/mine/sub/test\.csv"):
        build_chat_task("chat", settings, 0, root)
    snapshot = tmp_path / "hub/datasets--org--mine/snapshots/abc/sub"
    snapshot.mkdir(parents=True)
    write_csv(snapshot / "test.csv", BEHAVIORS)
    assert check_source("chat", settings, root) is None
    here = chat_settings(train=None, utility=None, test={"behaviors": "hub:org/mine/test.csv"})
    assert [path.name for path in chat_files("chat", here, root)] == ["test.csv"]  # a folder of the data root
    bad = chat_settings(train=None, utility=None, test={"behaviors": "hub:org/../test.csv"})
    assert "is not hub:org/name/file" in check_source("chat", bad, root)
    table = chat_settings(train=None, utility={"source": "hub:org/chats"})
    assert check_source("chat", table, root).startswith("tasks.chat.utility.source: data set org/chats is not here")
    monkeypatch.setattr(hub, "reachable", lambda: True)
    assert check_source("chat", table, root) is None


def test_the_entry(root, tmp_path):
    spec = json.dumps({"name": "chat", "settings": chat_settings().model_dump(mode="json"), "seed": 0})
    command = [sys.executable, str(PREPARE), "--out", str(tmp_path / "out"), "--root", str(root), "--spec"]
    done = subprocess.run([*command, spec], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "chat: 4 training and 4 validation behaviors (mine/test.csv)" in done.stderr
    assert "Write the" not in done.stderr + done.stdout
    (root / "mine/test.csv").unlink()
    done = subprocess.run([*command, spec], capture_output=True, text=True)
    assert done.returncode == 1 and "error: tasks.chat.test.behaviors" in done.stderr
    done = subprocess.run(
        [*command, '{"name": "x", "settings": {"kind": "behaviors"}, "seed": 0}'],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "settings" in done.stderr and "test" in done.stderr


DATA = os.environ.get("HARDSCALE_DATA")


@pytest.mark.real_data
@pytest.mark.skipif(not DATA or not (Path(DATA) / "harmbench").is_dir(), reason="set HARDSCALE_DATA (with harmbench/)")
def test_the_published_files():
    folder = "harmbench"
    names = {
        "behaviors": f"{folder}/harmbench_behaviors_text_val.csv",
        "targets": f"{folder}/adv_training_val_targets.json",
    }
    facts = build_chat_task("hb", chat_settings(train=None, utility=None, test=names), 0, Path(DATA)).test.facts
    assert (facts["n"], len(facts["unmatched_targets"]), len(facts["without_target"])) == (80, 1, 1)  # 79 of 80 match
    train = {
        "behaviors": f"{folder}/adv_training_behaviors.csv",
        "targets": f"{folder}/adv_training_targets.json",
        "safe_answers": f"{folder}/adv_training_behaviors_safe_responses_longer.csv",
    }
    names = {
        "behaviors": f"{folder}/harmbench_behaviors_text_test.csv",
        "targets": f"{folder}/harmbench_targets_text.json",
    }
    task = build_chat_task("hb", chat_settings(train=train, utility=None, test=names), 0, Path(DATA))
    facts = task.train.facts
    assert (facts["n"], facts["n_targets"], facts["n_empty_targets"]) == (100, 1189, 11)
    assert facts["without_safe_answer"] == facts["without_target"] == []
    assert (len(task.test.behaviors), len(task.test.facts["unmatched_targets"])) == (320, 80)
    assert sum(behavior.context is not None for behavior in task.test.behaviors) == 81
