"""What is outside of what is supported is told for what it is: kinds of model, chat templates, templates that hang."""

import json
import resource
import time

import pytest
from architectures import CAUSAL, CLASSIFIERS
from architectures import config as tiny_config
from chat_kit import CHATML, chat_tokenizer, make_chat_base
from model_kit import make_language_model, path_family
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from chats import describe_chats
from hardscale.artifacts.manifest import read_manifest
from hardscale.errors import ModelError
from hardscale.models.chat import ChatTemplate
from hardscale.models.chat_templates import chosen_template, open_reasoning, reasoning_problem, template_problem
from hardscale.models.check import check_source
from hardscale.models.load import MODEL, new_classifier
from hardscale.models.model_config import kind_problem, writing_problem
from hardscale.models.prepare import prepare_model
from hardscale.models.rendering import RenderingError, render
from hardscale.ops.preflight import model_problems
from hardscale.settings.study import parse_study, read_yaml

# --- kinds of model -------------------------------------------------------------------------------------------------

KINDS = {
    "mamba": "state-space or recurrent",
    "mamba2": "state-space or recurrent",
    "falcon_mamba": "state-space or recurrent",
    "rwkv": "state-space or recurrent",
    "recurrent_gemma": "state-space or recurrent",
    "t5": "encoder-decoder",
    "bart": "encoder-decoder",
    "marian": "encoder-decoder",
    "llava": "besides text",
    "qwen2_vl": "besides text",
    "gemma3": "besides text",
    "whisper": "besides text",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_that_are_not_supported_are_one_true_line_before_and_in_the_job(kind, tmp_path):
    folder = make_language_model(tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": kind}))
    line = check_source("mine", "s", path_family(folder)) or ""
    assert line.startswith(f"families.mine.scales.s: {folder}/config.json: model_type '{kind}' ")
    assert KINDS[kind] in line and "use a decoder of text" in line
    with pytest.raises(ModelError, match=f"model_type '{kind}' .*{KINDS[kind]}"):
        prepare_model("mine", "s", path_family(folder), [], tmp_path / "out", 0)


def test_a_configuration_says_it_whatever_its_kind_is_called():
    assert "encoder-decoder" in (kind_problem({"model_type": "new", "is_encoder_decoder": True}) or "")
    assert "images" in (kind_problem({"model_type": "new", "vision_config": {"depth": 2}}) or "")
    assert "sound" in (kind_problem({"model_type": "new", "audio_config": {"depth": 2}}) or "")
    assert kind_problem({"model_type": "llama", "vision_config": None, "is_encoder_decoder": False}) is None


def test_the_lists_agree_with_transformers():
    """A text decoder or encoder of transformers is refused only where its own mappings or configuration say why."""
    seq2seq, images = set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES), set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    recurrent = {"mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "xlstm"}
    refused = {kind for kind in {*CAUSAL, *CLASSIFIERS} if kind_problem({"model_type": kind})}
    others = {"moshi", "musicgen", "musicgen_melody", "phi4_multimodal", "trocr", "whisper"}
    assert refused <= seq2seq | images | recurrent | others
    assert recurrent <= refused
    for kind in ("gpt_neox", "llama", "qwen2", "qwen3", "mistral", "phi3", "gemma", "gemma2", "gemma3_text", "granite"):
        assert kind not in refused and writing_problem({"model_type": kind}) is None


def test_encoders_are_classifiers_but_do_not_write(tmp_path):
    folder = make_language_model(tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    assert kind_problem({"model_type": "bert"}) is None
    assert writing_problem({"model_type": "bert", "is_decoder": True}) is None
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "distilbert"}))
    [line] = problems_of_chats(tmp_path / "study", folder)
    assert line.startswith("families.toy.scales.20k: model_type 'distilbert' is an encoder")


def problems_of_chats(place, folder):
    """Of a chat study on a model that lies in a folder."""
    values = read_yaml(describe_chats(place))
    values["families"] = {"toy": {"source": "models", "scales": {"20k": {"path": str(folder)}}}}
    return model_problems(parse_study(values, "test"))


@pytest.mark.parametrize("kind", ["granite", "cohere", "distilbert"])
def test_half_of_the_uses_is_enough(kind, tmp_path):
    """Granite is no classifier and DistilBERT writes nothing; each is prepared for what it can do."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    factory = AutoModelForSequenceClassification if kind == "distilbert" else AutoModelForCausalLM
    tokenizer = chat_tokenizer(CHATML)
    factory.from_config(tiny_config(kind, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert check_source("mine", "s", path_family(tmp_path / "model")) is None
    prepare_model("mine", "s", path_family(tmp_path / "model"), [], tmp_path / "out", 0)
    facts = read_manifest(tmp_path / "out")["facts"]
    assert (facts["classifier_parameters"] is None) == (kind != "distilbert")
    assert (facts["generative_parameters"] is None) == (kind == "distilbert")
    if kind != "distilbert":
        with pytest.raises(
            ModelError, match=f"transformers has no ModelForSequenceClassification of model_type '{kind}'"
        ):
            new_classifier(tmp_path / "out", 2, 0)


# --- templates ------------------------------------------------------------------------------------------------------


def test_several_templates_without_a_default_are_named():
    several = {"rag": "x", "tool_use": "y"}
    for templates in (several, [{"name": name, "template": text} for name, text in several.items()]):
        with pytest.raises(
            ModelError, match=r"model: the tokenizer has 2 chat templates \(rag, tool_use\) and none is"
        ) as e:
            chosen_template(templates, "model")
        assert "chat_template.jinja" in str(e.value)
    assert chosen_template({**several, "default": "z"}, "model") == "z"
    assert chosen_template({"only": "z"}, "model") == "z" == chosen_template("z", "model")


@pytest.mark.parametrize("templates", [None, "", {}, [], {"a": None}, 7, [["a", "b"]], {"default": 3}, "x" * 300_000])
def test_what_is_no_template(templates):
    with pytest.raises(ModelError, match=r"model: .*chat template") as caught:
        chosen_template(templates, "model")
    assert str(caught.value).isprintable()


def test_several_templates_in_a_tokenizer(tmp_path):
    tokenizer = chat_tokenizer(CHATML)
    tokenizer.chat_template = {"rag": CHATML, "tool_use": CHATML}
    with pytest.raises(ModelError, match=r"2 chat templates \(rag, tool_use\)"):
        ChatTemplate(tokenizer)
    tokenizer.chat_template = {"rag": "no", "default": CHATML}
    assert ChatTemplate(tokenizer).text == ChatTemplate(chat_tokenizer(CHATML)).text


def test_a_folder_of_a_chat_model_is_looked_at_before_any_job(tmp_path):
    base = make_chat_base(tmp_path / "base") / MODEL
    assert problems_of_chats(tmp_path / "a", base) == []
    template = base / "chat_template.jinja"
    right = template.read_text()
    template.write_text("{% for m in messages %}{{ m.content }}")
    [line] = problems_of_chats(tmp_path / "b", base)
    assert "its chat template is no Jinja template (line 1)" in line
    template.write_bytes(right.encode("utf-16"))
    assert "UTF-16" in (template_problem(base) or "")
    template.unlink()
    [line] = problems_of_chats(tmp_path / "c", base)
    assert "the tokenizer has no chat template" in line
    settings = base / "tokenizer_config.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps(values | {"chat_template": [{"name": "a", "template": right}, {"name": "b"}]}))
    [line] = problems_of_chats(tmp_path / "d", base)
    assert "2 chat templates (a, b)" in line
    settings.write_text(json.dumps(values | {"chat_template": right}))
    assert problems_of_chats(tmp_path / "e", base) == []


@pytest.mark.parametrize("mark", ["<think>", "<think>\n", "<|im_start|>assistant\n<think>\n"])
def test_a_prompt_that_ends_inside_of_reasoning(mark):
    assert open_reasoning(mark) == "<think>"
    assert "opens a reasoning block (<think>) before every reply" in (reasoning_problem(mark, "model") or "")


@pytest.mark.parametrize("prompt", ["", "assistant\n", "<think>\n\n</think>\n\n", "what is <think> ?"])
def test_a_prompt_that_does_not(prompt):
    assert open_reasoning(prompt) is None is reasoning_problem(prompt, "model")


def test_a_chat_model_that_reasons_before_every_reply_is_refused_and_one_that_need_not_is_taken():
    opened = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    assert opened != CHATML
    with pytest.raises(ModelError, match=r"opens a reasoning block \(<think>\) before every reply"):
        ChatTemplate(chat_tokenizer(opened))
    closed = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n\n</think>\n\n")
    with pytest.raises(ModelError, match=r"puts a reasoning block \(<think>\) into its prompt that the conversations"):
        ChatTemplate(chat_tokenizer(closed))
    everywhere = CHATML.replace(
        "m['content']", "('' if m['role'] == 'user' else '<think>\n\n</think>\n\n') + m['content']"
    )
    template = ChatTemplate(chat_tokenizer(everywhere))
    assert template.prompt("hello").endswith("</think>\n\n")


# --- templates that take too much -----------------------------------------------------------------------------------

USER = [{"role": "user", "content": "hello"}]
HUNGRY = {
    "a loop in a loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for i in range(10**9) %}x{% endfor %}",
    "a long text": "{{ 'a' * 10**9 }}",
    "a longer text": "{{ 'a' * 10**12 }}",
    "a long list": "{{ ([0] * 10**9)|length }}",
    "a large number": "{{ 9 ** (9 ** 9) }}",
    "a wide field": "{{ '%999999999d' % 1 }}",
    "a wider field": "{{ '{:>9999999999}'.format(1) }}",
    "a centered text": "{{ 'a'|center(10**10) }}",
    "doubling": "{% set n=namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "replacing": "{% set a = 'a' * 99999 %}{{ a|replace('a', a) }}",
    "joining": "{% set a = 'a' * 99999 %}{{ ([a] * 99999)|join }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "branching": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(50) }}",
    "nesting": "{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}",
    "many outputs": "{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}",
    "much of the content": "{% for i in range(99999) %}{{ messages }}{% endfor %}",
}


@pytest.mark.parametrize("case", HUNGRY)
def test_a_template_that_takes_too_much_is_one_line_within_two_seconds(case):
    def spent():
        return time.process_time() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime

    render("warm", USER, True, {})
    before = spent()
    for _ in range(3):  # asked again, as a job would: refused at once
        with pytest.raises(RenderingError) as caught:
            render(HUNGRY[case], USER, True, {})
    assert spent() - before < 2.0
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_after_one_that_was_ended_others_are_rendered():
    with pytest.raises(RenderingError, match="CPU time"):
        render(HUNGRY["a loop in a loop"] + " ", USER, True, {})
    assert render("{{ messages[0].content }}", USER, True, {}) == "hello"


@pytest.mark.parametrize(
    "template",
    [
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ namespace(__class__=1) }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('no\nway \x1b[31m') }}",
        "{{ unknown.attribute }}",
        "{% for %}",
    ],
)
def test_what_a_template_may_not_do(template):
    with pytest.raises(RenderingError) as caught:
        render(template, USER, True, {})
    assert str(caught.value).isprintable()


def test_a_chat_model_with_such_a_template(tmp_path):
    with pytest.raises(ModelError, match=r"the template refuses turns of user .*CPU time"):
        ChatTemplate(chat_tokenizer(HUNGRY["a loop in a loop"] + "{{ messages }}"))


CONVERSATIONS = [
    [{"role": "user", "content": "hello"}],
    [{"role": "system", "content": "s é \u2028"}, {"role": "user", "content": " a\n\n"}],
    [{"role": r, "content": f"{r} <b> \U0001f600 {i}"} for i, r in enumerate(("user", "assistant") * 3)],
]


@pytest.mark.parametrize("messages", CONVERSATIONS)
@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{{ bos_token }}{% for m in messages %}{{ m | tojson }}{{ m['content'] | trim }}{% endfor %}"
        "{{ add_generation_prompt }}",
        "{% for m in messages %}{% generation %}{% set x = m.content %}{{ x }}{% endgeneration %}{{ x }}{% endfor %}",
        "{% set ns = namespace(a=0) %}{% for m in messages %}{% if loop.last %}{% break %}{% endif %}"
        "{% set ns.a = ns.a + 1 %}{% endfor %}"
        "{{ ns.a }} {{ tools is none }} {{ date_string }} {{ dict(a=1) }} {{ strftime_now('%d')|length }}",
        "  {%- for m in messages -%}\n    {{- m.role }}\n  {%- endfor %}\n{% if true %}\n  x\n{% endif %}\n",
    ],
)
def test_renders_what_transformers_renders(template, messages, reply):
    tokenizer = chat_tokenizer(template)
    wanted = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=reply, date_string="26 Jul 2024"
    )
    found = render(template, messages, reply, {**tokenizer.special_tokens_map, "date_string": "26 Jul 2024"})
    assert found == wanted
