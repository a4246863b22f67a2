"""Tokenizers of families made here: byte-level BPE, lossless on every string, the same for the same input.

``pieces`` makes every constant piece of a task's template one token and leaves words near single letters, so that a
prompt is short, while spelling tasks stay learnable (merges trained on words hide the letters). ``text`` is plain BPE.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hardscale.errors import ModelError

#: End of text and padding at once.
END_OF_TEXT = "<|endoftext|>"
#: Markers of turns, which are tokens of their own.
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
N_MARKERS = 2
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def pieces_tokenizer(pieces: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer in which every piece is one token wherever it stands; overlapping pieces: the longest wins.

    Merges are learnt from the pieces alone and stop when all are whole, so the vocabulary may be smaller than asked.

    Args:
        pieces: constant strings of the templates; order and repeats do not matter.
        vocab_size: upper limit; all 256 bytes and the end-of-text token are always in.

    Raises:
        ModelError: the limit is too small for the pieces.
    """
    ordered = sorted({piece for piece in pieces if piece}, key=lambda piece: (-len(piece), piece))
    tokenizer = _empty_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    _train(tokenizer, ordered, vocab_size)
    if ordered:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex("|".join(_literal(piece) for piece in ordered)), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    broken = [piece for piece in ordered if len(tokenizer.encode(piece, add_special_tokens=False).ids) > 1]
    if broken:
        unlimited = _empty_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
        _train(unlimited, ordered, _most_tokens(ordered))
        raise ModelError(
            f"tokenizer.vocab_size: found {vocab_size}, too small to make each of {len(ordered)} template pieces "
            f"one token; set it to {unlimited.get_vocab_size()} or more, or use tokenizer.kind: text"
        )
    return _wrap(tokenizer)


def text_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges learnt from texts, words split off as in GPT-2.

    Args:
        texts: training prompts.
        vocab_size: upper limit, all 256 bytes and the end-of-text token included.
    """
    tokenizer = _empty_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    _train(tokenizer, texts, vocab_size)
    return _wrap(tokenizer)


def chat_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer made here with ChatML turns: two markers as special tokens, the end of a turn as its end of text.

    Padding stays the end-of-text token, which no chat holds.
    """
    tokenizer.add_special_tokens({"eos_token": TURN_END, "additional_special_tokens": [TURN_START]})
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _empty_tokenizer(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _train(tokenizer: Tokenizer, texts: Sequence[str], vocab_size: int) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocab_size, _most_tokens(texts)),  # the trainer reserves memory for all of them
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)


def _most_tokens(texts: Sequence[str]) -> int:
    """No text of n bytes has more than n - 1 merges."""
    return 257 + sum(len(text.encode()) for text in texts)


def _literal(piece: str) -> str:
    """A regular expression that matches the piece and nothing else, whatever characters it holds."""
    return "".join(f"\\x{{{ord(character):X}}}" for character in piece)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
