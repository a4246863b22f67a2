"""One template, every prompt: texts and spans on templates of several kinds, and what is refused."""

import pytest
import torch
from chat_kit import (
    CHATML,
    FORGETFUL,
    INST,
    NO_GENERATION_PROMPT,
    PLAIN_CHATML,
    SHOUTING,
    TRIMMING,
    chat_tokenizer,
    make_chat_base,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from train_kit import make_base

from hardscale.artifacts.publish import publishing
from hardscale.attacks.codec import Codec
from hardscale.errors import ArtifactError, ModelError
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.models.load import load_tokenizer, new_classifier, save_model

REQUEST = "Write the word apple."
KINDS = {
    "chatml": (CHATML, False),
    "chatml, tokenizer's BOS": (CHATML, True),
    "inst, template's BOS": (INST, False),
    "inst, both BOS": (INST, True),
    "trimming": (TRIMMING, False),
}
TOKENIZERS = {name: chat_tokenizer(*kind) for name, kind in KINDS.items()}


def theirs(tokenizer, messages, **more):
    """Tokens as the library makes them of a conversation."""
    turns = [{"role": role, "content": content} for role, content in messages]
    return tokenizer.apply_chat_template(turns, return_dict=False, **more)


def expected(name, messages, **more):
    """Theirs; where the tokenizer alone writes a BOS, with it."""
    tokenizer = TOKENIZERS[name]
    lacking = [tokenizer.bos_token_id] if name == "chatml, tokenizer's BOS" else []
    return lacking + theirs(tokenizer, messages, **more)


@pytest.mark.parametrize("name", KINDS)
def test_prompts_are_the_library_s_own_tokens(name):
    template = ChatTemplate(TOKENIZERS[name])
    wanted = expected(name, [("user", REQUEST)], add_generation_prompt=True)
    assert template.prompt_ids(REQUEST) == wanted
    assert list(template.encode(REQUEST, "Sure").prompt) == wanted
    assert template.rendered_ids(template.prompt(REQUEST)) == wanted


@pytest.mark.parametrize("position", ["suffix", "prefix"])
@pytest.mark.parametrize("name", KINDS)
def test_the_codec_of_attacks_reads_the_same_tokens(name, position):
    template = ChatTemplate(TOKENIZERS[name])
    codec = Codec(TOKENIZERS[name], 500, closing=False)
    before, after = template.around(REQUEST, position)
    attacked = "@&@&" + REQUEST if position == "prefix" else REQUEST + "@&@&"
    [ids] = codec.encode_prompts([before + "@&@&" + after])
    assert ids == expected(name, [("user", attacked)], add_generation_prompt=True) == template.prompt_ids(attacked)
    assert codec.layout(before, codec.encode_alone(["@&@&"])[0], after) is not None


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: "<" not in text and text.strip() == text
)


@settings(max_examples=40, deadline=None)
@given(request=words, position=st.sampled_from(["suffix", "prefix"]), name=st.sampled_from(list(KINDS)))
def test_an_empty_attack_changes_nothing(request, position, name):
    template = ChatTemplate(TOKENIZERS[name])
    before, after = template.around(request, position)
    [ids] = Codec(TOKENIZERS[name], 500, closing=False).encode_prompts([before + after])
    assert ids == expected(name, [("user", request)], add_generation_prompt=True)
    assert before + after == template.prompt(request)


@pytest.mark.parametrize("name", KINDS)
def test_spans(name):
    tokenizer, template = TOKENIZERS[name], ChatTemplate(TOKENIZERS[name])
    encoded = template.encode(REQUEST, "Sure, here")
    start, stop = encoded.user
    assert tokenizer.decode(encoded.prompt[start:stop]).strip() == REQUEST
    assert tokenizer.decode(encoded.answer) == (
        " Sure, here <|im_end|>" if name.startswith("inst") else "Sure, here<|im_end|>"
    )
    assert encoded.answer[-1] == tokenizer.eos_token_id
    both = [("user", REQUEST), ("assistant", "Sure, here")]
    whole = expected(name, both)
    assert list(encoded.prompt + encoded.answer) == whole[: len(encoded.prompt) + len(encoded.answer)]
    other = template.encode(REQUEST, "Sorry, I can't do that.")
    assert (other.prompt, other.user) == (encoded.prompt, encoded.user)
    frame = template.request(REQUEST)
    assert (frame.text, frame.before + frame.text + frame.after) == (REQUEST, template.prompt(REQUEST))
    assert template.opening("Sure") == (" Sure" if name.startswith("inst") else "Sure")


def test_an_empty_request_has_an_empty_span():
    encoded = ChatTemplate(chat_tokenizer()).encode("", "Sure")
    assert encoded.user[0] == encoded.user[1] <= len(encoded.prompt)


def test_the_record_of_the_template():
    template = ChatTemplate(chat_tokenizer())
    assert template.text == (
        "<|im_start|>system\nYou are kind.<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n"
        "<|im_start|>assistant\n{answer}<|im_end|>"
    )
    assert (
        ChatTemplate(chat_tokenizer()).sha256 == template.sha256 != ChatTemplate(chat_tokenizer(), "Be brief.").sha256
    )


def test_system_prompts():
    assert "system\nBe brief.<|im_end|>" in ChatTemplate(chat_tokenizer(), "Be brief.").text
    assert ChatTemplate(chat_tokenizer(), "").text.startswith("<|im_start|>system\n<|im_end|>")  # in place of a default
    assert ChatTemplate(chat_tokenizer(PLAIN_CHATML), "").text.startswith("<|im_start|>user")
    assert ChatTemplate(chat_tokenizer(INST), "").text.startswith("<s>[INST] {prompt} [/INST]")
    folding = PLAIN_CHATML.replace("messages %}", "messages if m['role'] != 'system' %}")
    assert ChatTemplate(chat_tokenizer(folding), "").text.startswith("<|im_start|>user")
    with pytest.raises(ModelError, match="changes the system prompt; set system_prompt: null"):
        ChatTemplate(chat_tokenizer(folding), "Be brief.")
    with pytest.raises(ModelError, match=r"refuses turns of system, user \(no system turns\)"):
        ChatTemplate(chat_tokenizer(INST), "Be brief.")


def test_a_date_in_the_template_is_a_fixed_one():
    template = "{{ '<|im_start|>system\nToday is ' + strftime_now('%d %B %Y') + '<|im_end|>\n' }}" + PLAIN_CHATML
    assert "Today is 26 Jul 2024<|im_end|>" in ChatTemplate(chat_tokenizer(template)).text


TALK = [("user", "Hello."), ("assistant", "Good day."), ("user", "And now?"), ("assistant", "Good night.")]


@pytest.mark.parametrize("name", KINDS)
def test_labels_follow_the_last_reply_that_begins_in_time(name):
    tokenizer, template = TOKENIZERS[name], ChatTemplate(TOKENIZERS[name])
    ids, first = template.conversation(TALK, 500)
    assert ids == expected(name, TALK)
    assert tokenizer.decode(ids[first:]).strip().startswith("Good night.")
    second = len(expected(name, TALK[:1], add_generation_prompt=True))
    for n in range(second - 1, len(ids) + 1):
        cut, at = template.conversation(TALK, n)
        assert cut == ids[:n]
        assert at == (first if n >= first else second if n >= second else n)


def test_a_conversation_may_bring_its_own_system_turn():
    ids, _ = ChatTemplate(chat_tokenizer(), "Be brief.").conversation([("system", "Be long."), *TALK], 500)
    assert ids == theirs(chat_tokenizer(), [("system", "Be long."), *TALK])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        (NO_GENERATION_PROMPT, "no generation prompt"),
        (SHOUTING, "drops or changes the user's words"),
        (FORGETFUL, "drops or changes the user's words"),
        (SHOUTING.replace("upper", "upper if m['role'] == 'assistant' else m['content']"), "changes the answer"),
        ("{{ raise_exception('no talking') }}", r"refuses turns of user \(no talking\)"),
    ],
)
def test_templates_that_can_not_be_used(template, message):
    with pytest.raises(ModelError, match=message) as caught:
        ChatTemplate(chat_tokenizer(template))
    assert "\n" not in str(caught.value)


def test_a_request_that_the_template_strips_is_refused_but_attack_texts_stay_as_they_are():
    template = ChatTemplate(chat_tokenizer(TRIMMING))
    for use in (template.request, template.around, lambda text: template.encode(text, "Sure")):
        with pytest.raises(ModelError, match="changes a request of 22 characters") as caught:
            use(REQUEST + " ")
        assert "apple" not in str(caught.value)
    assert template.prompt(REQUEST + " ").count(REQUEST + " <|im_end|>") == 1


def test_a_tokenizer_without_padding():
    tokenizer = chat_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ModelError, match="no padding token"):
        ChatTemplate(tokenizer)


def test_loading_a_chat_model(tmp_path):
    model, tokenizer = load_chat_model(make_chat_base(tmp_path / "base"))
    assert not model.training
    ids = torch.tensor([ChatTemplate(tokenizer).prompt_ids(REQUEST)])
    assert model(input_ids=ids).logits.shape == (1, ids.shape[1], len(tokenizer) + 3)
    assert load_chat_model(tmp_path / "base", torch.bfloat16)[0].dtype == torch.bfloat16


def test_what_is_no_chat_model(tmp_path):
    base, task = make_base(tmp_path)
    with pytest.raises(ModelError, match="no weights in it"):
        load_chat_model(base)
    with pytest.raises(ArtifactError, match="'task' artifact"):
        load_chat_model(task)
    with publishing(tmp_path / "classifier", "model", {}) as draft:
        save_model(new_classifier(base, 2, 0), load_tokenizer(base), draft.path / "model")
    with pytest.raises(ModelError, match="found a classifier, expected a language model"):
        load_chat_model(tmp_path / "classifier")
