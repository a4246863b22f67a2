"""Tables as the usual writers write them come back row for row, or are refused in one line; no row is lost."""

import csv
import datetime
import decimal
import gzip
import io
import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.build import build_task
from hardscale.tasks.formats import files
from hardscale.tasks.formats.files import read_table_file

MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
#: Texts with what tables are made of in them.
texts = st.lists(
    st.sampled_from(
        [*",;\t|\"'\\\n\r ", "\r\n", "\u2028", "\x0b", "\ufeff", "007", "NA", "null", "nan", "1.0", "é漢🎈"]
    )
    | st.characters(exclude_categories=["Cs"]),
    max_size=8,
).map("".join)
rows = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def read(path, columns=("text", "id")):
    """Rows of a file and how many lines were named as blank, or the refusal."""
    try:
        table = read_table_file(path)
        taken = table.take(columns)
    except DataError as error:
        line = str(error)
        assert "\n" not in line and "\r" not in line and str(path) in line
        return line
    assert all(len(values) == table.n_rows for values in taken.values())
    return list(zip(*taken.values(), strict=True))


def written(found, **dialect):
    """What the standard library's writer makes of rows; None where it says that it cannot."""
    text = io.StringIO(newline="")
    try:
        writer = csv.writer(text, **dialect)
        writer.writerows([("text", "id"), *found])
    except (csv.Error, TypeError):
        return None
    return text.getvalue()


# --- csv ------------------------------------------------------------------------------------------------------------


@MANY
@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]), st.sampled_from(["\n", "\r\n"]))
@example([("a\rb", "1"), ("\r", "2")], csv.QUOTE_MINIMAL, "\n")
def test_csv_of_the_standard_library_comes_back(folder, found, quoting, end):
    data = written(found, quoting=quoting, lineterminator=end)
    (folder / "a.csv").write_bytes(data.encode())
    got = read(folder / "a.csv")
    if "\0" in data:
        assert "NUL" in got or "UTF-16" in got
    elif isinstance(got, str):  # Python leaves a carriage return without quotes where lines end otherwise
        assert "carriage return" in got and "\r" in data.replace(end, "")
    else:
        assert got == found
        # A mark before it and other packing change nothing.
        (folder / "b.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + data.encode()))
        assert read(folder / "b.csv.gz") == found


dialects = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t| "),
        "quotechar": st.sampled_from("\"'"),
        "doublequote": st.booleans(),
        "escapechar": st.sampled_from([None, "\\"]),
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r", "|\n", "\u2028"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NONE]),
        "skipinitialspace": st.booleans(),
    }
)


@MANY
@given(rows, dialects)
def test_csv_of_any_dialect_comes_back_or_is_refused(folder, found, dialect):
    data = written(found, **dialect)
    assume(data is not None)
    (folder / "c.csv").write_bytes(data.encode())
    got = read(folder / "c.csv")
    if isinstance(got, str) or got == found:
        return
    # The same characters are what the usual dialect writes of other rows: no reader can tell, and nothing was lost.
    usual = [tuple(row) for row in csv.reader(io.StringIO(data, newline=""), strict=True)]
    assert usual == [("text", "id"), *got] and (dialect["escapechar"] or dialect["quotechar"] == "'")


@MANY
@given(rows, st.booleans(), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
def test_csv_of_pandas_comes_back(folder, found, index, quoting):
    pd.DataFrame(found, columns=["text", "id"]).to_csv(folder / "d.csv", index=index, quoting=quoting)
    got = read(folder / "d.csv")
    data = (folder / "d.csv").read_bytes()
    assert got == found or (isinstance(got, str) and (b"\0" in data or "carriage return" in got))


@MANY
@given(rows, st.sampled_from(["needed", "all_valid", "none"]), st.booleans(), st.sampled_from(",;\t"))
def test_csv_of_pyarrow_comes_back(folder, found, style, header, delimiter):
    table = pa.table({"text": [text for text, _ in found], "id": [name for _, name in found]})
    options = pyarrow.csv.WriteOptions(include_header=header, quoting_style=style, delimiter=delimiter)
    try:
        pyarrow.csv.write_csv(table, folder / "e.csv", options)
    except pa.ArrowInvalid:
        assume(False)  # values that need quotes, without quotes
    got = read(folder / "e.csv")
    data = (folder / "e.csv").read_bytes()
    if not header:
        assert isinstance(got, str) or found[0] == ("text", "id")
    elif delimiter != ",":
        assert isinstance(got, str)
    else:
        assert got == found or (isinstance(got, str) and b"\0" in data)


@MANY
@given(st.lists(texts | st.none(), min_size=1, max_size=6))
def test_blank_lines_of_one_column_are_named(folder, values):
    """pyarrow writes a null of a single column as a blank line."""
    pyarrow.csv.write_csv(pa.table({"text": pa.array(values, pa.string())}), folder / "f.csv")
    assume(b"\0" not in (folder / "f.csv").read_bytes())
    table = read_table_file(folder / "f.csv")
    assert table.take(("text",))["text"] == [value for value in values if value is not None]
    last = max((i for i, value in enumerate(values) if value is not None), default=-1)
    assert table.n_rows + len(table.blank_lines) == (last + 1 if last >= 0 else 0)


@MANY
@given(rows, st.data())
def test_a_quote_too_few_is_always_refused(folder, found, data):
    text = written([(f"secret words {a}", b) for a, b in found], quoting=csv.QUOTE_ALL)
    at = data.draw(st.sampled_from([match.start() for match in re.finditer('"', text)]))
    (folder / "g.csv").write_bytes((text[:at] + text[at + 1 :]).replace("\0", "").encode())
    got = read(folder / "g.csv")
    assert isinstance(got, str) and "secret words" not in got


def test_the_row_with_a_quote_that_never_closes_is_named(tmp_path):
    lines = ["text,id", *(f'"a text, {i}",{i}' for i in range(20))]
    lines[11] = '"a text that never ends,10'
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"row 11 \(line 1[23]\): text follows a closing quote"):
        read_table_file(path)
    path.write_text('text,id\n1,2\n\n"x\ny",3\n"z,4\n5,6\n')
    with pytest.raises(DataError, match=r"row 3 \(line 6\): an opening quote never closes"):
        read_table_file(path)
    path.write_text('text,id\n"a"b,1\n')
    with pytest.raises(DataError, match=r"row 1 \(line 2\): text follows a closing quote"):
        read_table_file(path)


CSV_CASES = {
    "spaces before a quote": ('text,id\n1, "x"\n', "a quote stands within a field"),
    "a row too long": ("text,id\n1,2\n1,2,3\n", r"row 2 \(line 3\) has 3 fields, the header 2"),
    "a row too short": ("text,id\n\n1\n", r"row 1 \(line 3\) has 1 fields"),
    "semicolons": ("text;id\n1;2\n", "parted by semicolons"),
    "tabs": ("text\tid\n1\t2\n", "parted by tabs"),
    "a column twice": ("text,id,id\n1,2,3\n", "2 columns are called 'id'"),
    "no header": (
        "Please write a long text about this.,9\n",
        r"no column 'text'; found \(a text of 36 characters\), '9'",
    ),
    "only blank lines": ("\n\r\n\n", "the file is empty"),
    "two ways to end a line": ("text,id\n1,2\r3,4\n", "line 2 ends with a carriage return alone, lines before it"),
    "two ways for two systems": ("text,id\r\n1,2\n", "line 2 ends with a line feed, lines before it with carriage"),
}


@pytest.mark.parametrize("case", CSV_CASES)
def test_csv_that_is_refused(tmp_path, case):
    data, message = CSV_CASES[case]
    (tmp_path / "t.csv").write_bytes(data.encode())
    assert re.search(message, str(read(tmp_path / "t.csv")))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do_and_blank_lines_between_rows_are_named(tmp_path, end):
    (tmp_path / "t.csv").write_bytes(end.join(["text,id", "1,2", "3,4", "", "5,6", "", ""]).encode())
    assert read(tmp_path / "t.csv") == [("1", "2"), ("3", "4"), ("5", "6")]
    assert read_table_file(tmp_path / "t.csv").blank_lines == (4,)


# --- JSON -----------------------------------------------------------------------------------------------------------

values = (
    texts
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(texts, max_size=3)
    | st.dictionaries(texts, texts, max_size=3)
)
records = st.lists(
    st.fixed_dictionaries({"text": texts}, optional={"id": values, "more": values}), min_size=1, max_size=6
)


def same(a, b):
    return a == b and json.dumps(a) == json.dumps(b)


@MANY
@given(records, st.booleans(), st.sampled_from(["t.jsonl", "t.json", "t.jsonl.gz", "lines.json"]))
def test_json_comes_back_with_the_columns_of_all_rows(folder, found, ascii_only, name):
    dumped = [json.dumps(row, ensure_ascii=ascii_only) for row in found]
    text = f"[{', '.join(dumped)}]" if name == "t.json" else "\n".join(dumped) + "\n"
    if name == "lines.json" and len(found) == 1:
        text += dumped[0] + "\n"
        found = found * 2
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    table = read_table_file(path)
    assert table.n_rows == len(found) and list(table.names) == list(dict.fromkeys(k for row in found for k in row))
    for column in table.names:
        got = table.take((column,), optional=(column,))[column]
        assert same(got, [row.get(column) for row in found])
        if any(column not in row for row in found):
            first = next(i for i, row in enumerate(found, start=1) if column not in row)
            with pytest.raises(DataError, match=rf"row {first}\b.* has no column"):
                table.take((column,))


@MANY
@given(rows, st.booleans(), st.booleans())
def test_json_of_pandas_comes_back(folder, found, lines, ascii_only):
    frame = pd.DataFrame(found, columns=["text", "id"])
    path = folder / ("p.jsonl" if lines else "p.json")
    frame.to_json(path, orient="records", lines=lines, force_ascii=ascii_only)
    assert read(path) == found
    frame.to_json(folder / "list.json", orient="values")
    frame.to_json(folder / "columns.json", orient="columns")
    frame.to_json(folder / "split.json", orient="split")
    assert all(isinstance(read(folder / f"{kind}.json"), str) for kind in ("list", "columns", "split"))
    (folder / "lists.json").write_text(json.dumps(frame.to_dict(orient="list")), encoding="utf-8")
    assert read(folder / "lists.json") == found


JSON_CASES = {
    "a key twice": ('{"text": "secret text", "text": "other"}', "row 1 is not JSON .*a key twice"),
    "no number": ('{"text": NaN}', "row 1 is not JSON .*NaN is no JSON number"),
    "too many digits": ('{"text": ' + "9" * 10_000 + "}", "row 1 is not JSON .*too many digits"),
    "nested": ('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", "row 1 is not JSON .*nested too deep"),
    "a list": ("[1, 2]", "row 1 is list, expected an object"),
    "cut off": ('{"text": "secret text', "row 1 is not JSON"),
    "two in a line": ('{"text": "secret text"}{"text": "b"}', "row 1 is not JSON .*Extra data"),
    "a bad escape": ('{"text": "secret \\x text"}', "row 1 is not JSON"),
    "half a pair": ('{"text": "\\ud800"}\n', None),
}


@pytest.mark.parametrize("case", JSON_CASES)
def test_json_that_is_refused(tmp_path, case):
    data, message = JSON_CASES[case]
    (tmp_path / "t.jsonl").write_text(data)
    got = read(tmp_path / "t.jsonl", ("text",))
    if message is None:  # a value like another, refused where a text is wanted
        settings_ = TaskSettings(source=str(tmp_path / "t.jsonl"), text="text", label="text", labels=["a", "b"])
        with pytest.raises(DataError, match="row 1: column 'text' holds half a character"):
            build_task("mine", settings_, 0, None)
    else:
        assert re.search(message, got) and "secret" not in got


def test_lists_of_different_lengths_are_refused(tmp_path):
    (tmp_path / "t.json").write_text('{"text": ["a", "b"], "id": [1]}')
    assert "lists of 1, 2 values" in read(tmp_path / "t.json")


# --- parquet --------------------------------------------------------------------------------------------------------

columns = st.one_of(
    st.tuples(st.just(kind), st.lists(value | st.none(), min_size=1, max_size=8))
    for kind, value in [
        (pa.string(), texts),
        (pa.large_string(), texts),
        (pa.string_view(), texts),
        (pa.dictionary(pa.int32(), pa.string()), texts),
        (pa.binary(), st.binary(max_size=5)),
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float64(), st.floats(allow_nan=False)),
        (pa.bool_(), st.booleans()),
        (pa.decimal128(20, 3), st.decimals(-1000, 1000, places=3)),
        (pa.date32(), st.dates()),
        (pa.timestamp("us"), st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1))),
        (pa.list_(pa.string()), st.lists(texts, max_size=3)),
        (pa.large_list(pa.string()), st.lists(texts, max_size=3)),
        (pa.struct([("role", pa.string())]), st.fixed_dictionaries({"role": texts})),
    ]
)


@MANY
@given(columns, st.sampled_from(["none", "snappy", "zstd", "gzip"]), st.integers(1, 5), st.sampled_from(["1.0", "2.0"]))
def test_parquet_of_pyarrow_comes_back(folder, column, compression, group, pages):
    kind, found = column
    table = pa.table({"a.b": pa.array(found, kind), "text": ["x"] * len(found)})
    options = {"compression": compression, "row_group_size": group, "data_page_version": pages}
    pq.write_table(table, folder / "t.parquet", write_page_checksum=True, **options)
    got = read_table_file(folder / "t.parquet")
    assert got.names == ("a.b", "text") and got.take(("a.b",))["a.b"] == found


@MANY
@given(rows)
def test_parquet_of_pandas_comes_back(folder, found):
    frame = pd.DataFrame(found, columns=["text", "id"])
    frame.index = frame.index + 5
    frame.to_parquet(folder / "p.parquet")
    assert read(folder / "p.parquet") == found
    frame.assign(id=frame["id"].astype("category")).to_parquet(folder / "c.parquet")
    assert read(folder / "c.parquet") == found


@MANY
@given(st.data())
def test_damaged_parquet_comes_back_or_is_refused(folder, data):
    """With page checksums a flipped byte of a value is found; one of the footer leads to a refusal, or to no change."""
    found = [("a text of some length " * 3, str(i)) for i in range(20)]
    pq.write_table(
        pa.table({"text": [a for a, _ in found], "id": [b for _, b in found]}),
        folder / "w.parquet",
        write_page_checksum=True,
    )
    whole = bytearray((folder / "w.parquet").read_bytes())
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "d.parquet").write_bytes(whole)
    got = read(folder / "d.parquet")
    assert isinstance(got, str) or len(got) == len(found)
    assert "a text of some" not in got if isinstance(got, str) else True


def test_decimals_and_dates_are_labels_as_they_are_written(tmp_path):
    for name, kind in (
        ("decimal", [decimal.Decimal("1.50"), decimal.Decimal("2.00")]),
        ("date", [datetime.date(2020, 1, 2)] * 2),
    ):
        kinds = [kind[i % 2] for i in range(10)]
        pq.write_table(pa.table({"text": [f"t{i}" for i in range(10)], "kind": kinds}), tmp_path / f"{name}.parquet")
        labels = sorted({str(one) for one in kinds} | {"another"})
        described = TaskSettings(source=str(tmp_path / f"{name}.parquet"), text="text", label="kind", labels=labels)
        task = build_task("mine", described, 0, None)
        assert {labels[one.label] for one in task.train + task.validation} == {str(one) for one in kinds}


# --- what is no table -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_other_encodings_are_named(tmp_path, encoding, suffix):
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(("text,id\n1,2\n" if suffix == "csv" else '{"text": "a", "id": "b"}\n').encode(encoding))
    line = read(path)
    assert "not a readable" in line and ("UTF-32" if encoding == "utf-32" else "UTF-16") in line
    path.write_bytes("text,id\ncafé,2\n".encode("cp1252"))
    assert "not UTF-8 in line 2" in read(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "parquet", "csv.gz"])
def test_what_is_no_table_is_refused(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b"")
    line = read(path)
    assert isinstance(line, str) or line == []
    path.unlink()
    assert "no such file" in read(path)
    path.mkdir()
    assert "a folder" in read(path)
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 1000)
    if suffix != "parquet":
        (tmp_path / f"long.{suffix}").write_bytes(gzip.compress(b"a" * 2000) if suffix.endswith("gz") else b"a" * 2000)
        assert "1,000" in read(tmp_path / f"long.{suffix}")
