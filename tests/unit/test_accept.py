"""What may be taken over by a new version of the code, what is drawn to be made again, how a record is rewritten."""

import json
from pathlib import Path

import pytest

from hardscale.artifacts.manifest import MANIFEST, canonical_json
from hardscale.artifacts.publish import publishing
from hardscale.errors import ArtifactError
from hardscale.ops.accept import append, draw, unfinished
from hardscale.ops.acceptance import Assessment, CodeChange, judge, kind_of
from hardscale.ops.reruns import FORMAT, Change, SeenJob, record_path, rewrite
from hardscale.ops.sample import Unit
from hardscale.ops.snakemake_metadata import started

ROOT = Path("results/x")
OLD, NEW = "0" * 16, "1" * 16
CODE = Change(frozenset({f"'{OLD}'"}), frozenset({f"'{NEW}'"}))


def spec(**settings):
    return repr(canonical_json({"settings": settings}))


def manifest(name):
    return (ROOT / name / MANIFEST).as_posix()


def job(name, change=CODE, parents=(), rule="attack", **more):
    changes = {manifest(name): change}
    return SeenJob(rule, (manifest(name),), tuple(map(manifest, parents)), bool(change), NEW, "run", changes, **more)


def unit(name, inputs=(), kind="attack"):
    return Unit("rule", kind, tuple(ROOT / one for one in inputs), (ROOT / name,))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A model, and two attacks on it."""
    monkeypatch.chdir(tmp_path)
    for name in ("models/a", "attacks/a", "attacks/b"):
        inputs = {} if name == "models/a" else {"victim": ROOT / "models/a"}
        with publishing(ROOT / name, "thing", {}, inputs) as draft:
            (draft.path / "rows").write_text(name)
    return [unit("models/a", kind="training"), *(unit(f"attacks/{name}", ["models/a"]) for name in "ab")]


def left(jobs, units):
    return {entry.folder: entry.why for entry in judge(jobs, units, ROOT).left}


# --- what may be taken over -----------------------------------------------------------------------------------------


def test_another_digest_alone_is_taken_over_and_what_did_not_change_is_sound(published):
    model, attack = job("models/a", Change()), job("attacks/a", parents=["models/a"])
    found = judge([model, attack], published, ROOT)
    assert found.taken == {attack: CodeChange("attack", OLD, NEW, False)}
    assert found.sound == [model, attack]
    assert found.left == []


@pytest.mark.parametrize(
    ("gone", "new", "word"),
    [
        ({spec(n=1)}, {spec(n=2)}, "settings.n 1 -> 2"),
        ({f"'{OLD}'", spec(n=1)}, {f"'{NEW}'", spec(n=1, m=0)}, "settings.m None -> 0"),
        ({f"'{OLD}'"}, {f"'{NEW}'", "8"}, "0 value(s) less and 1 more"),
        ({f"'{OLD}'", "['imdb']"}, {f"'{NEW}'"}, "1 value(s) less and 0 more"),
        ({f"'{OLD}-{OLD}'"}, {f"'{NEW}'"}, "versions of libraries"),
        ({f"'{OLD}'"}, {"'2222222222222222'"}, "1 value(s) less and 1 more"),
    ],
)
def test_other_settings_are_not_taken_over(published, gone, new, word):
    attack = job("attacks/a", Change(frozenset(gone), frozenset(new)), ["models/a"])
    assert word in left([job("models/a", Change()), attack], published)["attacks/a"]


def test_a_place_in_the_folder_of_the_study_is_no_setting(published):
    moved = Change(
        CODE.gone | {"'results/x/state/leases'"}, CODE.new | {"'results/x/state/more'", "'results/x'"}, command=True
    )
    attack = job("attacks/a", moved, ["models/a"])
    assert judge([job("models/a", Change()), attack], published, ROOT).taken == {
        attack: CodeChange("attack", OLD, NEW, command=True)
    }
    elsewhere = Change(CODE.gone | {"'results/xy'"}, CODE.new)
    assert (
        "1 value(s) less" in left([job("models/a"), job("attacks/a", elsewhere, ["models/a"])], published)["attacks/a"]
    )


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"other_inputs": True}, "other inputs"),
        ({"newer": ("data/texts.csv",)}, "other inputs: data/texts.csv"),
        ({"unfinished": (manifest("attacks/a"),)}, "not seen to end"),
        ({"unrecorded": (manifest("attacks/a"),)}, "no record"),
    ],
)
def test_what_snakemake_knows_of_other_inputs_and_of_the_end_of_a_run_counts(published, more, word):
    jobs = [job("models/a", Change()), job("attacks/a", parents=["models/a"], **more)]
    assert word in left(jobs, published)["attacks/a"]


def test_an_input_that_was_made_again_is_another(published):
    with publishing(ROOT / "models/a", "thing", {"n": 2}):
        pass
    jobs = [job("models/a", Change()), job("attacks/a", parents=["models/a"])]
    assert "results/x/models/a was made again" in left(jobs, published)["attacks/a"]


def test_a_damaged_artifact_and_what_reads_it_are_not_taken_over(published):
    (ROOT / "models/a" / "rows").write_text("other")
    jobs = [job("models/a"), job("attacks/a", parents=["models/a"]), job("attacks/b", Change(), ["models/a"])]
    found = left(jobs, published)
    assert found.keys() == {"models/a", "attacks/a"}
    assert "bytes differ" in found["models/a"]
    assert "not taken over" in found["attacks/a"]


def test_what_was_never_made_is_not_spoken_of_and_waits_stop_what_reads_it(published):
    unmade = job("models/c", Change(), missing=(manifest("models/c"),))
    found = judge([unmade, job("attacks/a", parents=["models/c"])], published, ROOT)
    assert [entry.folder for entry in found.left] == ["attacks/a"]
    assert not found.taken


def test_blocks_of_rounds_are_of_one_kind():
    kinds = {kind_of(job("models/a", rule=f"adversarial_rounds_{block}")) for block in ("01_03", "04_06")}
    assert kinds == {CodeChange("adversarial_rounds", OLD, NEW, False)}


# --- what is drawn --------------------------------------------------------------------------------------------------


def kinds_of_drawn(seed, count=2):
    """Twenty attacks of one kind and one of another, a model whose code did not change."""
    names = [f"attacks/{i}" for i in range(20)]
    for name in ["models/a", *names]:
        with publishing(ROOT / name, "thing", {}):
            pass
    rare = CodeChange("attack", "2" * 16, NEW, False)
    taken = {job(name): (rare if name == "attacks/7" else CodeChange("attack", OLD, NEW, False)) for name in names}
    model = job("models/a", Change())
    assessment = Assessment(taken=taken, sound=[model, *taken])
    units = [unit("models/a", kind="training"), *(unit(name) for name in names)]
    return [one.outputs[0].name for one in draw(assessment, units, count, seed)]


def test_a_sample_holds_one_of_every_kind_of_job_whose_code_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(8):
        drawn = kinds_of_drawn(seed)
        assert drawn[0] == "a"  # a training job, although its code did not change
        assert "7" in drawn
        assert set(drawn) - {"a", "7"}  # and one of the others
    assert kinds_of_drawn(3) == kinds_of_drawn(3)
    assert len({tuple(kinds_of_drawn(seed, 4)) for seed in range(8)}) > 1
    assert {len(kinds_of_drawn(seed, 6)) for seed in range(8)} <= {6, 7}


# --- Snakemake's record ---------------------------------------------------------------------------------------------


def test_a_record_lies_where_snakemake_puts_it(tmp_path):
    from snakemake.persistence.file import FilePersistence

    theirs = FilePersistence(path=tmp_path)
    for output in ("results/x/a/manifest.json", f"results/{'long' * 100}/manifest.json"):
        path = record_path(output, tmp_path)
        assert str(path) == theirs._record_path(str(tmp_path / "metadata"), output)
        marked = Path(str(path).replace("metadata", "incomplete", 1))
        marked.parent.mkdir(parents=True, exist_ok=True)
        marked.write_text("{}")
        assert output in started(tmp_path)


@pytest.fixture
def record(tmp_path):
    path = record_path("a/manifest.json", tmp_path)
    path.parent.mkdir(parents=True)
    before = {"params": [f"'{OLD}'", "'kept'"], "code": "run old", "record_format_version": FORMAT, "endtime": 7.5}
    path.write_text(json.dumps(before))
    return path, before


def test_rewriting_a_record_changes_the_parameters_and_the_command_alone(record, tmp_path):
    path, before = record
    rewrite("a/manifest.json", CODE, "run new", tmp_path)
    assert json.loads(path.read_text()) == {**before, "params": [f"'{NEW}'", "'kept'"]}
    rewrite("a/manifest.json", Change(command=True), "run new", tmp_path)
    assert json.loads(path.read_text()) == {**before, "params": [f"'{NEW}'", "'kept'"], "code": "run new"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "[]", '{"params": null}', '{"params": ["8"], "record_format_version": 6}'])
def test_a_record_that_is_not_the_one_that_was_looked_at_stays(record, tmp_path, text):
    path, _ = record
    path.write_text(text)
    with pytest.raises(ArtifactError, match="no record"):
        rewrite("a/manifest.json", CODE, "run", tmp_path)
    assert path.read_text() == text


def test_a_record_of_another_format_stays(record, tmp_path):
    path, before = record
    path.write_text(json.dumps({**before, "record_format_version": FORMAT + 1}))
    with pytest.raises(ArtifactError, match="no record"):
        rewrite("a/manifest.json", CODE, "run", tmp_path)


def test_the_format_is_that_of_this_snakemake():
    from snakemake.persistence import RECORD_FORMAT_VERSION

    assert FORMAT == RECORD_FORMAT_VERSION


# --- the log of acceptances -----------------------------------------------------------------------------------------


def entry(state="begun", kinds=("a", "b"), torch="2.13", compare="exact"):
    listed = [{"rule": rule, "before": OLD, "after": NEW, "jobs": 3} for rule in kinds]
    return {"state": state, "kinds": listed, "versions": {"torch": torch}, "compare": compare}


def test_only_the_last_line_of_a_killed_run_of_the_same_code_is_resumed(tmp_path):
    path = tmp_path / "deep" / "accepted.jsonl"
    assert unfinished(path, entry()) is None
    append(path, entry())
    rest = entry(kinds=("b",))
    assert unfinished(path, rest) == entry()
    assert unfinished(path, entry(kinds=("b", "c"))) is None
    assert unfinished(path, entry(torch="2.14")) is None
    assert unfinished(path, entry(compare="rates")) is None
    append(path, entry("done"))
    assert unfinished(path, rest) is None


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "accepted.jsonl"
    append(path, entry("done"))
    path.write_text(path.read_text() + '{"state": "beg')
    assert unfinished(path, entry()) is None
    append(path, entry())
    assert unfinished(path, entry()) == entry()
    assert len(path.read_text().splitlines()) == 3
