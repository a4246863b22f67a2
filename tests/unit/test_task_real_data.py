"""The four real tasks on real text (HARDSCALE_DATA): formats, balance, labels that mean what they say."""

import functools
import os
from collections import Counter
from pathlib import Path

import pytest

from hardscale.settings.tasks import TaskSettings
from hardscale.tasks.build import build_task
from hardscale.tasks.check import check_source
from hardscale.tasks.locate import locate
from hardscale.tasks.source import read_columns

ROOT = os.environ.get("HARDSCALE_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not ROOT, reason="set HARDSCALE_DATA to a folder with real text in hub layout"),
]


TEXTS, CONVERSATIONS = ["imdb", "spam"], ["helpful", "harmless"]


@functools.cache
def built(name, max_words=None):
    line = check_source(name, TaskSettings(), Path(ROOT))
    if line:
        pytest.skip(line)
    return build_task(name, TaskSettings(max_words=max_words), 0, Path(ROOT))


@pytest.mark.parametrize("name", TEXTS + CONVERSATIONS)
def test_both_splits_are_there_balanced_and_disjoint(name):
    task = built(name)
    for examples in (task.train, task.validation):
        shares = Counter(example.label for example in examples)
        assert set(shares) == {0, 1}
        # By construction for pairs of conversations, by the sources' own making for texts.
        assert abs(shares[1] / len(examples) - 0.5) < (0.01 if name in CONVERSATIONS else 0.05)
        assert len({example.example_id for example in examples}) == len(examples)
        assert all(example.chunks[0] == task.pieces[0] and example.chunks[-1] == "\n\nAnswer:" for example in examples)
    assert not {e.chunks[1] for e in task.train} & {e.chunks[1] for e in task.validation}


@pytest.mark.parametrize("name", TEXTS + CONVERSATIONS)
def test_same_seed_same_splits(name):
    again = build_task(name, TaskSettings(), 0, Path(ROOT))
    assert (again.train, again.validation) == (built(name).train, built(name).validation)


#: Words that readers would expect on one side: (of class 0, of class 1).
TELLING = {
    "imdb": (("worst", "waste", "awful", "boring"), ("excellent", "wonderful", "perfect", "favorite")),
    "spam": (("enron", "meeting", "attached", "thanks"), ("viagra", "pills", "click", "money")),
}


@pytest.mark.parametrize("name", TEXTS)
def test_labels_mean_what_they_say(name):
    by_label = [[e.chunks[1].lower() for e in built(name).train if e.label == label] for label in (0, 1)]
    for class_index, words in enumerate(TELLING[name]):
        for word in words:
            share = [sum(word in text for text in texts) / len(texts) for texts in by_label]
            assert share[class_index] > 1.5 * share[1 - class_index], (word, share)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_share_their_opening_and_the_chosen_one_is_labeled(name):
    pairs = {}
    place = locate(name, TaskSettings(), Path(ROOT))
    for split in ("train", "validation"):
        for path in getattr(place, split):
            columns = read_columns(path, ("chosen", "rejected"))
            pairs.update(dict.fromkeys(zip(*columns.values(), strict=True), split))
    shared = 0
    for example in built(name).validation:
        content = example.chunks[1].removeprefix("Conversation 1\n---\n").removesuffix("\n---\n")
        first, second = content.split("\n---\nConversation 2\n---\n", 1)
        assert pairs[(first, second) if example.label == 0 else (second, first)] == "validation"
        shared += first.split("\n\nAssistant:")[0] == second.split("\n\nAssistant:")[0]
    assert shared / len(built(name).validation) > 0.9


@pytest.mark.parametrize("name", TEXTS + CONVERSATIONS)
def test_cutting_shortens(name):
    cut = built(name, max_words=40)
    extra = 8 if name in CONVERSATIONS else 0  # the words around the two conversations
    assert all(len(example.chunks[1].split()) <= 40 + extra for example in cut.train)
    assert len(cut.train) > 0.95 * len(built(name).train)
