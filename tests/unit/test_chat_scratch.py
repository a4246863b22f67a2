"""Chat families made here: their tokenizer and template, and pretraining on the conversations of a chat task."""

import pytest
from chat_kit import MESSAGES, make_chat_task
from train_kit import files_of, in_ranks, make_base

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.schemas import METRICS
from hardscale.artifacts.tables import read_table
from hardscale.attacks.codec import Codec
from hardscale.errors import ModelError
from hardscale.models.chat import ChatTemplate, load_chat_model
from hardscale.models.load import load_tokenizer, read_config
from hardscale.models.prepare import prepare_model
from hardscale.models.tokenizers import END_OF_TEXT, TURN_END, TURN_START
from hardscale.settings.models import FamilySettings
from hardscale.training.options import RunOptions
from hardscale.training.pretrain import Texts, pretrain


def family(kind="text", vocab_size=330):
    return FamilySettings.model_validate(
        {
            "source": "scratch",
            "scales": {"xs": {"n_layers": 1, "width": 16, "n_heads": 2}},
            "embedding_std": 0.5,
            "tokenizer": {"kind": kind, "vocab_size": vocab_size},
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(base, chat task, classification task)."""
    root = tmp_path_factory.mktemp("inputs")
    task = make_chat_task(root / "chat")
    prepare_model("nano", "xs", family(), [task], root / "chat-base", 0)
    return root / "chat-base", task, make_base(root / "other")[1]


def test_a_chat_task_gives_a_family_turns_and_a_template(made):
    tokenizer = load_tokenizer(made[0])
    assert len(tokenizer) <= 330
    assert (tokenizer.eos_token, tokenizer.pad_token) == (TURN_END, END_OF_TEXT)
    config = read_config(made[0] / "model")
    assert (config.eos_token_id, config.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert config.vocab_size == len(tokenizer)
    template = ChatTemplate(tokenizer)
    assert template.text == ("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>")
    assert template.sha256 == ChatTemplate(tokenizer, "").sha256  # there is no default system prompt
    encoded = template.encode("What comes after 3?", "After 3 comes 4.")
    start = tokenizer.convert_tokens_to_ids(TURN_START)
    assert encoded.prompt[0] == start and encoded.answer[-1] == tokenizer.eos_token_id
    assert len(encoded.answer) < len("After 3 comes 4.") / 2  # merges are learnt from the conversations
    assert not {start, tokenizer.eos_token_id} & set(Codec(tokenizer, 400).allowed)
    assert template.rendered_ids("<|im_start|>user\nödd 漢字")[0] == start


def test_pieces_keep_words_near_letters(made, tmp_path):
    prepare_model("nano", "xs", family("pieces"), [made[1], made[2]], tmp_path / "both", 0)
    tokenizer = load_tokenizer(tmp_path / "both")
    assert len(ChatTemplate(tokenizer).answer_ids("Zxqj")) == len("Zxqj") + 1
    assert len(tokenizer("Equal?\n\n")["input_ids"]) == 1  # the other task's template
    other = tmp_path / "other"
    prepare_model("nano", "xs", family("pieces"), [made[2], made[1]], other, 0)
    assert files_of(other) == files_of(tmp_path / "both")


def test_a_chat_task_without_conversations_is_refused(tmp_path):
    task = make_chat_task(tmp_path / "task", utility=None)
    with pytest.raises(ModelError, match=r"no conversations, .* give the task `utility`"):
        prepare_model("nano", "xs", family(), [task], tmp_path / "base", 0)


def test_rows_are_the_conversations_and_the_prompts(made, tmp_path):
    prepare_model("nano", "xs", family("text", 400), [made[1], made[2]], tmp_path / "both", 0)
    tokenizer = load_tokenizer(tmp_path / "both")
    texts = Texts([made[1], made[2]], tokenizer, Codec(tokenizer, 400), 40, 0)
    n_prompts = 30
    assert len(texts) > n_prompts
    rows = texts.rows(0, [0, n_prompts, len(texts) - 1])
    assert [row.key for row in rows] == [0, n_prompts, len(texts) - 1]
    assert tokenizer.decode(rows[0].ids).startswith("Equal?")
    shown = tokenizer.decode(rows[1].ids)
    assert shown.startswith("<|im_start|>user\nWhat comes after ") and "Write the" not in shown
    assert all(len(row.ids) <= 40 for row in rows)
    known = {f"<|im_start|>user\n{chat[0]['content']}" for chat in MESSAGES}
    assert shown.split("<|im_end|>")[0] in known


def learn(group, spec, base, tasks, state, out, options):
    pretrain(spec, base, tasks, state, out, group, options)


def test_pretraining_on_conversations(made, tmp_path):
    settings = {"steps": 25, "batch_size": 8, "warmup_steps": 1, "max_tokens": 48, "learning_rate": 2e-2}
    spec = {"family": "nano", "scale": "xs", "seed": 2, "ranks": 1, "settings": settings}
    inputs = (made[0], [made[1]])
    in_ranks(learn, spec, *inputs, tmp_path / "s1", tmp_path / "whole", RunOptions())
    eager = RunOptions(save_seconds=0.0)
    in_ranks(
        learn, spec, *inputs, tmp_path / "s2", tmp_path / "broken", eager, fault="kill:pretrain:step=4", codes=True
    )
    in_ranks(learn, spec, *inputs, tmp_path / "s2", tmp_path / "broken", eager)
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "broken")
    losses = read_table(tmp_path / "whole" / "metrics.parquet", METRICS).column("loss").to_pylist()
    assert losses[-1] < 0.6 * losses[0]
    assert open_artifact(tmp_path / "whole", "base_model")["facts"]["has_weights"]
    model, tokenizer = load_chat_model(tmp_path / "whole")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
