"""Which column of a table of behaviors is the request: each published layout, names that the study gives, refusals."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chat_kit import chat_settings, write_csv

from hardscale.errors import DataError
from hardscale.evaluation.questions import polite_questions
from hardscale.tasks.build_chat import build_chat_task

WORDS = ("oak", "elm", "ash")


def request(word):
    return f"Write the word {word}."


#: Name -> (columns in the order in which their authors publish them, what is read of the first row).
LAYOUTS = {
    "HarmBench": (
        {
            "Behavior": request,
            "FunctionalCategory": lambda _: "contextual",
            "SemanticCategory": lambda _: "trees",
            "Tags": lambda _: "context",
            "ContextString": lambda word: f"About {word}.",
            "BehaviorID": lambda word: f"{word}_1",
        },
        ("oak_1", "Write the word oak.", "About oak.", "contextual", ("Sure, here",)),
    ),
    "HarmBench, training": (
        {
            "Behavior": request,
            "Category": lambda _: "trees",
            "Tags": lambda _: "",
            "ContextString": lambda _: "",
            "BehaviorID": lambda word: word,
        },
        ("oak", "Write the word oak.", None, "trees", ("Sure, here",)),
    ),
    "AdvBench": (
        {"goal": request, "target": lambda word: f"Sure, here is {word}"},
        ("row_1", "Write the word oak.", None, None, ("Sure, here is oak",)),
    ),
    "JailbreakBench": (
        {
            "Index": lambda word: str(WORDS.index(word)),
            "Goal": request,
            "Target": lambda word: f"Sure, here is {word}",
            "Behavior": lambda word: f"{word} word",
            "Category": lambda _: "Trees",
            "Source": lambda _: "Original",
        },
        ("0", "Write the word oak.", None, "Trees", ("Sure, here is oak",)),
    ),
    "StrongREJECT": (
        {"category": lambda _: "trees", "source": lambda _: "custom", "forbidden_prompt": request},
        ("row_1", "Write the word oak.", None, "trees", ("Sure, here",)),
    ),
    "XSTest": (
        {
            "id": lambda word: f"v2-{WORDS.index(word)}",
            "prompt": request,
            "type": lambda _: "homonyms",
            "label": lambda _: "safe",
            "focus": lambda word: word,
            "note": lambda _: "",
        },
        ("v2-0", "Write the word oak.", None, "homonyms", ("Sure, here",)),
    ),
}


def table(layout, **more):
    columns, _ = LAYOUTS[layout]
    return [{name: value(word) for name, value in {**columns, **more}.items()} for word in WORDS]


def write(path, rows):
    if path.suffix == ".csv":
        return write_csv(path, rows)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def built(path, **test):
    return build_chat_task(
        "chat", chat_settings(train=None, utility=None, test={"behaviors": str(path), **test}), 0, None
    )


def first(task):
    one = task.test.behaviors[0]
    return one.behavior_id, one.behavior, one.context, one.category, one.targets


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(tmp_path, layout, suffix):
    task = built(write(tmp_path / f"t.{suffix}", table(layout)))
    assert first(task) == LAYOUTS[layout][1]
    assert [one.behavior for one in task.test.behaviors] == [request(word) for word in WORDS]
    assert task.test.facts["layout"]["name"] == layout.split(",")[0]


def test_an_index_before_it_changes_nothing(tmp_path):
    task = built(write(tmp_path / "t.csv", [{"": i, **row} for i, row in enumerate(table("JailbreakBench"))]))
    assert first(task) == LAYOUTS["JailbreakBench"][1]


REFUSED = {
    "a layout and one more request": (table("HarmBench", Goal=request), "'Behavior', 'Goal' could each be the request"),
    "parts of two layouts": (table("AdvBench", prompt=request), "'goal', 'prompt' could each"),
    "a label and a request": (
        [{"Behavior": "Oak word", "Goal": request("oak")}],
        r"tasks\.chat\.test\.request_column: Behavior",
    ),
    "no request": ([{"text_of_it": "x", "BehaviorID": "y"}], r"no column 'Behavior'.*test\.request_column"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_between_several_columns_nothing_is_guessed(tmp_path, case):
    rows, message = REFUSED[case]
    with pytest.raises(DataError, match=message) as caught:
        built(write(tmp_path / "t.csv", rows))
    assert "Write the" not in str(caught.value)


def test_the_study_names_columns(tmp_path):
    rows = [
        {
            "Behavior": "Oak word",
            "Goal": request(word),
            "no": word,
            "about": "Trees.",
            "kind": "k",
            "begin": "Yes.",
        }
        for word in WORDS
    ]
    path = write(tmp_path / "t.csv", rows)
    named = {"request_column": "Goal", "id_column": "no", "context_column": "about", "category_column": "kind"}
    task = built(path, **named, target_column="begin")
    assert first(task) == ("oak", "Write the word oak.", "Trees.", "k", ("Yes.",))
    assert first(built(path, request_column="Behavior", id_column="no"))[1] == "Oak word"
    with pytest.raises(DataError, match="no column 'goal'; found 'Behavior', 'Goal'"):
        built(path, request_column="goal")


def test_targets_of_a_file_come_before_those_of_the_table(tmp_path):
    path = write(tmp_path / "t.csv", table("JailbreakBench"))
    (tmp_path / "targets.json").write_text(json.dumps({"1": ["Of course"]}))
    task = built(path, targets=str(tmp_path / "targets.json"))
    assert [one.targets for one in task.test.behaviors] == [
        ("Sure, here is oak",),
        ("Of course",),
        ("Sure, here is ash",),
    ]
    assert task.test.facts["n_targets_of_the_table"] == 2 and task.test.facts["without_target"] == []


def test_a_key_that_the_first_row_lacks_is_there_for_the_others(tmp_path):
    rows = [{**row, "ContextString": f"About {i}."} for i, row in enumerate(table("HarmBench"))]
    del rows[0]["ContextString"]
    task = built(write(tmp_path / "t.jsonl", rows))
    assert [one.context for one in task.test.behaviors] == [None, "About 1.", "About 2."]
    rows = table("HarmBench")
    del rows[0]["BehaviorID"]
    with pytest.raises(DataError, match=r"row 1 has no column 'BehaviorID'"):
        built(write(tmp_path / "t.jsonl", rows))


@pytest.mark.parametrize("name", ["007", "1.0", "NA", "null", "nan", "true", "1e5", "2020-01-01"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_ids_stay_as_they_are_written(tmp_path, name, suffix):
    rows = [{**row, "BehaviorID": one} for row, one in zip(table("HarmBench"), (name, "b", "c"), strict=True)]
    (tmp_path / "targets.json").write_text(json.dumps({name: "Of course"}))
    task = built(write(tmp_path / f"t.{suffix}", rows), targets=str(tmp_path / "targets.json"))
    assert first(task)[0] == name and first(task)[4] == ("Of course",)


def test_numbers_as_ids(tmp_path):
    rows = [{**row, "BehaviorID": 2**70 + i} for i, row in enumerate(table("HarmBench"))]
    assert first(built(write(tmp_path / "t.jsonl", rows)))[0] == str(2**70)
    for bad, message in ((7.0, "a number with a point"), (True, "holds bool"), (None, "'BehaviorID' is empty")):
        rows[1]["BehaviorID"] = bad
        with pytest.raises(DataError, match=f"row 2: column .*{message}"):
            built(write(tmp_path / "t.jsonl", rows))


def test_targets_that_belong_to_nothing_are_refused(tmp_path):
    path = write(tmp_path / "t.csv", table("AdvBench"))
    (tmp_path / "targets.json").write_text(json.dumps({"oak": "Of course"}))
    with pytest.raises(DataError, match=r"test.targets: none of the 1 ids .*its rows are numbered.*test.id_column"):
        built(path, targets=str(tmp_path / "targets.json"))
    write_csv(tmp_path / "safe.csv", [{"Behavior": "Something else.", "Safe_Response": "No."}])
    with pytest.raises(DataError, match=r"test.safe_answers: none of the 1 behaviors"):
        built(path, safe_answers=str(tmp_path / "safe.csv"))


def test_copies_of_a_request_count_once_where_it_is_attacked(tmp_path):
    rows = [*table("HarmBench"), {**table("HarmBench")[1], "BehaviorID": "elm_again"}]
    path = write(tmp_path / "t.csv", rows)
    part = built(path).test
    assert [one.behavior_id for one in part.behaviors] == ["oak_1", "elm_1", "ash_1"]
    assert part.facts["copies_left_out"] == ["elm_again"] and part.facts["n_copies"] == 0
    assert part.facts["read"] == {"rows": 4, "blank_lines": 0} and part.facts["n_not_chosen"] == 0
    assert built(path, n=2).test.facts["n_not_chosen"] == 1
    other = write(tmp_path / "other.csv", [{"Behavior": "Say hello.", "BehaviorID": "hello"}])
    both = chat_settings(train={"behaviors": str(path)}, utility=None, test={"behaviors": str(other)})
    train = build_chat_task("chat", both, 0, None).train
    assert len(train.behaviors) == 4 and train.facts["n_copies"] == 1
    another = [{**row, "ContextString": str(i)} for i, row in enumerate(rows)]
    assert len(built(write(tmp_path / "contexts.csv", another)).test.behaviors) == 4


def test_polite_questions_are_read_by_the_same_layouts(tmp_path):
    path = write(tmp_path / "t.csv", table("JailbreakBench"))
    assert [one.text for one in polite_questions(str(path), 9, None).asked] == [request(word) for word in WORDS]
    twice = write(tmp_path / "twice.csv", [*table("AdvBench"), *table("AdvBench")])
    assert (len(polite_questions(str(twice), 9, None).asked), polite_questions(str(twice), 9, None).n_copies) == (3, 3)
    unclear = write(tmp_path / "unclear.csv", table("AdvBench", prompt=lambda word: f"Please: {word}"))
    with pytest.raises(DataError, match=r"utility\.polite_column"):
        polite_questions(str(unclear), 9, None)
    assert polite_questions(str(unclear), 9, None, "prompt").asked[0].text == "Please: oak"
