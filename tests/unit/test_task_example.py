"""Examples, templates and cutting: hostile text passes through unchanged."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardscale.settings.tasks import CONSTRUCTED, PREFERENCE_TASKS, TEXT_TASKS
from hardscale.tasks.copies import split_off
from hardscale.tasks.example import POSITIONS, Example
from hardscale.tasks.splits import cut_to_words, shuffled
from hardscale.tasks.templates import TEMPLATES as PUBLISHED
from hardscale.tasks.templates import constructed_tasks, described_template

TEMPLATES = {**constructed_tasks(), **PUBLISHED}
HOSTILE = [
    "{0}",
    "%s",
    "\x00\x1b[31m",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "\"'`$(x)",
    "\r\n\u2028",
    "𝔘́‮",
    "",
]
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE)


@given(texts, texts, texts, st.sampled_from(sorted(POSITIONS)))
def test_insertion_keeps_every_other_character(before, chunk, attack, position):
    example = Example(0, (before, chunk, "\n\nAnswer:"), 1, 0)
    left, right = example.around(position)
    assert left + right == example.text
    assert example.with_text_inserted(attack, position) == left + attack + right
    place = len(left) - len(before)
    assert place == {"suffix": len(chunk), "infix90": int(len(chunk) * 0.9), "prefix": 0}[position]
    assert example.around(position, random.Random(0)) == (left, right)


def test_a_range_of_places_is_drawn_uniformly_with_both_ends(monkeypatch):
    monkeypatch.setitem(POSITIONS, "infix90", (0.5, 1.0))
    example = Example(0, ("a", "bcde", "f"), 1, 0)
    rng = random.Random(0)
    places = {len(example.around("infix90", rng)[0]) - 1 for _ in range(100)}
    assert places == {2, 3, 4}
    assert example.around("infix90") == ("abc", "def")


def test_content_formats_are_the_papers():
    pair = ("cat", "{0}")
    assert TEMPLATES["password_match"].content(pair) == "System password: cat\nUser password: {0}\n---\n"
    assert TEMPLATES["word_length"].content(pair) == "Word 1: cat\nWord 2: {0}\n---\n"
    for task in PREFERENCE_TASKS:
        expected = "Conversation 1\n---\ncat\n---\nConversation 2\n---\n{0}\n---\n"
        assert TEMPLATES[task].content(pair) == expected
    assert TEMPLATES["imdb"].content(("x",)) == "x"


def test_labels_are_the_papers_in_class_order():
    assert {task: template.labels for task, template in TEMPLATES.items()} == {
        "password_match": (" DENIED", " GRANTED"),
        "word_length": (" FIRST", " SECOND"),
        "imdb": (" NEGATIVE", " POSITIVE"),
        "spam": (" HAM", " SPAM"),
        "helpful": (" FIRST", " SECOND"),
        "harmless": (" FIRST", " SECOND"),
    }
    assert described_template(["a", "b", "c"]).labels == (" a", " b", " c")
    assert described_template(["a", "b", "c"]).instruction.endswith(": a, b or c.\n\n")


@pytest.mark.parametrize("task", sorted(TEMPLATES))
def test_chunks_have_one_modifiable_chunk_before_the_answer_prompt(task):
    template = TEMPLATES[task]
    values = ("x",) * (len(template.constants) - 1)
    chunks = template.chunks(values, None, "\n\nAnswer:")
    assert len(chunks) == len(template.chunk_kinds)
    assert [kind != "immutable" for kind in template.chunk_kinds].index(True) == template.modifiable == len(chunks) - 2
    assert template.chunk_kinds.count("immutable") == len(chunks) - 1
    assert chunks[0] == template.instruction and chunks[0].endswith("\n\n") and chunks[-1] == "\n\nAnswer:"
    assert (chunks[template.modifiable] == "") == (task in CONSTRUCTED)
    assert template.chunks(values, "Mine: ", "?")[0] == "Mine: "
    if task in TEXT_TASKS:
        assert template.pieces("Mine: ", "?") == ("Mine: ", "?")


def test_pieces_are_every_constant_once_and_never_empty():
    template = TEMPLATES["password_match"]
    expected = ("System password: ", "\nUser password: ", "\n---\n", "\n\nAnswer:")
    assert template.pieces("", "\n\nAnswer:") == expected
    assert template.pieces(None, "\n\nAnswer:") == (template.instruction, *expected)
    prompt = "".join(template.chunks(("a", "b"), None, "\n\nAnswer:"))
    for piece in template.pieces(None, "\n\nAnswer:"):
        assert piece in prompt
        prompt = prompt.replace(piece, "", 1)
    assert prompt == "ab"


@given(texts, st.integers(1, 5))
def test_cutting_keeps_whole_words(text, n):
    first, last = cut_to_words(text, n), cut_to_words(text, n, keep="last")
    assert text.startswith(first) and text.endswith(last)
    if len(text.split()) > n:
        # str.split and \s agree on what a space is.
        assert first.split() == text.split()[:n] and last.split() == text.split()[-n:]
    else:
        assert first == last == text
    assert cut_to_words(text, None) == text


rows = st.lists(st.tuples(texts, st.integers(0, 2)), min_size=1, max_size=40)


def sides(items, fraction):
    """Contents of both parts."""
    train, validation = split_off(items, fraction, lambda one: (one[0],), lambda one: one[1])
    assert sorted(train + validation) == sorted(items)
    return {text for text, _ in train}, {text for text, _ in validation}


@given(rows, st.floats(0.01, 0.99), st.randoms())
def test_the_split_depends_on_contents_alone_has_its_exact_share_and_keeps_copies_together(items, fraction, random):
    train, validation = sides(items, fraction)
    n = len({text for text, _ in items})
    assert not train & validation and len(train) + len(validation) == n
    assert len(validation) == min(max(math.floor(fraction * n + 0.5), 1), n - 1)
    assert sides(random.sample(items, len(items)), fraction) == (train, validation)


@given(st.lists(texts, unique=True, min_size=6, max_size=60), st.floats(0.05, 0.95))
def test_classes_keep_their_share_to_one_row(contents, fraction):
    items = [(text, 0 if i % 3 else 1) for i, text in enumerate(contents)]
    _, validation = sides(items, fraction)
    for label in (0, 1):
        mine = [text for text, one in items if one == label]
        assert abs(len(validation & set(mine)) - fraction * len(mine)) < 1 + 1e-9 or len(validation) in (
            1,
            len(items) - 1,
        )


def test_half_of_24_rows_is_12_and_half_of_each_class():
    items = [(f"text {i}", i % 3 == 0) for i in range(24)]
    train, validation = split_off(items, 0.5, lambda one: (one[0],), lambda one: int(one[1]))
    assert len(train) == len(validation) == 12 and sum(label for _, label in train) == 4


def test_shuffling_is_a_seeded_permutation():
    items = list(range(50))
    assert shuffled(items, 50, 1) == shuffled(items, 50, 1) != shuffled(items, 50, 2)
    assert sorted(shuffled(items, 50, 1)) == items
    assert shuffled(items, 10, 1) == shuffled(items, 50, 1)[:10]
