"""Two tables are compared by what they say: which rows, which columns, by how much; not by their bytes."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardscale.errors import DataError
from hardscale.ops.differences import compare_files, compare_tables

ROWS = [
    {"attack": attack, "iteration": i, "asr": 0.1 * i, "n": 10, "curve": [0.5, 0.25]}
    for attack in ("gcg", "random-token")
    for i in range(3)
]


def table(rows):
    return pa.Table.from_pylist(rows)


def changed(*edits, rows=ROWS):
    """The rows with some values replaced: (index, column, value)."""
    copy = [dict(row) for row in rows]
    for index, column, value in edits:
        copy[index][column] = value
    return table(copy)


def test_equal_content_in_other_bytes_and_order_is_no_difference(tmp_path):
    pq.write_table(table(ROWS), tmp_path / "a", compression="zstd")
    pq.write_table(table(ROWS[::-1]).select(["n", "curve", "asr", "iteration", "attack"]), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    difference = compare_files(tmp_path / "a", tmp_path / "b")
    assert not difference
    assert difference.max_difference is None


def test_a_changed_number_is_named_by_row_and_column_with_its_size():
    difference = compare_tables(table(ROWS), changed((4, "asr", 0.35)))
    assert difference.rows == ["attack=random-token iteration=1"]
    assert difference.columns == ["asr"]
    assert difference.max_difference == pytest.approx(0.25)
    assert difference.describe() == "1 row(s) in asr by 0.25 at attack=random-token iteration=1"


def test_numbers_inside_lists_count():
    difference = compare_tables(table(ROWS), changed((0, "curve", [0.5, 0.75])))
    assert (difference.columns, difference.max_difference) == (["curve"], 0.5)


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_number_that_went_away_differs_by_infinity(value):
    difference = compare_tables(table(ROWS), changed((1, "asr", value)))
    assert (len(difference.rows), difference.max_difference) == (1, math.inf)


def test_nothing_is_nothing():
    rows = table([{"step": 1, "x": math.nan}, {"step": 2, "x": None}])
    assert not compare_tables(rows, rows)


def test_rows_and_columns_that_come_and_go():
    new = table([*ROWS[1:], {**ROWS[0], "attack": "other"}]).drop_columns(["n"])
    new = new.append_column("extra", pa.array([0] * 6))
    difference = compare_tables(table(ROWS), new)
    assert difference.rows == ["attack=gcg iteration=0 (gone)", "attack=other iteration=0 (new)"]
    assert difference.columns == ["n (gone)", "extra (new)"]


def test_a_text_that_is_a_result_is_compared_and_names_no_row():
    old = [{"example_id": i, "adversarial_text": f"text {i}", "loss": 1.0} for i in range(5)]
    difference = compare_tables(table(old), changed((3, "adversarial_text", "else"), (3, "loss", 0.5), rows=old))
    assert difference.rows == ["example_id=3"]
    assert difference.columns == ["adversarial_text", "loss"]
    assert difference.sizes == {"loss": 0.5}


def test_rows_without_names_are_matched_by_position():
    old, new = table([{"x": 1.0}, {"x": 1.0}]), table([{"x": 1.0}, {"x": 3.0}, {"x": 1.0}])
    difference = compare_tables(old, new)
    assert difference.rows == ["row 1", "row 2 (new)"]
    assert difference.max_difference == 2.0


def test_many_rows_are_counted_and_few_named():
    difference = compare_tables(table(ROWS), changed(*((i, "asr", 1.0) for i in range(6))))
    assert len(difference.rows) == 6
    assert difference.describe().startswith("6 row(s) in asr by 1 at ")
    assert "and 3 more" in difference.describe()


def test_a_cut_off_file_is_refused_by_name(tmp_path):
    pq.write_table(table(ROWS), tmp_path / "a")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable parquet"):
        compare_files(tmp_path / "a", tmp_path / "b")
