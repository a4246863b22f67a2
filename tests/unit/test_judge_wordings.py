"""The words of others that judges are asked in: where they are read from, how they are filled, what is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_fixtures import byte_tokenizer, language_model
from planted import chat_tokenizer, obeys_trigger
from pydantic import ValidationError
from test_judges import item, saved

from hardscale.errors import AttackError, DataError
from hardscale.evaluation.judges import ask, panel, rubric, strongreject
from hardscale.evaluation.judges.ask import Asker, prompt_tokens
from hardscale.settings.chat import JudgeSettings
from hardscale.settings.wordings import Named
from hardscale.tasks.wordings import Wording, check_judge, read_named, wording_of
from real_pairs import PAIRS, needs_tokenizers, tokenizer_of

MODEL = {"family": "f", "scale": "s"}
STANDARD = "<s>[INST] B: {behavior} G: {generation} [/INST]"
CONTEXTUAL = "C: {context} B: {behavior} G: {generation} "


def settings(kind: str = "harmbench", **more: Any) -> JudgeSettings:
    return JudgeSettings.model_validate({"kind": kind, "model": MODEL, **more})


# --- refusal at load --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("harmbench", "HarmBench"),
        ("strongreject_finetuned", "dsbowen/strong_reject"),
        ("rubric", "dsbowen/strong_reject"),
    ],
)
def test_a_judging_model_without_its_words_is_refused_with_the_place_to_get_them(kind: str, place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(kind)
    [error] = caught.value.errors()
    assert place in error["msg"] and "prompt_file" in error["msg"] and "\n" not in error["msg"]
    assert ("wording: own" in error["msg"]) == (kind != "strongreject_finetuned")


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("harmbench", {"prompt": "{behavior}{completion}", "prompt_file": "x"}, "prompt and prompt_file; give one"),
        ("harmbench", {"prompt_file": "x", "prompt_package": "a:b"}, "give one"),
        ("harmbench", {"wording": "own", "prompt_file": "x"}, "wording: own and prompt_file"),
        ("strongreject_finetuned", {"wording": "own"}, "no question that"),
        ("harmbench", {"prompt_file": {"standard": "x", "system": "y"}}, "no system prompt"),
        ("harmbench", {"prompt_file": {"contextual": "x"}}, "Field required"),
        ("harmbench", {"prompt_file": ""}, "not blank"),
        ("harmbench", {"prompt": "{behavior} alone"}, r"needs \{completion\} or \{generation\}"),
        ("harmbench", {"prompt_file": "x", "mode": "anywhere"}, "takes no mode"),
        ("rules", {"model": None, "wording": "own"}, "takes no wording"),
        ("rules", {"model": None, "prompt_file": "x"}, "takes no prompt_file"),
        ("copyright", {"model": None, "prompt_package": "x:y"}, "takes no prompt_package"),
    ],
)
def test_contradictions_are_refused(kind: str, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(kind, **more)


def test_our_own_words_are_called_so_in_every_table() -> None:
    judges = [settings(kind, wording="own") for kind in ("harmbench", "rubric")]
    members = panel.panel(judges, {"judge0": Path("a"), "judge1": Path("b")})
    assert [member.name for member in members[:2]] == ["harmbench-own-words-f-s", "rubric-own-words-f-s"]
    assert len({member.prompt_sha256 for member in members}) == 3  # two questions, None of other judges
    assert all(member.wording is None for member in members)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "standard.txt").write_bytes(STANDARD.encode() + b"\n")
    (tmp_path / "contextual.txt").write_bytes(CONTEXTUAL.encode())  # its last space counts
    (tmp_path / "crlf.txt").write_bytes(STANDARD.encode() + b" \r\n")
    (tmp_path / "forms.json").write_text(json.dumps({"a": {"b": CONTEXTUAL}, "c.d": 3, "list": [STANDARD]}))
    (tmp_path / "source.py").write_text(
        "import does_not_exist\nraise SystemExit('run')\n"
        f"NAME = 'old'\nNAME: str = {STANDARD!r}\nPROMPTS = {{'prompt': '''{CONTEXTUAL}''', 'n': 3}}\n"
        f"class Judge:\n    TEXT = ({STANDARD[:9]!r}\n            {STANDARD[9:]!r})\nMADE = NAME.upper()\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("standard.txt", STANDARD),
        ("contextual.txt", CONTEXTUAL),
        ("crlf.txt", STANDARD + " "),
        ("forms.json#a.b", CONTEXTUAL),
        ("forms.json#list.0", STANDARD),
        ("source.py#NAME", STANDARD),
        ("source.py#PROMPTS.prompt", CONTEXTUAL),
        ("source.py#Judge.TEXT", STANDARD),
    ],
)
def test_a_text_is_read_as_it_is(files: Path, source: str, text: str) -> None:
    assert read_named(Named("k", str(files / source)), None) == text
    assert read_named(Named("k", source), files) == text  # below data.root


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.txt", "k: .* is not there .* data.root"),
        ("forms.json", "holds several texts; name one"),
        ("forms.json#a", "has no text named a"),
        ("forms.json#z.b", "has no text named z.b"),
        ("source.py#MADE", "has no text named MADE"),
        ("source.py#PROMPTS.n", "has no text named"),
        ("source.py#Judge", "has no text named"),
        ("broken.py#X", "is no Python source"),
        ("wide.txt", "UTF-16"),
        ("pipe.txt", "named pipe"),
        ("hub:org/name/x.txt", "give a path"),
    ],
)
def test_what_is_no_text_is_one_line_without_its_content(files: Path, source: str, message: str) -> None:
    (files / "broken.py").write_text("secret secret = (")
    (files / "wide.txt").write_text("secret", encoding="utf-16")
    os.mkfifo(files / "pipe.txt")
    assert stat.S_ISFIFO((files / "pipe.txt").stat().st_mode)
    with pytest.raises(DataError, match=message) as caught:
        read_named(Named("k", source), files)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_package_s_text_is_read_and_nothing_of_it_is_run(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = files / "words_of_others"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')")
    (files / "source.py").rename(package / "judges.py")
    (files / "standard.txt").rename(package / "data/standard.txt")
    monkeypatch.syspath_prepend(str(files))
    for source in ("words_of_others:judges.py#Judge.TEXT", "words_of_others:data/standard.txt"):
        assert read_named(Named("k", source, packaged=True), None) == STANDARD
    for source, message in (
        ("words_of_others:none.txt", "has no none.txt"),
        ("no_such_package:x.txt", "no package no_such_package is installed"),
        ("words_of_others:../x.txt", "give package:path"),
        ("words_of_others", "give package:path"),
        ("words_of_others:/etc/hostname", "give package:path"),
        ("a/b:x.txt", "give package:path"),
    ):
        with pytest.raises(DataError, match=message):
            read_named(Named("k", source, packaged=True), None)


def test_the_forms_of_a_judge_and_their_digest(files: Path) -> None:
    both = settings(prompt_file={"standard": "standard.txt", "contextual": "contextual.txt"})
    wording = wording_of(both, "judges.0", files)
    assert wording == Wording(STANDARD, CONTEXTUAL)
    assert wording.sha256 == hashlib.sha256(f"{STANDARD}\x1f{CONTEXTUAL}".encode()).hexdigest()
    assert wording_of(settings(prompt_file="standard.txt"), "judges.0", files) == Wording(STANDARD)
    assert wording_of(settings("rubric", prompt_file="standard.txt"), "judges.0", files) == Wording(STANDARD, None, "")
    assert wording_of(settings(wording="own"), "judges.0", files) is None
    assert wording_of(JudgeSettings(), "judges.0", files) is None
    (files / "blind.txt").write_text("{behavior} {completion}")
    for more, message in (
        (
            {"prompt_file": {"standard": "standard.txt", "contextual": "blind.txt"}},
            "contextual: the text has no place {context}",
        ),
        ({"prompt_file": "forms.json#list"}, "has no text"),
        ({"prompt_file": {"standard": "none.txt"}}, r"judges\.0\.prompt_file\.standard: 'none.txt' is not there"),
    ):
        with pytest.raises(DataError, match=message):
            wording_of(settings(**more), "judges.0", files)
    with pytest.raises(DataError, match=r"judges\.2\.references"):
        check_judge(JudgeSettings(kind="copyright", references="none.json"), "judges.2", files)


def test_contexts_need_a_place(files: Path) -> None:
    helpers = {"judge0": files}
    blind, seeing = (
        panel.panel([settings(prompt_file=forms)], helpers, files)
        for forms in ("standard.txt", {"standard": "standard.txt", "contextual": "contextual.txt"})
    )
    panel.check_contexts(blind, [None, ""])
    panel.check_contexts(seeing, ["a context"])
    with pytest.raises(AttackError, match=r"harmbench-f-s: 1 behaviors have a context.*contextual"):
        panel.check_contexts(blind, [None, "a context"])


# --- tokens -----------------------------------------------------------------------------------------------------------


@needs_tokenizers
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_a_judge_gets_one_bos_whether_its_words_spell_it_or_not(pair: Any) -> None:
    tokenizer = tokenizer_of(pair)
    plain = "B: a word. G: another word. [/INST]"
    bos, adds = tokenizer.bos_token, tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    for text in (plain, *([bos + plain] if bos else [])):
        ids = prompt_tokens(tokenizer, text)
        spelled = bool(bos) and text.startswith(bos)
        assert ids.count(tokenizer.bos_token_id) == int(spelled or adds)
        assert ids[-1] != tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == plain


def test_a_tokenizer_that_ends_every_text_does_not_end_a_question() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(chat_tokenizer())
    eos = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {eos}", pair=None, special_tokens=[(eos, tokenizer.eos_token_id)]
    )
    assert tokenizer("apple")["input_ids"][-1] == tokenizer.eos_token_id
    assert prompt_tokens(tokenizer, "apple")[-1] != tokenizer.eos_token_id
    assert prompt_tokens(tokenizer, f"apple{eos}")[-1] == tokenizer.eos_token_id


def test_a_published_rubric_goes_through_the_model_s_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[list[int]]] = []

    def answer(model: Any, tokenizer: Any, prompts: list[list[int]], *_: Any, **__: Any) -> list[str]:
        asked.append(prompts)
        return ["1.a It does.\n1.b 0\n2.a Quite.\n2.b 5\n3.a Partly.\n3.b 3"] * len(prompts)

    monkeypatch.setattr(ask, "reply", answer)
    planted = obeys_trigger()
    asker = Asker(saved(tmp_path / "chat", planted.model, planted.tokenizer), 64, 12)
    judge = rubric.Rubric("mine", asker, Wording("P {forbidden_prompt} R {response}", None, "You grade."))
    [found] = judge.judge([item("apple")])
    text = planted.tokenizer.decode(asked[0][0])
    assert text == "<|system|>You grade.<|user|>P Write the word apple. R apple<|assistant|>"
    assert (found.score, found.complied) == (0.75, True)


@pytest.mark.parametrize(
    ("raw", "score"),
    [
        ("#scores\n1.a x\n1.b 1\n2.a x\n2.b 5\n3.a x\n3.b 5", 0.0),
        ("1.b 0\n2.b 1\n3.b 1", 0.0),
        ("1.b: 0\n2.b: 4\n3.b: 5", 0.875),
        ("1.b 0\n2.b 9\n3.b 5", None),
        ("1.b 0\n2.b 4", None),
        ("1.b 3\n2.b 4\n3.b 5", None),
    ],
)
def test_the_published_rubric_s_answer_is_read_by_its_numbers(raw: str, score: float | None) -> None:
    assert rubric.verdict(raw).score == score


# --- the fine-tuned judge of StrongREJECT -----------------------------------------------------------------------------


def test_the_mean_grade() -> None:
    assert strongreject.expected([1, 0, 0, 0, 0]) == 0 and strongreject.expected([0, 0, 0, 0, 0.5]) == 1
    assert strongreject.expected([0.1, 0.1, 0.1, 0.1, 0.1]) == pytest.approx(0.5)
    by_hand = torch.tensor([0.1, 0.3, 0.05, 0.2, 0.15])
    assert strongreject.expected(by_hand.tolist()) == pytest.approx(
        float((by_hand / by_hand.sum() * torch.linspace(0, 1, 5)).sum())
    )
    assert strongreject.verdict([0.0, 0.0, 0.0, 0.1, 0.8]).complied is True
    off = strongreject.verdict([0.1, 0.1, 0.1, 0.1, 0.05])  # something else is likelier: other words than it learnt
    assert (off.complied, off.score) == (None, None) and "together 0.45" in off.raw
    assert strongreject.verdict([float("nan")] * 5).complied is None
    assert strongreject.verdict(None).raw == ask.TOO_LONG


def test_grades_are_the_next_token_s_probabilities(tmp_path: Path) -> None:
    model, tokenizer = language_model("llama", max_position_embeddings=64), byte_tokenizer()
    asker = Asker(saved(tmp_path / "plain", model, tokenizer), 8, 1)
    wording = Wording("P {forbidden_prompt} R {response} A: ")
    short, long = item("ok", behavior="be"), item("ok", behavior="be " * 80)
    found, too_long = asker.next_token([short, long], wording, strongreject.GRADES)
    assert too_long is None and found is not None
    ids = tokenizer("P be R ok A: ", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.eval()(ids).logits[0, -1].float().softmax(0)
    assert found == pytest.approx(
        [float(expected[tokenizer.convert_tokens_to_ids(digit)]) for digit in "12345"], rel=1e-4
    )
    with pytest.raises(AttackError, match="no token 'nine'"):
        asker.next_token([short], wording, ["1", "nine"])
    [verdict] = strongreject.StrongRejectFinetuned("mine", asker, wording).judge([short])
    assert verdict.raw.startswith("grades ")
