"""Every rule is one command line: a script of its own name, everything quoted, a log, a benchmark; nothing hidden."""

import re
import shutil

import pytest

from hardscale.ops.cli import study_from_files
from hardscale.plan.jobs import Jobs
from study_runs import ROOT

RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
#: A rule that makes one of many alike is named after the script with what it makes.
SCRIPT_OF = {"figure_": "figure", "import_external": "import_model", "lm_eval": "lm_eval_harness"}
NO_RESULT = {"verify"}


def blocks():
    """Rule name -> its text."""
    found = {}
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        for block in re.split(r"(?m)^(?=[ \t]*rule\b)", text)[1:]:
            named = re.match(r"\s*rule (\w+):", block) or re.search(r'name:\s*f"(\w+?_)\{', block)
            # Blocks of rounds are named by the study; what they call is what they are.
            name = named[1] if named else re.search(r'SCRIPTS"/(\w+)\.py', block)[1]
            found[name] = block
    return found


def test_no_rule_holds_code_or_forgets_its_output():
    text = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "Snakefile", *RULES])
    for word in ("run:", "script:", "lambda", "checkpoint ", "temp(", "protected("):
        assert not re.search(rf"(?m)^\s*[^#]*\b{re.escape(word)}", text), word


@pytest.mark.parametrize("name", blocks())
def test_a_rule_is_a_quoted_call_of_its_script_with_log_and_benchmark(name):
    block = blocks()[name]
    script = SCRIPT_OF.get(name, name)
    assert f'"$HARDSCALE_SCRIPTS"/{script}.py' in block
    assert (ROOT / "scripts" / f"{script}.py").is_file()
    wanted = [
        "log:",
        "conda:",
        "shell:",
        *([] if name in NO_RESULT else ["benchmark:", "output:", "message:", "code="]),
    ]
    for key in wanted:
        assert key in block, key
    command = block[block.index("shell:") :]
    unquoted = set(re.findall(r"\{([^}]+)\}", command)) - set(re.findall(r"\{([^}]+:q)\}", command))
    # Fixed words and numbers.
    assert unquoted <= {"wildcards.figure", "params.targets", "params.code"} | {
        f"resources.{name}" for name in ("launch", "nodes", "gpu", "mem_mb", "runtime", "zero_stage")
    }
    for section in ("input", "output"):
        lines = re.search(rf"(?ms)^\s*{section}:\n(.*?)(?=^\s*\w+:)", block)
        if lines:
            assert re.match(r"(\s*#[^\n]*\n)*\s*\w+=", lines[1]), f"{section} without a name"


def test_entries_are_short():
    for path in sorted((ROOT / "scripts").glob("*.py")):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path


def test_the_tables_are_made_again_by_hand(tiny, tmp_path):
    """The scripts of the table rules, called by hand in another folder, give the same bytes."""
    jobs = Jobs(study_from_files([tiny.config]))
    root = shutil.copytree(tiny.results, tmp_path / "results" / "tiny")
    again = tiny.elsewhere(tmp_path)
    tables = root / "tables"
    kept = {path.name: path.read_bytes() for path in tables.iterdir() if path.stem in ("runs", "claims", "summary")}
    assert len(kept) == 5
    for name in kept:
        (tables / name).unlink()
    outputs = ["--out", tables / "runs.parquet", "--csv", tables / "runs.csv"]
    assert again.entry("collect", "--spec", jobs.specs.collect(), "--root", root, *outputs).status == 0
    runs = ["--runs", tables / "runs.parquet"]
    outputs = ["--out", tables / "claims.parquet", "--csv", tables / "claims.csv"]
    rows = ["--attacks", root / "attacks", "--models", root / "models"]
    assert again.entry("claims", *runs, *rows, *outputs).status == 0
    said = ["--spec", jobs.specs.analysis(), "--deviations", jobs.specs.all_deviations()]
    assert again.entry("summary", *runs, *said, "--out", tables / "summary.md").status == 0
    assert {name: (tables / name).read_bytes() for name in kept} == kept
