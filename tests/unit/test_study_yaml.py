"""How a study's YAML is read: what each plain scalar is, what is refused with its line, and who reads it first."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hardscale.errors import StudyError
from hardscale.ops.early_look import look_at_studies
from hardscale.settings.study_file import MAX_FILES, of_command_line, read_mapping, read_yaml
from hardscale.untrusted.yaml_values import MAX_BYTES, MAX_DEPTH, parse_yaml

ROOT = Path(__file__).parents[2]
STUDIES = sorted([ROOT / "config.yaml", *(ROOT / "studies").glob("*.yaml"), ROOT / "tests/data/reruns.yaml"])


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_shipped_studies_are_read_as_another_reader_reads_them(path):
    ours, theirs = read_mapping(path), yaml.safe_load(path.read_text())
    assert ours == theirs
    assert [*ours] == [*theirs]


#: Text -> what YAML 1.2 takes it for; 1.1 takes all in the second half for something else, or for nothing at all.
SCALARS = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "FALSE": False,
    "yes": True,
    "Off": False,
    "0": 0,
    "-7": -7,
    "25_487": 25487,
    "0.5": 0.5,
    ".5": 0.5,
    "-2.": -2.0,
    '"12"': "12",
    "'yes'": "yes",
    "14m": "14m",
    "1e-3": 0.001,
    "1e3": 1000.0,
    "2.5E+2": 250.0,
    "010": "010",
    "0x10": "0x10",
    "0b11": "0b11",
    "1:30": "1:30",
    "1_0:0": "1_0:0",
    "2001-01-01": "2001-01-01",
    "2001-01-01 10:00:00": "2001-01-01 10:00:00",
}


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=repr)
def test_a_plain_scalar_is_null_a_truth_a_decimal_number_or_text(text, value):
    found = parse_yaml(f"a: {text}", "x.yaml")["a"]
    assert (type(found), found) == (type(value), value)


def nested(depth: int) -> str:
    return "a: " + "[" * (depth - 1) + "]" * (depth - 1)


def bomb(width: int = 9, levels: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


def merge_bomb(levels: int = 30) -> str:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


REFUSED = {
    "key twice": ("name: a\nseed: 1\nname: b\n", ("'name'", "line 1 and in line 3")),
    "key twice deep": ("a:\n  b: {c: 1,\n    c: 2}\n", ("'c'", "line 2 and in line 3")),
    "key twice in quotes": ("a: 1\n'a': 2\n", ("'a'", "line 1 and in line 2")),
    "merge twice": ("b: &b {x: 1}\na:\n  <<: *b\n  <<: *b\n", ("'<<'", "line 3 and in line 4")),
    "a number as key": ("a: 1\n7: b\n", ("line 2", "7 as a key", "quotes")),
    "a truth as key": ("on: b\n", ("line 1", "on as a key", "quotes")),
    "nothing as key": ("? \n: b\n", ("line 1", "nothing as a key")),
    "a list as key": ("[a]: b\n", ("line 1", "a list or a mapping as a key")),
    "an alias as key": ("a: &a b\n*a : c\n", ("line 2", "an alias as a key")),
    "a control character in a key": ('a: 1\n"b\\e[31m": 2\n', ("line 2", r"'b\x1b[31m'")),
    "a long key": (f"? {'a' * 100_000}\n: 1\n", ("line 1", "100,000 characters")),
    "infinite": ("a: .inf\n", ("line 1", "finite")),
    "infinite by its exponent": ("a: 1e999\n", ("line 1", "finite")),
    "not a number": ("a: -.NaN\n", ("line 1", "finite")),
    "many digits": (f"a: {'9' * 5000}\n", ("line 1", "5,000 characters")),
    "a date that is none": ("a: 2024-99-99\n", ("line 1", "2024-99-99", "quotes")),
    "a number that is none": ("a: 0x_\n", ("line 1", "0x_", "quotes")),
    "a tag": ("a: !!python/object/apply:os.system [true]\n", ("line 1", "a tag")),
    "a tag of YAML": ("a: !!int 3\n", ("line 1", "a tag")),
    "an alias without anchor": ("a: *b\n", ("line 1", "*b without an anchor")),
    "an alias inside of itself": ("a: &a [1, *a]\n", ("line 1", "inside of itself")),
    "merging a number": ("a: {<<: 3}\n", ("line 1", "<<")),
    "two documents": ("a: 1\n---\nb: 2\n", ("line 2", "second document")),
    "a NUL": ('a: "x\\0y"\n', ("line 1", "NUL")),
    "half a pair": ('a: "x\\ud800y"\n', ("line 1",)),
    "too deep": (nested(MAX_DEPTH + 1), ("line 1", f"deeper than {MAX_DEPTH}")),
    "far too deep": ("a: " + "[" * 100_000, ("line 1", f"deeper than {MAX_DEPTH}")),
    "too deep by aliases": (
        "a: &a [[[[[[[[[[1]]]]]]]]]]\nb: &b [[[[[[[[[[*a]]]]]]]]]]\nc: [[[[[[[[[[*b]]]]]]]]]]\n",
        ("line 3", "deeper"),
    ),
    "an alias bomb": (bomb(), ("line 6", "more than 100,000 values")),
    "a merge bomb": (merge_bomb(), ("more than 100,000 values",)),
    "no end": ("a: [1", ("not valid YAML", "line")),
    "a tab": ("a:\n\tb: 1\n", ("not valid YAML", "line 2")),
    "empty": ("", ("empty",)),
    "a comment alone": ("# nothing\n", ("empty",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_meaning_is_refused_on_one_line_with_its_place(case):
    text, words = REFUSED[case]
    start = time.process_time()
    with pytest.raises(StudyError) as caught:
        parse_yaml(text, "x.yaml")
    message = str(caught.value)
    assert message.startswith("x.yaml: ") and message.isprintable() and len(message) < 300
    assert not [word for word in words if word not in message], message
    assert time.process_time() - start < 2


def test_merged_keys_come_first_and_own_ones_win():
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\none: {w: 0, <<: *b, y: 5}\ntwo: {<<: [*b, *m]}\n"
    found = parse_yaml(text, "x.yaml")
    assert found == yaml.safe_load(text)
    assert found["one"] == {"x": 1, "y": 5, "w": 0} and found["two"] == {"x": 1, "y": 2, "z": 4}
    assert parse_yaml("a: {'<<': 1}", "x.yaml") == {"a": {"<<": 1}}
    assert parse_yaml(nested(MAX_DEPTH), "x.yaml")


# --- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def template(folder: Path) -> str:
    """What writes a file when it is run."""
    return f"__use_yte__: true\na: ?open('{folder}/ran', 'w')\n"


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Kind -> file and a word that names the kind."""
    os.mkfifo(folder / "pipe.yaml")
    (folder / "folder.yaml").mkdir()
    (folder / "zero.yaml").symlink_to("/dev/zero")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    text = "name: a\n"
    return {
        "NUL": (write(folder / "nul.yaml", text + "\0"), "NUL"),
        "UTF-16": (write(folder / "wide.yaml", text.encode("utf-16")), "UTF-16"),
        "UTF-16 without mark": (write(folder / "le.yaml", text.encode("utf-16-le")), "UTF-16"),
        "Latin-1": (write(folder / "latin.yaml", "name: é\n".encode("latin-1")), "not UTF-8 in line 1"),
        "a list": (write(folder / "list.yaml", "- 1\n"), "a list"),
        "one value": (write(folder / "value.yaml", "7\n"), "a single value"),
        "empty": (write(folder / "empty.yaml", ""), "empty"),
        "large": (write(folder / "large.yaml", f"a: {'x' * MAX_BYTES}\n"), "at most 262,144"),
        "a template": (
            write(folder / "yte.yaml", f"__use_yte__: true\na: ?open('{folder}/ran', 'w')\n"),
            "__use_yte__",
        ),
        "date": (write(folder / "date.yaml", "description: 2024-99-99\n"), "2024-99-99"),
        "deep": (write(folder / "deep.yaml", "a: " + "[" * 20_000), "deeper"),
        "deep JSON": (write(folder / "json.yaml", '{"a": ' * 20_000), "deeper"),
        "a pipe": (folder / "pipe.yaml", "a named pipe"),
        "a folder": (folder / "folder.yaml", "a folder"),
        "a device": (folder / "zero.yaml", "a device"),
        "a loop of links": (folder / "loop.yaml", "symbolic links"),
        "nothing": (folder / "nothing.yaml", "no such file"),
        "nobody's home": (Path("~nosuchuser/a.yaml"), "no home folder"),
    }


def test_no_file_that_is_no_study_raises_anything_but_its_line(tmp_path):
    for kind, (path, word) in bad_files(tmp_path).items():
        with pytest.raises(StudyError) as caught:
            read_yaml(path)
        assert word in str(caught.value) and "\n" not in str(caught.value), kind


def test_extends_is_followed_to_an_end(tmp_path):
    for i in range(MAX_FILES + 1):
        write(tmp_path / f"s{i}.yaml", f"extends: s{i + 1}.yaml\nk{i}: {i}\n")
    write(tmp_path / f"s{MAX_FILES + 1}.yaml", "last: 1\n")
    with pytest.raises(StudyError, match=rf"s{MAX_FILES}\.yaml: extends: a chain of more than {MAX_FILES} files"):
        read_yaml(tmp_path / "s0.yaml")
    found = read_yaml(tmp_path / "s2.yaml")
    assert found["last"] == 1 and found[f"k{MAX_FILES}"] == MAX_FILES and found["extends"] == "s3.yaml"


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("self.yaml", "extends itself"),
        ("../{folder}/self.yaml", "extends itself"),
        ("link.yaml", "extends itself"),
        ("no.yaml", "no.yaml: no such file"),
        (".", "found a folder"),
        ("pipe", "found a named pipe"),
        ("/dev/null", "found a device"),
        ("~nosuchuser/a.yaml", "no home folder"),
        ("", "extends: found a blank text"),
        ("   ", "extends: found a blank text"),
    ],
)
def test_a_wrong_extends_is_one_line(tmp_path, base, words):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.yaml").symlink_to("self.yaml")
    write(tmp_path / "self.yaml", yaml.safe_dump({"extends": base.replace("{folder}", tmp_path.name)}))
    with pytest.raises(StudyError, match=words) as caught:
        read_yaml(tmp_path / "self.yaml")
    assert "\n" not in str(caught.value)


def test_values_of_a_command_line_are_read_as_those_of_a_file():
    """As Snakemake hands them over: numbers and truths by themselves, texts within lists and mappings."""
    given = {
        "seed": 3,
        "name": "12",
        "ranks": {"default": "1", "12b": "8"},
        "finetune": {"optimizer": {"betas": ["0.9"]}},
    }
    assert of_command_line(given) == {
        "seed": 3,
        "name": "12",
        "ranks": {"default": 1, "12b": 8},
        "finetune": {"optimizer": {"betas": [0.9]}},
    }
    odd = {"a": ["true", "null", "~", "1e-3", "010", "two words", "-", "- a", "[x", "", "a: b", "@&"]}
    assert of_command_line(odd)["a"] == [True, None, None, 0.001, "010", *odd["a"][5:]]


# --- who reads first --------------------------------------------------------------------------------------------------


def snakemake(*options: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Snakemake with this copy's plugin."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *options, "-n", "--cores", "1"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


#: Those at which Snakemake's own reader ends in a trace, waits, or runs what they say.
@pytest.mark.parametrize("kind", ["UTF-16", "Latin-1", "date", "deep", "deep JSON", "a pipe", "a device", "a template"])
def test_snakemake_opens_no_study_before_it_was_read_strictly(tmp_path, kind):
    path, word = bad_files(tmp_path)[kind]
    done = snakemake("--configfile", str(path), "--directory", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and word in done.stderr
    assert not (tmp_path / "ran").exists()


def test_other_workflows_and_programs_are_left_alone(tmp_path, capsys):
    odd = write(tmp_path / "odd.yaml", "since: 2020-01-01\nsince: 2021-01-01\n")
    write(tmp_path / "Snakefile", "rule a:\n    output: 'o'\n    shell: 'touch {output}'\n")
    done = snakemake("--configfile", str(odd), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    look_at_studies(["/usr/bin/pytest", "--configfile", str(odd), "--snakefile", str(ROOT / "Snakefile")])
    look_at_studies(["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--config", str(odd)])
    assert capsys.readouterr().err == ""
    for option in ("--configfile", "--configfiles"):
        with pytest.raises(SystemExit):
            look_at_studies(["snakemake", "-s", str(ROOT / "Snakefile"), option, str(odd), "--cores", "1"])
        assert "line 1 and in line 2" in capsys.readouterr().err


def test_the_plugin_leaves_the_library_to_the_snakefile():
    """A copy of the sources is run as it is, whatever version is installed."""
    code = "import sys, snakemake_logger_plugin_hardscale; print([m for m in sys.modules if m.startswith('hardscale')])"
    study = [str(ROOT / "studies/tiny.yaml"), "--snakefile", str(ROOT / "Snakefile")]
    said = f"import sys; sys.argv = ['snakemake', '--configfile', {', '.join(map(repr, study))}]; {code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run([sys.executable, "-c", said], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
