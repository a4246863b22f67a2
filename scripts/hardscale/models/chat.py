"""Chat models: one rendered template from which every prompt, answer and token span is made.

Everything comes from the tokenizer's own template (appendix of arXiv 2405.15589 on prompts): a request stands between
a head and a tail that are found once by rendering sentinels, so that no model needs code of its own. Prompt and answer
are tokens of the rendered whole (:mod:`hardscale.models.turns`). What a template writes between its generation prompt
and an answer (Qwen3's empty ``<think>`` block) belongs to the prompt: targets, answers and replies all follow it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hardscale.artifacts.manifest import open_artifact, read_manifest
from hardscale.errors import ModelError
from hardscale.models.chat_templates import lost_reasoning_problem, reasoning_problem
from hardscale.models.folders import weight_files
from hardscale.models.load import MODEL, read_config, read_language_model
from hardscale.models.prompt_tokens import PromptTokens
from hardscale.models.rendering import Message, RenderingError, rendered
from hardscale.models.request import Request
from hardscale.models.system_turn import system_turn
from hardscale.models.turn_end import first_end, markers
from hardscale.models.turns import answered, end_of_answer, spoken, tokens_of

#: Words that no template holds; what lies around them is the template. Case, spaces and markup show what it changes.
_USER = "Sentinel  <of> the\n\n user's é words"
_ANSWER = "Sentinel  <of> the\n\n reply's é words"


@dataclass(frozen=True)
class Encoded:
    """A tokenized request and answer.

    Attributes:
        prompt: tokens up to where those of the answer begin, the tokenizer's leading special tokens included.
        answer: tokens of the answer and of the end of its turn.
        user: first and one past the last index in ``prompt`` of the tokens that hold the user's words.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    user: tuple[int, int]


class ChatTemplate:
    """The chat template of a tokenizer with one system prompt.

    A tokenizer that begins every text with special tokens (BOS) does so here too, once: a template that writes them
    itself is taken without them where encoding a rendered text in the ordinary way then gives the template's own
    tokens. Where it would not (the tokenizer puts a space before the first words alone), texts spell them.

    Args:
        tokenizer: a fast tokenizer with a chat template and a padding token.
        system_prompt: None for the template's own default, ``""`` for none.

    Attributes:
        text: the template rendered with ``{prompt}`` and ``{answer}``, as a record of what the model is asked.
        sha256: of ``text``.
        end_of_turn: text that ends an answer, up to the first marker that the template writes behind it; where it
            writes nothing there, the tokenizer's end token stands for it in rows of training.

    Raises:
        ModelError: no template, no beginning of a reply in it, no padding token, a slow tokenizer, or a template that
            drops or changes what it is given.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, system_prompt: str | None = None) -> None:
        self._name = tokenizer.name_or_path or type(tokenizer).__name__
        if not tokenizer.is_fast:
            raise self._bad("the tokenizer is slow", "save a tokenizer.json beside the model")
        if tokenizer.pad_token_id is None:
            raise self._bad("the tokenizer has no padding token", "set pad_token, to eos_token if there is no better")
        self._tokenizer = tokenizer
        self._tokens = PromptTokens(tokenizer)
        self._system = self._system_message(system_prompt)
        self._dropped = self._begun = ""
        self._dropped = self._tokens.droppable(self._render([("user", _USER)], reply=True))
        self._head, self._tail = self._around_user()
        self._lead, self._end = self._around_answer()
        self.end_of_turn = self._end or str(tokenizer.eos_token or "")
        self.text = f"{self._head}{{prompt}}{self._tail}{self._lead}{{answer}}{self.end_of_turn}"
        self.sha256 = hashlib.sha256(self.text.encode()).hexdigest()

    # --- texts ------------------------------------------------------------------------------------------------------

    def around(self, request: str, position: Literal["suffix", "prefix"] = "suffix") -> tuple[str, str]:
        """The prompt before and after the place of an attack text beside the user's words.

        Raises:
            ModelError: the template changes this request.
        """
        frame = self.request(request)
        if position == "suffix":
            return frame.before + frame.text, frame.after
        return frame.before, frame.text + frame.after

    def request(self, request: str) -> Request:
        """A request apart from the template around it.

        Raises:
            ModelError: the template changes this request.
        """
        if self._render([("user", request)], reply=True) != self._head + request + self._tail:
            raise self._bad(
                f"the template changes a request of {len(request)} characters (spaces at its ends?)",
                "strip the request, or use another model",
            )
        return Request(self._head, request, self._tail)

    def prompt(self, request: str) -> str:
        """The whole prompt of the user's words, which stand in it as they are, up to where the reply begins."""
        return self._head + request + self._tail

    def opening(self, text: str) -> str:
        """The beginning of an answer as it goes on after a prompt: with the space that a template puts before answers.

        Where a template strips answers, white space that the text begins with is left out.
        """
        return self._lead + (text if self._keeps(text) else text.lstrip())

    def written(self, answer: str) -> str:
        """A whole answer and the end of its turn as the template writes them after a prompt, which may strip it."""
        forms = (answer, answer.strip("\n"), answer.strip(), answer.lstrip("\n"), answer.lstrip(), answer.rstrip())
        rest = self._after_prompt(answer)
        kept = next((form for form in forms if rest.startswith(self._lead + form + self._end)), answer)
        return self._lead + kept + self.end_of_turn

    def _keeps(self, text: str) -> bool:
        return text[:1] == text[:1].strip() or self._after_prompt(text).startswith(self._lead + text.rstrip())

    def _after_prompt(self, answer: str) -> str:
        """What the template writes after a prompt where this answer follows."""
        return self._render([("user", _USER), ("assistant", answer)]).removeprefix(self.prompt(_USER))

    # --- tokens -----------------------------------------------------------------------------------------------------

    def prompt_ids(self, request: str) -> list[int]:
        """Tokens of :meth:`prompt`: of all of the user's words, an attack text among them included."""
        return self.rendered_ids(self.prompt(request))

    def rendered_ids(self, rendered: str) -> list[int]:
        """Tokens of a prompt that is rendered already, such as ``before + attack text + after``."""
        ids, _ = self._tokens.encode(rendered)
        return ids

    def encode(self, request: str, answer: str) -> Encoded:
        """Tokens of a request and of an answer to it; together they are those of the rendered whole.

        Raises:
            ModelError: the template changes this request.
        """
        return self.encode_answers(request, [answer])[0]

    def encode_answers(self, request: str, answers: Sequence[str]) -> list[Encoded]:
        """Tokens of a request and of several answers to it, all behind the same tokens of the prompt.

        Raises:
            ModelError: the template changes this request.
        """
        frame, prompt = self.request(request), self.prompt(request)
        ids, wanted = self.answered(prompt, answers)
        _, spans = self._tokens.encode(prompt)
        user = tokens_of(spans[: len(ids)], len(frame.before), len(frame.before) + len(frame.text))
        return [Encoded(tuple(ids), tuple(answer), user) for answer in wanted]

    def answered(self, rendered: str, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Tokens of a rendered prompt and of answers with the end of their turn, see :func:`turns.answered`."""
        return answered(self._tokens, rendered, [self.written(answer) for answer in answers])

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of an answer and of the end of its turn, as they follow a prompt."""
        return self.answered(self.prompt(_USER), [answer])[1][0]

    def conversation(self, messages: Sequence[Message], max_tokens: int) -> tuple[list[int], int]:
        """The first ``max_tokens`` tokens of a conversation and where its last answer among them begins.

        That is an answer whose begin is wholly among those tokens (data section); without one the second value is the
        number of tokens.

        Args:
            messages: (role, content) pairs; the system prompt is put first unless they bring their own.
            max_tokens: longer conversations are cut.

        Raises:
            ModelError: the template refuses the conversation, or writes it otherwise than turn by turn.
        """
        ids, first, _ = self._last_answer(messages, max_tokens)
        return ids, first

    def labeled(self, messages: Sequence[Message], max_tokens: int) -> tuple[list[int], int]:
        """As :meth:`conversation`, up to the end of the last answer's turn: what follows the second value is learned.

        A line break that a template writes behind the end of a turn is not of the answer, nor is another turn.
        """
        ids, first, stop = self._last_answer(messages, max_tokens)
        return ids[:stop], first

    def _last_answer(self, messages: Sequence[Message], max_tokens: int) -> tuple[list[int], int, int]:
        whole = self._render(messages)
        ids = self.rendered_ids(whole)[:max_tokens]
        for i in reversed([i for i, (role, _) in enumerate(messages) if role == "assistant"]):
            start = self._start_of_answer(whole, messages[:i])
            stop = end_of_answer(whole, start, messages[i][1], self.end_of_turn)
            first, last = spoken(self._tokens, whole, start, stop)
            if first <= len(ids):
                return ids, first, last
        return ids, len(ids), len(ids)

    def _start_of_answer(self, whole: str, before: Sequence[Message]) -> int:
        """Where the answer to the first messages of a rendered conversation begins.

        Templates may write in a last turn alone what stands between a generation prompt and an answer.
        """
        so_far = self._render(before, reply=True)
        for prompt in (so_far, so_far.removesuffix(self._begun)):
            if whole.startswith(prompt):
                return len(prompt)
        raise self._bad("the template rewrites earlier turns", "use another model for conversations")

    # --- the template -----------------------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Message], reply: bool = False) -> str:
        """Rendered text, without the special tokens that the tokenizer adds by itself where that changes none.

        With ``reply`` it goes on to where an answer begins.
        """
        own = messages and messages[0][0] == "system"
        turns = list(messages) if own else [*self._system, *messages]
        text = self._rendered(turns, reply)
        return text.removeprefix(self._dropped) + (self._begun if reply else "")

    def _rendered(self, turns: Sequence[Message], reply: bool) -> str:
        try:
            return rendered(self._tokenizer, turns, reply)
        except RenderingError as error:
            roles = ", ".join(role for role, _ in turns[:4]) + (", ..." if len(turns) > 4 else "")
            reason = " ".join(str(error).split())[:120]
            raise self._bad(f"the template refuses turns of {roles} ({reason})", "use a chat model's own") from error

    def _system_message(self, prompt: str | None) -> list[Message]:
        turns = system_turn(lambda turns: self._rendered(turns, reply=True), prompt, _USER)
        if turns is None:
            raise self._bad("the template drops or changes the system prompt", "set system_prompt: null")
        return turns

    def _around_user(self) -> tuple[str, str]:
        rendered = self._render([("user", _USER)], reply=True)
        if rendered.count(_USER) != 1:
            raise self._bad("the template drops or changes the user's words", "use another model")
        head, _, tail = rendered.partition(_USER)
        if problem := reasoning_problem(tail, self._name):
            raise ModelError(problem)
        return head, tail

    def _around_answer(self) -> tuple[str, str]:
        """Text between the prompt and the answer, and the end of the answer's turn.

        A template may write white space before an answer which a prompt that is to be gone on with lacks. More than
        white space is the beginning of every answer, which the prompt gets; where asking for a reply adds nothing to
        the user's turn, the template has no generation prompt.
        """
        rendered = self._render([("user", _USER), ("assistant", _ANSWER)])
        prompt = self.prompt(_USER)
        if rendered.count(_ANSWER) != 1:
            raise self._bad("the template drops or changes the answer", "use another model")
        asks = self._render([("user", _USER)]) != prompt
        lead, _, behind = rendered.removeprefix(prompt).partition(_ANSWER)
        if not rendered.startswith(prompt) or (lead.strip() and not asks):
            if problem := lost_reasoning_problem(self._tail, self._name):
                raise ModelError(problem)
            raise self._bad(
                "the template has no generation prompt: its prompt does not end where an answer begins",
                "fix chat_template.jinja (add_generation_prompt)",
            )
        if lead.strip():
            self._begun = lead.rstrip(" ")
            self._tail += self._begun
            lead = lead.removeprefix(self._begun)
        return lead, first_end(behind, list(markers(self._tokenizer)))

    def _bad(self, what: str, remedy: str) -> ModelError:
        return ModelError(f"{self._name}: {what}; {remedy}")


def load_chat_model(
    folder: Path, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The language model of a finished ``model`` or ``base_model`` artifact, in evaluation mode on the CPU.

    Raises:
        ArtifactError: the artifact is not finished or of another kind.
        ModelError: it has no weights, is a classifier, or its files do not make a complete language model.
    """
    kind = read_manifest(folder)["kind"]
    open_artifact(folder, "base_model" if kind == "base_model" else "model")
    inner = Path(folder) / MODEL
    if not inner.is_dir() or not weight_files(inner):
        raise ModelError(f"{folder}: no weights in it; for a family made here give `pretrain`, then run again")
    names = read_config(inner).architectures or []
    if any(name.endswith("ForSequenceClassification") for name in names):
        raise ModelError(f"{folder}: found a classifier, expected a language model; give a cell of a chat task")
    return read_language_model(inner, dtype)
