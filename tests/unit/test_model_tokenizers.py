"""Tokenizers made here: whole pieces, near-letter words, lossless, reproducible."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hardscale.errors import ModelError
from hardscale.models.tokenizers import END_OF_TEXT, pieces_tokenizer, text_tokenizer

PIECES = ["Are the passwords equal?\n\n", "System password: ", "\nUser password: ", "\n---\n", "\n\nAnswer:"]
PROMPT = "Are the passwords equal?\n\nSystem password: qwzk\nUser password: fghj\n---\n@&x\n\nAnswer:"
PIECES_TOKENIZER = pieces_tokenizer(PIECES, 512)
TEXT_TOKENIZER = text_tokenizer(["a quick brown fox", "the quick red fox jumps"] * 3, 300)


@pytest.mark.parametrize("piece", PIECES)
def test_every_piece_is_one_token(piece):
    assert len(PIECES_TOKENIZER(piece).input_ids) == 1
    inside = PIECES_TOKENIZER(f"qzj{piece}qzj").input_ids
    assert inside[3:4] == PIECES_TOKENIZER(piece).input_ids and len(inside) == 7


def test_words_stay_letters_and_nothing_is_added():
    ids = PIECES_TOKENIZER(PROMPT).input_ids
    assert len(ids) == 5 + 8 + 3
    assert [len(PIECES_TOKENIZER(letter).input_ids) for letter in "abcxyz"] == [1] * 6


def test_vocabulary_stops_when_the_pieces_are_whole():
    assert len(PIECES_TOKENIZER) == len(pieces_tokenizer(PIECES, 2_000)) < 512


def test_every_byte_is_in_the_alphabet():
    assert sum(len(token) == 1 for token in PIECES_TOKENIZER.get_vocab()) == 256
    assert sum(len(token) == 1 for token in TEXT_TOKENIZER.get_vocab()) == 256


def test_the_longest_of_overlapping_pieces_wins():
    tokenizer = pieces_tokenizer(["ab", "abc", "bcd", "\n", "\n---\n", ".*[a-z]"], 400)
    vocabulary = tokenizer.convert_ids_to_tokens(tokenizer("abcd\n---\n.*[a-z]b").input_ids)
    assert vocabulary == ["abc", "d", "Ċ---Ċ", ".*[a-z]", "b"]


def test_too_small_a_vocabulary_names_the_size_that_does():
    with pytest.raises(ModelError, match=r"vocab_size: found 270, .* set it to (\d+) or more") as caught:
        pieces_tokenizer(PIECES, 270)
    needed = int(str(caught.value).split("set it to ")[1].split()[0])
    assert len(pieces_tokenizer(PIECES, needed)) == needed
    with pytest.raises(ModelError):
        pieces_tokenizer(PIECES, needed - 1)


def test_the_same_in_any_order():
    again = pieces_tokenizer([*reversed(PIECES), PIECES[0], ""], 512)
    assert again.backend_tokenizer.to_str() == PIECES_TOKENIZER.backend_tokenizer.to_str()


def test_an_absurd_limit_costs_nothing():
    assert len(pieces_tokenizer(PIECES, 10**12)) == len(PIECES_TOKENIZER)


def test_no_pieces_is_bytes():
    assert pieces_tokenizer([], 300)("été").input_ids == [
        PIECES_TOKENIZER.get_vocab()[t] for t in ["Ã", "©", "t", "Ã", "©"]
    ]


@pytest.mark.parametrize("tokenizer", [PIECES_TOKENIZER, TEXT_TOKENIZER], ids=["pieces", "text"])
@given(text=st.text() | st.lists(st.sampled_from([*PIECES, "a", "\n", " ", "-"])).map("".join))
@hypothesis_settings(max_examples=150, deadline=None)
def test_lossless(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("tokenizer", [PIECES_TOKENIZER, TEXT_TOKENIZER], ids=["pieces", "text"])
def test_saved_and_reloaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again(PROMPT).input_ids == tokenizer(PROMPT).input_ids
    assert again.eos_token == again.pad_token == END_OF_TEXT and again.padding_side == "right"
    assert again(["a", "abcxyz"], padding=True).attention_mask[0][-1] == 0


def test_text_learns_words():
    assert len(TEXT_TOKENIZER(" quick").input_ids) == 1 and len(TEXT_TOKENIZER) <= 300
