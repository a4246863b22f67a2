"""PasswordMatch and WordLength: formats, balance, disjoint splits, determinism, clear refusals."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardscale.errors import DataError
from hardscale.settings.tasks import TaskSettings, WordSource
from hardscale.tasks import password_match, word_length
from hardscale.tasks.build import build_task
from hardscale.tasks.check import check_source
from hardscale.tasks.words import divide, draw_words, english_words, letter_words_possible

PM = re.compile(r"System password: ([a-z]+)\nUser password: ([a-z]+)\n---\n")
WL = re.compile(r"Word 1: ([a-z]+)\nWord 2: ([a-z]+)\n---\n")
LETTERS = WordSource(source="letters", min_length=3, max_length=6, n_words=None)


def small(n_train=200, n_validation=50, words=LETTERS, **other):
    return TaskSettings(n_train=n_train, n_validation=n_validation, words=words, **other)


def pairs_of(examples, pattern):
    found = [pattern.fullmatch(example.chunks[1]).groups() for example in examples]
    assert all(len(pair) == 2 for pair in found)
    return found


@pytest.mark.parametrize("words", [LETTERS, WordSource(), WordSource(n_words=500, min_length=4, max_length=9)])
def test_password_match_is_balanced_right_and_disjoint(words):
    task = build_task("password_match", small(words=words), 0, None)
    seen = []
    for examples in (task.train, task.validation):
        pairs = pairs_of(examples, PM)
        assert all((a == b) == (example.label == 1) for (a, b), example in zip(pairs, examples, strict=True))
        assert Counter(example.label for example in examples) == {0: len(examples) // 2, 1: len(examples) // 2}
        assert set(Counter(a for a, _ in pairs).values()) == {2}  # each system password: once right, once wrong
        assert sorted(example.example_id for example in examples) == list(range(len(examples)))
        seen.append({word for pair in pairs for word in pair})
    assert not seen[0] & seen[1]
    assert all(words.min_length <= len(word) <= words.max_length for word in seen[0] | seen[1])


@given(n_train=st.integers(1, 40), n_validation=st.integers(1, 40), seed=st.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_password_match_of_any_size(n_train, n_validation, seed):
    task = build_task("pm", small(n_train, n_validation, kind="password_match"), seed, None)
    for examples, n in ((task.train, n_train), (task.validation, n_validation)):
        assert len(examples) == n
        positive = sum(example.label for example in examples)
        assert abs(2 * positive - n) <= 1


def test_the_wrong_password_is_uniform_over_the_other_words():
    pool = ["a", "b", "c", "d"]
    counts = Counter()
    rng = np.random.default_rng(0)
    for _ in range(3_000):
        counts.update(pair for pair, label in password_match.password_pairs(pool, 4, rng) if label == 0)
    assert set(counts) == {(a, b) for a in pool for b in pool if a != b}
    assert all(abs(count - 1_000) < 150 for count in counts.values())  # standard deviation 26


def test_paper_sizes_fit_the_papers_number_of_words():
    settings_ = TaskSettings(n_train=25_000, n_validation=25_000)
    task = build_task("password_match", settings_, 0, None)
    assert len(task.train) == len(task.validation) == 25_000
    assert task.facts["n_words"] == 25_487


def test_too_few_words_is_a_clear_error_before_and_while_building():
    settings_ = small(1_000, 200, WordSource(n_words=599))
    line = check_source("password_match", settings_, None)
    assert line is not None and "need 600 words" in line and "there are 599" in line and "tasks.password_match" in line
    with pytest.raises(DataError) as info:
        build_task("password_match", settings_, 0, None)
    assert str(info.value) == line
    assert check_source("password_match", small(1_000, 200, WordSource(n_words=600)), None) is None
    assert "there are 26" in check_source(
        "password_match", small(words=WordSource(source="letters", max_length=1)), None
    )
    with pytest.raises(DataError, match="there are 26"):  # web2 has every single letter
        build_task("password_match", small(words=WordSource(max_length=1, n_words=None)), 0, None)
    exactly = build_task("password_match", small(40, 12, WordSource(max_length=1, n_words=None)), 0, None)
    assert len(exactly.train) == 40


@pytest.mark.parametrize("words", [LETTERS, WordSource(), WordSource(n_words=100)])
def test_word_length_is_right_and_no_pair_is_in_both_splits(words):
    task = build_task("word_length", small(words=words), 3, None)
    splits = []
    for examples, n in ((task.train, 200), (task.validation, 50)):
        pairs = pairs_of(examples, WL)
        assert len(pairs) == n
        assert [int(len(a) < len(b)) for a, b in pairs] == [example.label for example in examples]
        splits.append(pairs)
    assert not set(splits[0]) & set(splits[1])
    if words.source == "letters":
        assert not {w for pair in splits[0] for w in pair} & {w for pair in splits[1] for w in pair}


def test_equal_lengths_count_as_first_and_the_balance_is_the_word_lists():
    assert [word_length.label_of(*pair) for pair in (("aa", "bb"), ("aaa", "bb"), ("a", "bb"))] == [0, 0, 1]
    settings_ = TaskSettings()
    task = build_task("word_length", settings_, 0, None)
    lengths = Counter(len(w) for w in english_words(1, 22))
    total = sum(lengths.values())
    equal = sum((count / total) ** 2 for count in lengths.values())
    first = sum(example.label == 0 for example in task.train) / len(task.train)
    assert abs(first - (1 + equal) / 2) < 0.02


def test_word_length_refuses_words_that_can_not_differ():
    with pytest.raises(DataError, match=r"tasks\.word_length: words of at least two lengths"):
        build_task("word_length", small(words=WordSource(min_length=4, max_length=4)), 0, None)
    with pytest.raises(DataError, match="pairs are new to training with 3 words"):
        build_task("word_length", small(500, 50, WordSource(n_words=3)), 1, None)


@pytest.mark.parametrize("task", ["password_match", "word_length"])
def test_the_seed_and_the_name_decide_everything(task):
    def made(seed, name=task):
        built = build_task(name, small(kind=task), seed, None)
        return built.train + built.validation

    assert made(0) == made(0)
    assert made(0) != made(1)
    assert made(0) != made(0, "another_name")


@pytest.mark.parametrize("task", ["password_match", "word_length"])
def test_prompt_parts_can_be_replaced(task):
    built = build_task(task, small(instruction="Equal?\n\n", answer_prompt=" ->"), 0, None)
    chunks = built.train[0].chunks
    assert (chunks[0], chunks[2], chunks[3]) == ("Equal?\n\n", "", " ->")
    assert built.pieces[0] == "Equal?\n\n" and built.pieces[-1] == " ->"
    assert built.train[0].modifiable == 2


def test_a_generated_task_takes_no_source():
    settings_ = TaskSettings(kind="password_match", source="x.csv")
    assert "reads no source" in check_source("t", settings_, None)


@given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 3_000), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_letter_words_are_distinct_and_as_many_as_there_can_be(low, more, needed, seed):
    words = WordSource(source="letters", min_length=low, max_length=low + more, n_words=None)
    made = draw_words(words, needed, seed)
    assert len(made) == len(set(made)) == min(needed, letter_words_possible(words))
    assert all(low <= len(w) <= low + more and w.isascii() and w.islower() for w in made)
    assert made == draw_words(words, needed, seed)


def test_letter_words_spread_over_lengths_and_letters():
    made = draw_words(WordSource(source="letters", min_length=3, max_length=22, n_words=4_000), 1, 0)
    lengths = Counter(map(len, made))
    assert set(lengths.values()) == {200}
    letters = Counter("".join(made))
    assert len(letters) == 26 and max(letters.values()) / min(letters.values()) < 1.2
    assert [len(w) for w in made] != sorted(len(w) for w in made)


def test_english_words_are_lower_case_and_of_the_asked_length():
    words = english_words(3, 6)
    assert words == sorted(set(words)) and len(words) > 25_487
    assert all(w.isascii() and w.isalpha() and w.islower() and 3 <= len(w) <= 6 for w in words)
    chosen = draw_words(WordSource(min_length=3, max_length=6, n_words=100), 1, 5)
    assert len(set(chosen)) == 100 and set(chosen) <= set(words)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 500))
def test_dividing_gives_each_split_what_it_needs(train, validation, spare):
    words = [str(i) for i in range(train + validation + spare)]
    ours, theirs = divide(words, train, validation)
    assert len(ours) >= train and len(theirs) >= validation and sorted(ours + theirs) == sorted(words)
