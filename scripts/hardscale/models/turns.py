"""Prompts and answers as tokens of the rendered whole: the one place that says where an answer's tokens begin and end.

A rendered conversation is tokenized as one text. The tokens of a prompt are those that the prompt alone has too; the
answer's are the rest, up to the end of its turn. Where the first characters of an answer join with the end of the
prompt into one token, that token is the answer's: prompt and answer together are always the tokens of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from hardscale.models.prompt_tokens import PromptTokens


def answered(tokens: PromptTokens, prompt: str, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """One prompt with several answers behind it.

    The prompt's tokens are those that it has whatever answer follows, so that what is added to the embeddings of a
    prompt lies under every answer alike.

    Args:
        tokens: of the model.
        prompt: rendered, up to where an answer begins.
        answers: what follows it, the end of the turn included.

    Returns:
        tokens of the prompt, and of each answer.
    """
    ids, *wholes = tokens.encode_all([prompt, *(prompt + answer for answer in answers)])
    n = min([len(ids), *(n_shared(ids, whole) for whole in wholes)])
    return ids[:n], [whole[n:] for whole in wholes]


def spoken(tokens: PromptTokens, whole: str, start: int, stop: int) -> tuple[int, int]:
    """Which tokens of a rendered conversation are one of its answers.

    Args:
        tokens: of the model.
        whole: the conversation, which may go on behind the answer.
        start: where the prompt of the answer ends.
        stop: where the answer's turn ends.

    Returns:
        index of the answer's first token, and one past its last.
    """
    ids, spans = tokens.encode(whole)
    [prompt] = tokens.encode_all([whole[:start]])
    first = n_shared(ids, prompt)
    if first < len(prompt):  # they join; others of the prompt may still stand before the token that both share
        first = next((i for i in range(first, len(ids)) if spans[i][1] > start), len(ids))
    last = next((i for i in range(first, len(ids)) if spans[i][0] >= stop), len(ids))
    return first, last


def end_of_answer(whole: str, start: int, answer: str, end: str) -> int:
    """Where the turn of an answer ends in a rendered conversation.

    Args:
        whole: the conversation.
        start: where the answer begins; a template may strip it, or write something before it.
        answer: its words.
        end: what the template writes behind an answer.

    Returns:
        behind ``end``; behind the words where something else follows them.
    """
    words, mark = answer.strip(), end.strip()
    at = whole.find(words, start)
    behind = at + len(words) if at >= 0 else start
    found = whole.find(mark, behind) if mark else -1
    if found >= 0 and (at < 0 or not whole[behind:found].strip()):
        return found + len(mark)
    return behind if at >= 0 else len(whole)


def tokens_of(spans: Sequence[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """First and one past the last token that holds characters from ``start`` to before ``stop``; both the end if none.

    Args:
        spans: the characters that each token stands for.
        start: of the characters.
        stop: one past them.
    """
    inside = [i for i, (left, right) in enumerate(spans) if max(left, start) < min(right, stop)]
    return (inside[0], inside[-1] + 1) if inside else (len(spans), len(spans))


def n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two sequences begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))
