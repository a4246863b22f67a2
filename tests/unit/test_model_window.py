"""Lengths and ranks that a study asks for, against what its models can do: a line before any job, the same in one."""

import json
import random
import re

import pytest
import torch
import yaml
from model_kit import make_language_model, path_family
from test_model_prepare import write_tiny_gguf
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from chats import describe_chats
from hardscale.errors import ModelError, StudyError
from hardscale.models.fit import Ability, LengthDemand, packed, unpacked
from hardscale.models.prepare import prepare_model
from hardscale.models.window import Window, vocabulary_of, window, window_of
from hardscale.ops.preflight import model_problems
from hardscale.plan.demands import Demands
from hardscale.settings.study import parse_study, read_yaml
from tickets import STUDY


def study(folder, window=256, **changes):
    """README's study on a model of that window that lies in a folder."""
    make_language_model(folder / "my-model", "gpt_neox")
    rewrite(folder / "my-model", max_position_embeddings=window)
    values = yaml.safe_load(STUDY.replace("my-model", json.dumps(str(folder / "my-model"))))
    return parse_study(merged(values, changes), "test")


def merged(values, changes):
    for key, value in changes.items():
        values[key] = merged(dict(values.get(key) or {}), value) if isinstance(value, dict) else value
    return values


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_study_that_fits(tmp_path):
    assert model_problems(study(tmp_path)) == []


def test_a_length_above_the_window_is_one_line_with_key_numbers_and_remedy(tmp_path):
    [line] = model_problems(study(tmp_path, tasks={"tickets": {"max_tokens": 300}}))
    assert line == (
        "tasks.tickets.max_tokens: found 300, with 10 of attacks.gcg.n_attack_tokens 310 tokens, but mine small reads "
        "256 (max_position_embeddings); set max_tokens: 246 or less (longer examples are left out), "
        "or use another model"
    )
    assert model_problems(study(tmp_path / "b", tasks={"tickets": {"max_tokens": 246}})) == []
    assert model_problems(study(tmp_path / "c", tasks={"tickets": {"max_tokens": 247}}))


ABOVE = {
    "the default": ({"tasks": {"tickets": {"max_tokens": 1000}}}, "tasks.tickets.max_tokens: found 1,000"),
    "no bound": ({"tasks": {"tickets": {"max_tokens": None}}}, r"tasks.tickets.max_tokens: found null \(no bound\)"),
    "attack tokens": ({"attacks": {"gcg": {"n_attack_tokens": 60}}}, "60 of attacks.gcg.n_attack_tokens"),
    "more than the window": (
        {"attacks": {"gcg": {"n_attack_tokens": 150}}, "window": 128},
        "lower attacks.gcg.n_attack_tokens, which leaves no room",
    ),
    "random tokens in training": (
        {"finetune": {"exposure": {"probability": 0.5, "max_tokens": 70}}},
        "with 70 of finetune.exposure.max_tokens",
    ),
    "an override for this cell": (
        {"attacks": {"gcg": {"overrides": [{"where": {"scale": ["small"]}, "set": {"n_attack_tokens": 99}}]}}},
        "99 of attacks.gcg.n_attack_tokens",
    ),
    "attack in training": (
        {
            "defenses": {"rounds": {"kind": "adversarial_rounds", "attack": {"kind": "gcg", "n_attack_tokens": 80}}},
            "evaluate": [{"attacks": ["gcg"], "defenses": ["rounds"]}],
        },
        "80 of defenses.rounds.attack.n_attack_tokens",
    ),
    "top_k": (
        {"attacks": {"gcg": {"top_k": 900}}},
        r"attacks.gcg.top_k: found 900, but mine small knows \d+ tokens; set top_k",
    ),
    "beam search": (
        {
            "attacks": {"beast": {"kind": "beast", "n_iterations": 57}},
            "evaluate": [{"attacks": ["beast"], "defenses": ["none"]}],
        },
        "57 of attacks.beast.n_iterations",
    ),
}


@pytest.mark.parametrize("case", ABOVE)
def test_what_is_above_it(case, tmp_path):
    changes, message = ABOVE[case]
    [line] = model_problems(study(tmp_path, **changes))
    assert re.search(message, line) and line.isprintable()


def test_what_is_not_asked_of_a_model_does_not_count(tmp_path):
    other = {"kind": "gcg", "n_attack_tokens": 150, "top_k": 9999}
    assert model_problems(study(tmp_path, attacks={"never-run": other})) == []
    control = {"kind": "gcg", "gradient": False, "top_k": 9999}
    rows = [{"attacks": ["control"], "defenses": ["none"]}]
    assert model_problems(study(tmp_path / "c", attacks={"control": control}, evaluate=rows)) == []


# --- chat studies ---------------------------------------------------------------------------------------------------


def chats(folder, **changes):
    path = describe_chats(folder)
    return parse_study(merged(read_yaml(path), changes), "test")


def test_a_chat_study_that_fits(tmp_path):
    assert model_problems(chats(tmp_path)) == []


CHATS = {
    "prompt and reply": ({"tasks": {"fruit": {"max_new_tokens": 100}}}, "100 of tasks.fruit.max_new_tokens"),
    "prompt": ({"tasks": {"fruit": {"max_tokens": 500}}}, "tasks.fruit.max_tokens: found 500, .*longer prompts"),
    "attack": ({"attacks": {"gcg": {"n_attack_tokens": 60}}}, "60 of attacks.gcg.n_attack_tokens"),
    "training": ({"defenses": {"c-advul": {"max_tokens": 257}}}, "defenses.c-advul.max_tokens: found 257, but toy 20k"),
    "pretraining": (
        {"families": {"toy": {"pretrain": {"max_tokens": 300}}}},
        "families.toy.pretrain.max_tokens: found 300, .*families.toy.max_positions",
    ),
    "ranked": ({"attacks": {"gcg": {"top_k": 401}}}, "attacks.gcg.top_k: found 401"),
    "utility": ({"utility": {"max_new_tokens": 300}}, "utility.max_new_tokens"),
    "dialogues": ({"utility": {"mt_bench": {"max_new_tokens": 300}}}, "utility.mt_bench.max_new_tokens"),
    "a judge": (
        {"judges": [{"kind": "harmbench", "wording": "own", "model": {"family": "toy", "scale": "20k"}}]},
        "judges.0.max_completion_tokens",
    ),
    "an attacker": (
        {
            "attacks": {"pair": {"kind": "pair", "attacker": {"family": "toy", "scale": "20k"}, "max_reply_tokens": 8}},
            "evaluate": [{"attacks": ["pair"], "defenses": ["none"]}],
        },
        "attacks.pair.max_attacker_tokens: found 501",
    ),
    "R2D2": (
        {
            "defenses": {"r2d2": {"kind": "r2d2", "max_tokens": 300, "top_k": 20}},
            "evaluate": [{"attacks": ["gcg"], "defenses": ["r2d2"]}],
        },
        "defenses.r2d2.max_tokens: found 300",
    ),
    "R2D2's ranks": (
        {
            "defenses": {"r2d2": {"kind": "r2d2", "max_tokens": 200, "top_k": 500}},
            "evaluate": [{"attacks": ["gcg"], "defenses": ["r2d2"]}],
        },
        "defenses.r2d2.top_k: found 500",
    ),
}


@pytest.mark.parametrize("case", CHATS)
def test_what_is_above_it_in_chats(case, tmp_path):
    changes, message = CHATS[case]
    try:
        [line] = model_problems(chats(tmp_path, **changes))
    except StudyError as error:  # what the study alone tells is refused with it
        line = str(error)
    assert re.search(message, line)


def test_a_base_that_somebody_else_trained_has_a_window_of_its_own(tmp_path):
    theirs = make_language_model(tmp_path / "theirs")
    rewrite(theirs, max_position_embeddings=100)
    changes = {
        "defenses": {"theirs": {"kind": "external", "base": str(theirs)}},
        "evaluate": [{"attacks": ["gcg"], "defenses": ["none", "theirs"]}],
    }
    [line] = model_problems(chats(tmp_path / "study", **changes))
    assert "but defenses.theirs.base reads 100 (max_position_embeddings); set max_tokens: 89" in line


# --- in the job that fetches a model --------------------------------------------------------------------------------


def test_the_job_says_the_same_line(tmp_path):
    asked = study(tmp_path, tasks={"tickets": {"max_tokens": 300}}, attacks={"gcg": {"top_k": 9000}})
    text = Demands(asked).of_model(type("W", (), {"family": "mine", "scale": "small"}))
    before = model_problems(asked)
    family = path_family(tmp_path / "my-model")
    with pytest.raises(ModelError) as caught:
        prepare_model("mine", "small", asked.families["mine"], [], tmp_path / "out", 0, demands=unpacked(text))
    assert str(caught.value) == before[0] and not (tmp_path / "out").exists()
    prepare_model("mine", "s", family, [], tmp_path / "out", 0)
    assert unpacked(packed(unpacked(text))) == unpacked(text)
    with pytest.raises(ModelError, match="--demands"):
        unpacked('[{"no": 1}]')


def test_a_hub_model_in_the_cache_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    make_language_model(tmp_path / "hub" / "models--org--tiny" / "snapshots" / "abc")
    rewrite(tmp_path / "hub" / "models--org--tiny" / "snapshots" / "abc", max_position_embeddings=100)
    asked = study(tmp_path, families={"mine": {"scales": {"small": {"path": None, "hub": "org/tiny"}}}})
    [line] = model_problems(asked)
    assert "mine small reads 100" in line
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert model_problems(asked) == []


def test_builtin_families_and_gguf_files(tmp_path):
    row = [{"tasks": ["tickets"], "families": ["pythia"], "scales": ["14m"], "seeds": [0]}]
    families = {"pythia": {"source": "builtin"}}
    asked = study(tmp_path, families=families, grid=row, tasks={"tickets": {"max_tokens": 2_048}})
    [line] = model_problems(asked)
    assert "pythia 14m reads 2,048 (as it was trained); set max_tokens: 2038" in line
    file = write_tiny_gguf(tmp_path / "tiny.gguf")
    asked = study(tmp_path / "g", families={"mine": {"scales": {"small": {"path": None, "gguf": str(file)}}}})
    [line] = model_problems(asked)
    assert "mine small reads 64 (max_position_embeddings); set max_tokens: 54" in line


# --- configurations -------------------------------------------------------------------------------------------------

CONFIGS = [
    ({"max_position_embeddings": 512}, 512),
    ({"n_positions": 1024, "n_ctx": 2048}, 1024),
    ({"n_ctx": 77}, 77),
    ({"max_seq_len": 33}, 33),
    ({"max_sequence_length": 34}, 34),
    ({"seq_length": 35}, 35),
    ({"model_type": "bloom", "seq_length": 2048}, None),
    ({"model_type": "t5", "n_positions": 512}, None),
    ({"model_type": "xlnet", "max_position_embeddings": -1}, None),
    ({"max_position_embeddings": -1}, None),
    ({"max_position_embeddings": "512"}, None),
    ({"max_position_embeddings": True}, None),
    ({"text_config": {"max_position_embeddings": 9}, "max_position_embeddings": 8}, 9),
    ({"max_position_embeddings": 512, "sliding_window": 128}, 512),
    ({"max_position_embeddings": 512, "model_max_length": 8}, 512),
    ({"max_position_embeddings": 512, "rope_scaling": None}, 512),
    ({"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 4.0}}, 2048),
    ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 1024),
    (
        {
            "max_position_embeddings": 512,
            "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512},
        },
        2048,
    ),
    (
        {
            "max_position_embeddings": 2048,
            "rope_scaling": {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512},
        },
        2048,
    ),
    (
        {
            "max_position_embeddings": 4096,
            "rope_scaling": {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 256},
        },
        4096,
    ),
    ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 512),
    ({"max_position_embeddings": 512, "rope_scaling": {"rope_type": "linear", "factor": "big"}}, 512),
    ({"max_position_embeddings": 512, "rope_scaling": "linear"}, 512),
    ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, 512),
    ({"max_position_embeddings": 514, "model_type": "roberta"}, 512),
    ({}, None),
]


@pytest.mark.parametrize(("config", "wanted"), CONFIGS)
def test_windows_of_configurations(config, wanted):
    found = window_of(config)
    assert (found.tokens if found else None) == wanted


@pytest.mark.parametrize(
    "kind", ["gpt2", "opt", "roberta", "camembert", "bert", "gpt_neo", "biogpt", "codegen", "electra"]
)
def test_a_model_reads_its_window_and_not_a_token_more(kind):
    """Positions that are looked up in a table: the library's own forward is the oracle."""
    import architectures

    make = (
        architectures.classifier
        if kind in ("roberta", "camembert", "bert", "electra")
        else architectures.language_model
    )
    model = make(kind)
    limit = window(model)
    assert limit == window_of(json.loads(model.config.to_json_string())).tokens
    ids = torch.tensor([[random.Random(0).randrange(5, 90) for _ in range(limit)]])
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=ids).logits).all()
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.cat([ids, ids[:, :1]], dim=1))


def test_every_configuration_of_transformers_names_its_window_or_has_none():
    """Of causal language models and classifiers as their classes make them: no key that says a window is missed."""
    kinds = {
        type_
        for mapping in (AutoModelForCausalLM, AutoModelForSequenceClassification)
        for type_ in mapping._model_mapping
    }
    missed = []
    for kind, made in CONFIG_MAPPING.items():
        if made not in kinds:
            continue
        try:
            text = made().get_text_config()
        except Exception:
            continue
        said = getattr(text, "max_position_embeddings", None)
        found = window_of(text.to_dict())
        if isinstance(said, int) and said > 0 and found is None and kind not in ("t5", "mt5", "umt5"):
            missed.append(kind)
    assert not missed


def test_vocabularies():
    assert vocabulary_of({"vocab_size": 9}) == 9 == vocabulary_of({"text_config": {"vocab_size": 9}, "vocab_size": 5})
    assert vocabulary_of({"vocab_size": "9"}) is None is vocabulary_of({})


def test_what_is_known_of_texts_besides_the_setting():
    asked = LengthDemand("k", 1000, "x", ((10, "m"),), known=90)
    assert asked.problem("model", Ability(Window(100, "w"))) is None
    assert asked.problem("model", Ability(Window(99, "w")))
    assert asked.problem("model", Ability()) is None
