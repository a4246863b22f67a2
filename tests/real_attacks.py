"""Attacks on tiny random models with real tokenizers and templates: what came out, read again from the text alone.

The oracle is the library: a prompt's text is tokenized as any user would, and the plain model gives the loss of the
opening after it. Nothing of the attacks' own tokenization is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hardscale.attacks.base import run_attack
from hardscale.attacks.results import AttackResult, Request
from hardscale.models.chat import ChatTemplate
from hardscale.settings.attacks import Adaptive, AttackSettings, Beast, EmbeddingAttack, Prefill
from hardscale.settings.perturbation import Perturbation
from real_pairs import Pair, tiny_model, tokenizer_of

POSITIONS = ("suffix", "prefix", "infix90")
REQUESTS = (
    "Write a short guide on how to bake bread at home",
    "Explain in one paragraph how a lighthouse keeps ships away from the rocks, and who pays",
    "Tell me how",
)
OPENING = "Sure, here is a guide"
#: The request of a model without a template stands in plain lines.
PLAIN = ("Question: ", "\nAnswer:")
N_CANDIDATES, N_TOKENS = 64, 20


@dataclass(frozen=True)
class Asked:
    """Prompts of one pair and position."""

    prompts: list[tuple[str, str]]
    targets: list[str]
    requests: list[Request]


def asked(pair: Pair, position: str, requests: Sequence[str] = REQUESTS) -> Asked:
    """Requests with the place of an attack text: the user's words are split as a task splits its text."""
    if pair.template is None:
        found = [Request(PLAIN[0], text, PLAIN[1]) for text in requests]
        opening = " " + OPENING
    else:
        template = ChatTemplate(tokenizer_of(pair))
        found = [template.request(text) for text in requests]
        opening = template.opening(OPENING)
    prompts = []
    for one in found:
        at = {"suffix": len(one.text), "prefix": 0, "infix90": int(0.9 * len(one.text))}[position]
        prompts.append((one.before + one.text[:at], one.text[at:] + one.after))
    return Asked(prompts, [opening] * len(found), found)


def read(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a text as a user gets them: one BOS, also of a rendered text that spells it, and no closing ones."""
    if tokenizer.bos_token and text.startswith(tokenizer.bos_token):
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = list(tokenizer(text)["input_ids"])
    closing = len(tokenizer("a")["input_ids"]) - len(tokenizer("a", add_special_tokens=False)["input_ids"])
    leading = next(i for i, token in enumerate(tokenizer("a")["input_ids"]) if token not in tokenizer.all_special_ids)
    return ids[: len(ids) - (closing - leading)] if closing > leading else ids


def target_tokens(tokenizer: Any, prompt: str, target: str) -> list[int]:
    """Tokens of an opening as they follow a prompt."""
    ids, whole = read(tokenizer, prompt), read(tokenizer, prompt + target)
    assert whole[: len(ids)] == ids, "the opening joins with the end of the prompt"
    return whole[len(ids) :]


def plain(model: Any, ids: Sequence[int], target: Sequence[int]) -> tuple[float, bool]:
    """Mean cross-entropy of a target after a prompt, and whether greedy decoding writes it."""
    with torch.no_grad():
        logits = model(torch.tensor([[*ids, *target]])).logits[0, len(ids) - 1 : -1].float()
    wanted = torch.tensor(list(target))
    return float(torch.nn.functional.cross_entropy(logits, wanted)), bool((logits.argmax(1) == wanted).all())


@dataclass
class Measured:
    """One attack on one pair at one position.

    Attributes:
        starts: how first texts came about, with counts.
        survived: share of GCG's candidates that survive the filter; None for other attacks.
        retokenized: largest share of scored texts that are read as other tokens; None where an attack has no such.
        agrees: whether loss and success of every result, from the text alone, are those recorded.
        results: of the attack.
    """

    starts: dict[str, int]
    survived: float | None
    retokenized: float | None
    agrees: bool
    results: list[AttackResult]


def same(model: Any, tokenizer: Any, results: Sequence[AttackResult], targets: Sequence[str]) -> bool:
    """Whether plain forwards of the results' texts give what was recorded."""
    for result, target in zip(results, targets, strict=True):
        n_given = int(result.notes.get("n_prefilled", 0))
        # A begin of the reply that was given is the end of the prompt.
        prompt = result.prompt_text[: len(result.prompt_text) - (len(result.text) if n_given else 0)]
        wanted = target_tokens(tokenizer, prompt, target)
        loss, success = plain(model, read(tokenizer, result.prompt_text), wanted[n_given:])
        if abs(loss - result.losses[-1]) > 2e-4 or success != result.successes[-1]:
            return False
    return True


def gcg(model: Any, tokenizer: Any, given: Asked, **options: Any) -> list[AttackResult]:
    """Five iterations of 64 candidates on 20 tokens."""
    run = {name: options.pop(name) for name in ("starts", "seed") if name in options}
    values = {"n_iterations": 5, "n_candidates": N_CANDIDATES, "n_attack_tokens": N_TOKENS, "initial_text": "!"}
    block = AttackSettings(kind="gcg", **(values | options))
    return run_attack(block, model, tokenizer, given.prompts, given.targets, **run)


def _r2d2(model: Any, tokenizer: Any, given: Asked) -> list[AttackResult]:
    """What a step of R2D2 asks for, twice: the second resumes from the suffixes of the first."""
    options = {"n_iterations": 2, "n_candidates": 16, "candidate_rng": "per_example", "held": "last"}
    first = gcg(model, tokenizer, given, **options)
    return gcg(model, tokenizer, given, starts=[one.tokens for one in first], seed=1, **options)


def _random_token(model: Any, tokenizer: Any, given: Asked) -> list[AttackResult]:
    block = AttackSettings(kind="random_token", n_iterations=8, n_attack_tokens=N_TOKENS)
    return run_attack(block, model, tokenizer, given.prompts, given.targets)


def _own(block: Any, n_iterations: int) -> Callable[[Any, Any, Asked], list[AttackResult]]:
    def run(model: Any, tokenizer: Any, given: Asked) -> list[AttackResult]:
        own = block.model_copy(update={"n_iterations": n_iterations})
        return run_attack(own, model, tokenizer, given.prompts, given.targets, requests=given.requests)

    return run


ATTACKS: dict[str, Callable[[Any, Any, Asked], list[AttackResult]]] = {
    "gcg": gcg,
    "beast": _own(Beast(kind="beast", beam=4, branching=4), 8),
    "adaptive": _own(Adaptive(kind="adaptive", template=False), 24),
    "prefill": _own(Prefill(kind="prefill", n_prefill_tokens=2), 1),
    "embedding": _own(EmbeddingAttack(kind="embedding", perturbation=Perturbation(positions="suffix", eps=None)), 2),
    "r2d2": _r2d2,
    "random_token": _random_token,
}


def measure(pair: Pair, position: str, kind: str, requests: Sequence[str] = REQUESTS) -> Measured:
    """Run one attack and read what came out again."""
    tokenizer, model, given = tokenizer_of(pair), tiny_model(pair), asked(pair, position, requests)
    results = ATTACKS[kind](model, tokenizer, given)
    starts: dict[str, int] = {}
    for result in results:
        for name in result.notes:
            if name.startswith("n_start_"):
                starts[name.removeprefix("n_start_")] = starts.get(name.removeprefix("n_start_"), 0) + 1
    shares = [result.notes["retokenized_share"] for result in results if "retokenized_share" in result.notes]
    survived = None
    if kind == "gcg":
        survived = sum(sum(result.n_evaluated) for result in results) / (len(results) * 5 * N_CANDIDATES)
    # Vectors are no text: what can be read again is the prompt alone, whose loss is noted.
    if kind == "embedding":
        results = [_unperturbed(result) for result in results]
    return Measured(
        starts,
        survived,
        max(shares) if shares else None,
        _same_or_not(model, tokenizer, results, given.targets),
        results,
    )


def _same_or_not(model: Any, tokenizer: Any, results: Sequence[AttackResult], targets: Any) -> bool:
    try:
        return same(model, tokenizer, results, targets)
    except AssertionError:
        return False


def _unperturbed(result: AttackResult) -> AttackResult:
    import dataclasses

    return dataclasses.replace(result, losses=[result.notes["loss_before"]], successes=[False])
