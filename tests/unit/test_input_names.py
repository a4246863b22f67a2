"""A user's file is an input of Snakemake's whatever its name, and Snakemake sees an edit of it."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.io import IOFile
from snakemake.pathvars import Pathvars

from hardscale.plan.input_names import LINKS, input_name

ODD = [
    *(
        "x{y}/t.csv",
        "x{y,a+}.csv",
        "{-3}",
        "<results>/t.csv",
        "<unknown>.csv",
        "a\nb.csv",
        " lead.csv",
        "trail ",
        "a\x85b",
    ),
    *("]}>", "trail ", "a\x85b", "./t.csv", "a//b.csv", "{", "\u2028", os.fsdecode(b"\xff.csv")),
]
PLAIN = [
    "t.csv",
    "a b/c'd.csv",
    "100%j.csv",
    "$HOME/x.csv",
    "*[!a]?.csv",
    "~x/é.csv",
    "a=b,c;d.csv",
    "results/t/m.json",
]


@pytest.fixture
def rule():
    """What Snakemake's files ask of their rule."""
    workflow = SimpleNamespace(iocache=SimpleNamespace(active=False))
    return SimpleNamespace(pathvars=Pathvars.with_defaults(), workflow=workflow, name="r", lineno=1, snakefile="s")


@pytest.mark.parametrize("name", [*ODD, *PLAIN])
def test_snakemake_takes_the_name_as_it_stands(name, rule, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("content of it")
    os.utime(file, (1_000_000, 1_000_000))
    found = IOFile(input_name(name), rule=rule).apply_wildcards({})
    found.check()
    assert not caplog.records
    assert Path(found).read_text() == "content of it"
    assert (str(found) == name) == (name in PLAIN)
    assert asyncio.run(found.mtime()).local_or_storage(follow_symlinks=True) == 1_000_000
    os.utime(file, (2_000_000, 2_000_000))
    assert asyncio.run(found.mtime()).local_or_storage(follow_symlinks=True) == 2_000_000


def test_links_are_the_same_again_and_follow_a_moved_folder(tmp_path, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / place / "{d}").mkdir(parents=True)
        (tmp_path / place / "{d}" / "t").write_text(place)
    monkeypatch.chdir(tmp_path / "one")
    name = input_name("{d}/t")
    before = os.lstat(name)
    assert input_name("{d}/t") == name
    assert os.lstat(name).st_ino == before.st_ino
    (tmp_path / "one" / ".snakemake").rename(tmp_path / "two" / ".snakemake")
    monkeypatch.chdir(tmp_path / "two")
    assert input_name("{d}/t") == name
    assert Path(name).read_text() == "two"
    assert input_name("{e}/t") != name
    assert len(list(LINKS.iterdir())) == 2
