"""Rows of continuous training: which ones a step sees, one prompt under two answers, micro-batches and tensors."""

from collections import Counter

import pytest
import torch
from continuous_kit import TEMPLATE, behaviors, chat_tokenizer, chats
from hypothesis import given
from hypothesis import strategies as st

from hardscale.errors import TrainingError
from hardscale.models.chat import ChatTemplate
from hardscale.settings.defenses import CAdvIPO, CAdvUL
from hardscale.training.continuous.encode import Talks, triples_of
from hardscale.training.continuous.packing import Term, pack_batch, scatter, sequences_of
from hardscale.training.continuous.rows import Conversation, Kind, Mix, Part, Triple, arrange, n_steps

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return chat_tokenizer()


@pytest.fixture(scope="module")
def template(tokenizer):
    return ChatTemplate(tokenizer, None)


# --- mixing ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.floats(0.05, 1.0), st.integers(0, 99))
def test_every_triple_is_seen_once_before_any_is_seen_again(n_triples, n_talks, batch, share, seed):
    mix = Mix(n_triples, n_talks, batch, share, seed)
    picks = [pick for step in range(20) for pick in mix.at(step)]
    assert len(picks) == 20 * batch
    for kind, n in ((Kind.ADVERSARIAL, n_triples), (Kind.UTILITY, n_talks)):
        counts = Counter(pick.index for pick in picks if pick.kind is kind)
        assert set(counts) <= set(range(n))
        assert not counts or max(counts.values()) - min(counts[i] for i in range(n)) <= 1
    n_adversarial = sum(pick.kind is Kind.ADVERSARIAL for pick in picks)
    assert abs(n_adversarial - share * len(picks)) < 1 + 1e-6
    for step in (3, 0, 19):  # any step by itself
        assert Mix(n_triples, n_talks, batch, share, seed).at(step) == picks[step * batch : (step + 1) * batch]


def test_the_share_of_a_step_and_steps_without_adversarial_rows():
    published = Mix(1_200, 20_000, 64, 0.125, 0)
    assert {sum(p.kind is Kind.ADVERSARIAL for p in published.at(step)) for step in range(40)} == {8}
    small = Mix(10, 10, 4, 0.125, 0)
    assert [sum(p.kind is Kind.ADVERSARIAL for p in small.at(step)) for step in range(6)] == [0, 1, 0, 1, 0, 1]
    assert Mix(5, 5, 8, 0.5, 1).at(0) != Mix(5, 5, 8, 0.5, 2).at(0)
    assert all(p.kind is Kind.ADVERSARIAL for p in Mix(3, 0, 4, 1.0, 0).at(7))


def test_nothing_to_draw_from():
    with pytest.raises(TrainingError, match=r"adversarial_share: found 0\.125, but the task has no conversations"):
        Mix(3, 0, 4, 0.125, 0)
    with pytest.raises(TrainingError, match="no behavior to train against"):
        Mix(0, 3, 4, 0.125, 0)


def test_steps_of_the_published_trainings():
    assert n_steps(CAdvIPO(kind="c_advipo"), 1_200) == 360
    assert n_steps(CAdvUL(kind="c_advul"), 1_200) == 750  # 780 in the paper, whose draw has no seed
    assert n_steps(CAdvUL(kind="c_advul", steps=7), 1_200) == 7
    assert n_steps(CAdvUL(kind="c_advul", epochs=0.1), 3) == 1


# --- encoding -------------------------------------------------------------------------------------------------------


def test_one_prompt_lies_under_both_answers(tokenizer, template):
    triples, n_left_out = triples_of(behaviors(), template, tokenizer, 128)
    assert (len(triples), n_left_out) == (10, 0)
    assert [triple.key for triple in triples] == [(row, number) for row in range(5) for number in range(2)]
    first = triples[0]
    assert tokenizer.decode(first.prompt) == "<|user|>\nWrite the word apple.<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(first.away) == "Sure: apple<|end|>"
    assert tokenizer.decode(first.toward) == "Sorry, no.<|end|>"
    assert first.span == (0, len(first.prompt))
    assert triples_of(behaviors()[::-1], template, tokenizer, 128)[0] == triples


def test_what_may_be_perturbed(tokenizer, template):
    user = triples_of(behaviors(), template, tokenizer, 128, "user")[0][0]
    assert tokenizer.decode(user.prompt[slice(*user.span)]) == "Write the word apple."
    suffix = triples_of(behaviors(), template, tokenizer, 128, "suffix", 4)[0][0]
    assert tokenizer.decode(suffix.prompt) == "<|user|>\nWrite the word apple.!!!!<|end|>\n<|assistant|>\n"
    assert tokenizer.decode(suffix.prompt[slice(*suffix.span)]) == "!!!!"


def test_long_answers_are_cut_and_prompts_without_room_left_out(tokenizer, template):
    longest = max(len(t.prompt) for t in triples_of(behaviors(), template, tokenizer, 128)[0])
    cut, n_left_out = triples_of(behaviors(), template, tokenizer, longest)
    assert n_left_out > 0
    assert all(len(t.prompt) + len(t.away) <= longest and t.away and t.toward for t in cut)


def test_conversations(tokenizer, template):
    talks = Talks(chats()[::-1], template, 256)
    assert len(talks) == 9
    assert [talks[i].key for i in range(9)] == list(range(9))
    talk = talks[2]
    assert tokenizer.decode(talk.ids[talk.first_label :]) == "It is 4, of course.<|end|>"
    cut = Talks(chats(), template, 6)[0]
    assert cut.first_label == len(cut.ids) == 6
    assert "generation_prompt" in TEMPLATE


# --- micro-batches --------------------------------------------------------------------------------------------------


def some_rows():
    triples = [Triple((i, 0), tuple(range(1, 3 + i)), (0, 2), (9,), (8, 7)) for i in range(3)]
    talks = [Conversation(i, tuple(range(1, 12 - i)), 1) for i in range(5)]
    return [talks[0], triples[2], talks[1], triples[0], *talks[2:], triples[1]]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("micro", [1, 3, 32])
@pytest.mark.parametrize("as_drawn", [True, False])
def test_every_row_is_in_one_micro_batch(world, micro, as_drawn):
    rows = some_rows()
    ranks = arrange(rows, world, micro, as_drawn)
    assert len({len(parts) for parts in ranks}) == 1 and len(ranks) == world
    found = [row for parts in ranks for part in parts for row in (*part.triples, *part.talks)]
    assert sorted(map(repr, found)) == sorted(map(repr, rows))
    assert all(len(part.triples) + len(part.talks) <= micro for parts in ranks for part in parts)
    if not as_drawn:
        for parts in ranks:
            held = [bool(part.triples) for part in parts]
            assert held == sorted(held, reverse=True)
        shares = [sum(len(part.triples) for part in parts) for parts in ranks]
        assert max(shares) - min(shares) <= 1
    elif world == 1 and micro == 3:
        assert ranks[0][0] == Part((rows[1],), (rows[0], rows[2]))


def test_sheets():
    triple, talk, mute = (
        Triple((0, 0), (5, 6, 7), (0, 3), (9,), (8, 4)),
        Conversation(0, (1, 2, 3, 4), 3),
        Conversation(1, (1, 2), 2),
    )
    sheet = pack_batch(sequences_of(Part((triple,), (talk, mute)), tuple(Term)), 0, CPU)
    assert sheet.input_ids.tolist() == [
        [5, 6, 7, 8],
        [5, 6, 7, 0],
        [1, 2, 3, 0],
    ]  # the last tokens are predicted and not read
    assert sheet.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert list(zip(sheet.rows.tolist(), sheet.columns.tolist(), sheet.wanted.tolist(), strict=True)) == [
        (0, 2, 8),
        (0, 3, 4),
        (1, 2, 9),
        (2, 2, 4),
    ]
    assert sheet.of(Term.AWAY).tolist() == [False, False, True, False]
    assert sheet.owners().tolist() == [0, 0, 0, -1]
    laid = scatter([torch.ones(3, 2)], sheet)
    assert laid.shape == (3, 4, 2)
    assert laid.sum(dim=2).tolist() == [[2, 2, 2, 0], [2, 2, 2, 0], [0, 0, 0, 0]]
    empty = pack_batch([], 0, CPU)
    assert empty.input_ids.tolist() == [[0]] and empty.of(Term.AWAY).tolist() == [] and empty.lengths == []
