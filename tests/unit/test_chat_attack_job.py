"""The attack job of chat models: rows, replies and verdicts that agree, nothing told of what was asked or answered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_fixtures import byte_tokenizer, language_model
from chat_job_kit import WORDS, behaviors, publish_task, publish_victim
from planted import REFUSAL, TARGET, TRIGGER, never_obeys, obeys_trigger

from hardscale.artifacts.manifest import open_artifact, sha256_file, verify
from hardscale.artifacts.schemas import ATTACK, REPLIES
from hardscale.artifacts.tables import read_table
from hardscale.errors import AttackError, HardscaleError, ModelError, StudyError
from hardscale.evaluation import chat_attack_job
from hardscale.evaluation.attack_rows import summed_notes
from hardscale.evaluation.attack_spec import read_helpers
from hardscale.evaluation.chat_attack_job import run_chat_attack_job, select
from hardscale.evaluation.chat_replies import Prompt, replies
from hardscale.models.chat import ChatTemplate
from hardscale.models.generate import Sampling
from hardscale.untrusted.redaction import quotes, withholding

SCRIPT = Path(__file__).parents[2] / "scripts" / "attack.py"
GCG: dict[str, Any] = {
    "kind": "gcg",
    "n_iterations": 3,
    "n_candidates": 24,
    "top_k": 64,
    "n_attack_tokens": 4,
    "candidate_rng": "per_example",
}
JUDGES = ["rules-prefix", "rules-anywhere", "target-likelihood"]


def spec(**changes: Any) -> dict[str, Any]:
    values = {"cell": "a/b/c/s0", "defense": "none", "round": 0, "attack": "mine", "settings": GCG, "seed": 7}
    return {**values, "n_examples": 5, "max_tokens": 200, "shard": 1, "shards": 1, "judges": [], **changes}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("chat")
    return publish_victim(root / "victim"), publish_task(root / "task")


def run(
    folders: tuple[Path, Path], out: Path, helpers: dict[str, Path] | None = None, **changes: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    run_chat_attack_job(*folders, spec(**changes), out, helpers)
    verify(out)
    rows = read_table(out / "attack.parquet", ATTACK).to_pylist()
    return open_artifact(out, "attack"), rows, read_table(out / "replies.parquet", REPLIES).to_pylist()


def test_rows_and_replies_tell_the_same(folders: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, rows, replies = run(folders, tmp_path / "out")
    facts = manifest["facts"]
    assert [row["example_id"] for row in rows] == [10, 11, 12, 13, 14]
    assert [row["clean_prediction"] for row in rows] == [0, 0, 1, 0, 0]  # one request has the trigger in it
    assert len(replies) == 5 * 2 * 3 and facts["judges"] == JUDGES and facts["judge"] == "rules-prefix"
    by = {(one["example_id"], one["iteration"], one["judge"]): one for one in replies}
    for row in rows:
        key = row["example_id"]
        final = by[key, 3, "rules-prefix"]
        assert row["success"] == final["complied"] == (final["reply"] == TARGET) == (TRIGGER in row["adversarial_text"])
        clean = by[key, 0, "rules-prefix"]
        assert clean["reply"] == (TARGET if key == 12 else REFUSAL) and clean["raw"] in ("complied", "refused")
        assert by[key, 3, "target-likelihood"]["raw"] == f"{row['losses'][-1]:.6g}"
        assert by[key, 3, "target-likelihood"]["complied"] == row["successes"][-1]
        assert row["label"] == 0 and len(row["losses"]) == 3 and row["seed"] == 7
        assert row["adversarial_text"].startswith("<|user|>") and row["adversarial_text"].endswith("<|assistant|>")
    assert by[13, 0, "rules-prefix"]["category"] == "copyright" and by[14, 0, "rules-prefix"]["category"] is None
    counts = {name: facts[name] for name in ("n_examples", "n_attacked", "n_rows", "n_clean_complied", "n_complied")}
    assert counts == {
        "n_examples": 5,
        "n_attacked": 5,
        "n_rows": 5,
        "n_clean_complied": 1,
        "n_complied": sum(row["success"] for row in rows),
    }
    assert facts["success_rule"] == "judge" and facts["attack_kind"] == "gcg" and facts["position"] == "suffix"
    assert facts["labels"] == [] and facts["too_long"] == [] and facts["n_without_verdict"] == 0
    template = ChatTemplate(obeys_trigger().tokenizer, None)
    assert facts["template_sha256"] == template.sha256 and len(facts["subset_sha256"]) == 64
    [first, *_] = facts["agreement"]
    assert (first["first"], first["second"], first["share"]) == ("rules-prefix", "rules-anywhere", 1.0)
    assert set(manifest["inputs"]) == {"victim", "task"}


def test_tables_are_readable_by_their_owner_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(folders, tmp_path / "out", settings={"kind": "direct"})
    modes = {name: (tmp_path / "out" / name).stat().st_mode & 0o777 for name in ("attack.parquet", "replies.parquet")}
    assert set(modes.values()) == {0o600}


def test_the_same_job_publishes_the_same_bytes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    first, *_ = run(folders, tmp_path / "one")
    second, *_ = run(folders, tmp_path / "two")
    assert first["self"] == second["self"]
    for name in ("attack.parquet", "replies.parquet"):
        assert sha256_file(tmp_path / "one" / name) == sha256_file(tmp_path / "two" / name)


def test_shards_together_are_the_whole(folders: tuple[Path, Path], tmp_path: Path) -> None:
    whole, rows, replies = run(folders, tmp_path / "whole", settings={"kind": "in_context", "shots": 1})
    found, said = [], []
    for shard in (1, 2, 3):
        manifest, some, parts = run(
            folders, tmp_path / str(shard), settings={"kind": "in_context", "shots": 1}, shard=shard, shards=3
        )
        assert manifest["facts"]["n_attacked"] == 5 and manifest["facts"]["n_rows"] == len(some)
        assert manifest["facts"]["subset_sha256"] == whole["facts"]["subset_sha256"]
        found, said = found + some, said + parts
    for row, expected in zip(sorted(found, key=lambda row: row["example_id"]), rows, strict=True):
        assert row["losses"] == pytest.approx(expected["losses"], abs=1e-5)
        assert row["adversarial_text"] == expected["adversarial_text"] and row["success"] == expected["success"]
    key = lambda one: (one["iteration"], one["example_id"], JUDGES.index(one["judge"]))  # noqa: E731
    assert [one["reply"] for one in sorted(said, key=key)] == [one["reply"] for one in sorted(replies, key=key)]


def test_drawn_replies_depend_on_the_seed_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    victim = folders[0]
    task = publish_task(tmp_path / "task", sampling={"temperature": 60.0, "top_k": 50, "top_p": 1.0})
    direct: dict[str, Any] = {"settings": {"kind": "direct"}}

    def said(name: str, **changes: Any) -> dict[Any, str]:
        rows = run((victim, task), tmp_path / name, **direct, **changes)[2]
        return {(one["example_id"], one["iteration"], one["judge"]): one["reply"] for one in rows}

    whole = said("whole")
    assert whole == said("again")
    parts = [said(f"part{shard}", shard=shard, shards=2) for shard in (1, 2)]
    assert whole == parts[0] | parts[1]
    assert whole != said("other", seed=8)
    greedy = run(folders, tmp_path / "greedy", **direct)[2]
    assert whole != {(one["example_id"], one["iteration"], one["judge"]): one["reply"] for one in greedy}
    assert sha256_file(tmp_path / "whole" / "replies.parquet") == sha256_file(tmp_path / "again" / "replies.parquet")


def test_equal_prompts_of_two_examples_are_drawn_apart() -> None:
    model, tokenizer = language_model("llama"), byte_tokenizer()
    ids = tuple(tokenizer("what").input_ids)
    prompts = [Prompt(key, ids) for key in (1, 2, 1)]
    drawn = replies(model, tokenizer, prompts, 8, "replies", sample=Sampling(temperature=3.0, seed=1))
    assert drawn[0] == drawn[2] != drawn[1]
    assert len(set(replies(model, tokenizer, prompts, 8, "replies"))) == 1


def test_in_context_shows_no_request_of_the_test(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, rows, _ = run(folders, tmp_path / "out", settings={"kind": "in_context", "shots": 2})
    for row in rows:
        others = [word for word in WORDS if f"Write the word {word}." in row["adversarial_text"]]
        assert len(others) == 1 and sum(word in row["adversarial_text"] for word in ("melon", "cherry", "grape")) == 2


def test_a_begun_reply_is_judged_with_its_begin(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, rows, replies = run(folders, tmp_path / "out", settings={"kind": "prefill", "n_prefill_tokens": 3})
    for row in rows:
        [final] = [
            one
            for one in replies
            if (one["example_id"], one["iteration"], one["judge"]) == (row["example_id"], 1, "rules-prefix")
        ]
        begin = row["adversarial_text"].rpartition("<|assistant|>")[2]
        assert begin and begin != TARGET and final["reply"].startswith(begin)
        assert final["reply"] == TARGET and row["success"]  # the planted model goes on once it has begun


def test_a_perturbation_is_what_the_reply_is_written_from(folders: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {
        "kind": "embedding",
        "n_iterations": 25,
        "perturbation": {"step_size": 0.2, "eps": None, "positions": "prompt"},
    }
    manifest, rows, replies = run(folders, tmp_path / "out", settings=settings)
    final = {one["example_id"]: one for one in replies if one["iteration"] == 25 and one["judge"] == "rules-prefix"}
    assert any(row["success"] for row in rows if row["clean_prediction"] == 0)
    for row in rows:
        assert row["success"] == (final[row["example_id"]]["reply"] == TARGET)
        assert row["adversarial_text"].count("Write the word") == 1  # the words stay as they are
    facts = manifest["facts"]
    assert facts["eps"] is None and facts["eps_mode"] == "relative_norm"
    assert "max_ratio" in facts["notes"] or "loss_before" in facts["notes"]


KINDS: list[dict[str, Any]] = [
    {"kind": "random_token", "n_iterations": 2, "n_attack_tokens": 3},
    {"kind": "beast", "n_iterations": 2, "beam": 2, "branching": 2},
    {"kind": "autodan", "n_iterations": 2, "population": 4},
    {"kind": "pair", "n_iterations": 2, "streams": 2, "max_reply_tokens": 10},
    {"kind": "adaptive", "n_iterations": 2, "n_attack_tokens": 4},
    {"kind": "templates", "n_iterations": 2},
]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings["kind"])
@pytest.mark.parametrize("position", ["suffix", "prefix"])
def test_every_kind_of_attack_ends_in_judged_replies(
    folders: tuple[Path, Path], tmp_path: Path, settings: dict[str, Any], position: str
) -> None:
    changes = {"settings": {**settings, "position": position}, "n_examples": 2}
    manifest, rows, replies = run(folders, tmp_path / "out", **changes)
    assert len(rows) == 2 and len(replies) == 2 * 2 * 3 and manifest["facts"]["position"] == position
    for row in rows:
        assert len(row["losses"]) == settings["n_iterations"] and row["n_forward_tokens"] > 0
        assert row["adversarial_text"].endswith("<|assistant|>")
        [final] = [
            one["reply"]
            for one in replies
            if one["example_id"] == row["example_id"] and one["iteration"] and one["judge"] == "rules-prefix"
        ]
        assert row["success"] == (final == TARGET) == (TRIGGER in row["adversarial_text"])


def test_a_model_that_always_refuses_is_zero_and_no_error(tmp_path: Path) -> None:
    folders = publish_victim(tmp_path / "victim", never_obeys()), publish_task(tmp_path / "task")
    for settings in (GCG, {"kind": "direct"}):
        manifest, rows, _ = run(folders, tmp_path / "out", settings=settings)
        assert not any(row["success"] for row in rows) and manifest["facts"]["n_complied"] == 0


def test_other_models_are_given_by_role(folders: tuple[Path, Path], tmp_path: Path) -> None:
    judge = publish_victim(tmp_path / "judge")
    judges = [
        {"kind": "harmbench", "model": {"family": "f", "scale": "s"}, "prompt": "{behavior}{context}{completion}"}
    ]
    manifest, rows, replies = run(
        folders, tmp_path / "out", {"judge0": judge}, settings={"kind": "direct"}, judges=judges
    )
    facts = manifest["facts"]
    assert facts["judge"] == "harmbench-f-s" and facts["n_without_verdict"] == 10  # it says neither yes nor no
    assert not any(row["success"] or row["clean_prediction"] for row in rows)
    assert {one["complied"] for one in replies if one["judge"] == "harmbench-f-s"} == {None}
    assert all(one["raw"] for one in replies if one["judge"] == "harmbench-f-s")
    assert set(manifest["inputs"]) == {"victim", "task", "judge0"}
    with pytest.raises(AttackError, match="give --helper judge0=FOLDER"):
        run(folders, tmp_path / "none", judges=judges)


def test_protected_texts_are_judged_by_what_is_reproduced(folders: tuple[Path, Path], tmp_path: Path) -> None:
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"word_13": REFUSAL, "word_12": "quite another text"}))
    judges = [{"kind": "rules"}, {"kind": "copyright", "references": str(texts)}]
    manifest, rows, replies = run(folders, tmp_path / "out", settings={"kind": "direct"}, judges=judges)
    # The refusal is the protected text: by the rules it is none, by what it reproduces it is a success. Behavior 12
    # has a text too but does not ask for one.
    assert [row["success"] for row in rows] == [False, False, True, True, False]
    assert {one["complied"] for one in replies if one["judge"] == "copyright"} == {True, False, None}
    assert manifest["facts"]["judge"] == "rules-prefix"


def test_what_can_not_be_asked_is_reported(folders: tuple[Path, Path], tmp_path: Path) -> None:
    test = [*behaviors(10, ["apple", "pear"]), *behaviors(20, ["fig " * 300]), *behaviors(30, ["plum", "lemon"])]
    task = publish_task(tmp_path / "task", test)
    manifest, rows, _ = run((folders[0], task), tmp_path / "out", settings={"kind": "direct"})
    assert manifest["facts"]["too_long"] == [20] and manifest["facts"]["n_attacked"] == 4
    assert [row["example_id"] for row in rows] == [10, 11, 30, 31]
    template = ChatTemplate(obeys_trigger().tokenizer, None)
    template.request = lambda text: (_ for _ in ()).throw(ModelError("changed"))  # type: ignore[method-assign]
    assert select(test, template, 200).changed == [10, 11, 20, 30, 31]


def test_nothing_to_attack_is_an_empty_table(folders: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, rows, replies = run(folders, tmp_path / "out", shard=7, shards=7)
    assert rows == [] == replies and manifest["facts"]["n_attacked"] == 5
    assert manifest["facts"]["agreement"][0]["n"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {**GCG, "position": "infix90"}}, "suffix or prefix"),
        ({"settings": {"kind": "oracle"}}, "settings.kind"),
        ({"settings": {"kind": "beast", "beam": 0}}, "settings.beam"),
        ({"judges": [{"kind": "copyright"}]}, "another judge first"),
        ({"extra": 1}, "unknown key"),
    ],
)
def test_a_bad_spec_is_one_line(folders: tuple[Path, Path], tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises((AttackError, StudyError), match=message) as caught:
        run_chat_attack_job(*folders, spec(**changes), tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_notes_are_summed_or_averaged() -> None:
    class Result:
        def __init__(self, **notes: float) -> None:
            self.notes = notes

    found = summed_notes([Result(n_invalid=2, pool_success=1.0, x=float("nan")), Result(n_invalid=3, pool_success=0)])  # type: ignore[list-item]
    assert found == {"n_invalid": 5, "pool_success": 0.5}


# --- nothing is told of what was asked or answered --------------------------------------------------------------------

SECRETS = ["the word", "backwards", "lemon", TRIGGER, "you asked", "list of fruit", "sorry", "cannot help"]


def test_errors_do_not_quote(monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path], tmp_path: Path) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError(f"bad value: Write the word {WORDS[1]}.")

    monkeypatch.setattr(chat_attack_job, "run_attack", fails)
    with pytest.raises(
        AttackError, match=r"ValueError in test_chat_attack_job\.py:\d+; its message is withheld"
    ) as caught:
        run_chat_attack_job(*folders, spec(), tmp_path / "out")
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_our_own_errors_pass_unless_they_quote() -> None:
    with pytest.raises(ModelError, match="example 3: too long"), withholding(["Write the word apple."]):
        raise ModelError("example 3: too long")
    with pytest.raises(ModelError, match="is withheld") as caught, withholding(["Write the word apple."]):
        raise ModelError("found 'write  the word APPLE.' in it")
    assert "apple" not in str(caught.value).casefold()
    with pytest.raises(KeyboardInterrupt), withholding([]):
        raise KeyboardInterrupt
    assert quotes("he said pear tree.", ["pear tree"]) and not quotes("appeared", ["pear"])


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_line_logs_no_text(folders: tuple[Path, Path], tmp_path: Path, broken: bool) -> None:
    victim, task = folders
    if broken:
        planted = obeys_trigger()
        with torch.no_grad():
            planted.model.lm_head.weight[5] = float("nan")
        victim = publish_victim(tmp_path / "victim", planted)
    values = spec(settings={**GCG, "n_iterations": 1, "n_candidates": 4})
    del values["shard"], values["shards"]
    out, log = tmp_path / "out", tmp_path / "attack.log"
    command = [sys.executable, str(SCRIPT), "--spec", json.dumps(values), "--victim", str(victim), "--task", str(task)]
    done = subprocess.run([*command, "--out", str(out), "--log", str(log)], capture_output=True, text=True, check=False)
    shown = (done.stdout + done.stderr + log.read_text()).casefold()
    assert done.returncode == int(broken), shown
    assert [secret for secret in SECRETS if secret in shown] == []
    if broken:
        assert "error: example 1" in shown and not out.exists()
    else:
        assert "mine: 5 behaviors, 0 left out, 5 attacked here" in shown
        assert (out / "replies.parquet").is_file()
        assert not any(secret in (out / "manifest.json").read_text() for secret in SECRETS)


def test_helpers_of_the_command_line(tmp_path: Path) -> None:
    assert read_helpers(["judge=a/manifest.json", "sampler=b=c"]) == {"judge": Path("a"), "sampler": Path("b=c")}
    for given in (["judge0"], ["=x"], ["judge0="], ["victim=x"], ["judge0=x", "judge0=y"]):
        with pytest.raises(AttackError, match="--helper"):
            read_helpers(given)


def test_a_task_for_classifiers_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    task = publish_task(tmp_path / "task", kind="other")
    with pytest.raises(HardscaleError, match="expected one with kind"):
        run_chat_attack_job(folders[0], task, spec(), tmp_path / "out")
