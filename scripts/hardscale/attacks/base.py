"""The one way to run an attack: many prompts at once, on a classifier or a language model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from hardscale.attacks.classifier_victim import ClassifierVictim
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Callback, Helper, Options, Request
from hardscale.attacks.victim import Victim, frozen
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.runtime.memory import Budget
from hardscale.settings.attacks import Allowed, Held, published_search
from hardscale.settings.study_attacks import ATTACK_KINDS

#: Memory that the stored prefixes of examples attacked together may take, by device type.
_PREFIX_BYTES = {"cpu": 2**30, "cuda": 8 * 2**30}


def attack(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str]],
    targets: Sequence[int | str],
    *,
    method: str = "gcg",
    labels: Sequence[int] | None = None,
    keys: Sequence[int] | None = None,
    n_iterations: int = 10,
    n_candidates: int = 128,
    top_k: int = 256,
    n_attack_tokens: int = 10,
    init_text: str | None = None,
    init_tokens: Sequence[Sequence[int] | None] | None = None,
    gradient: bool = True,
    candidate_rng: Literal["restart", "per_example"] = "restart",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    early_stop: bool = False,
    allowed: Allowed | None = None,
    held: Held | None = None,
    examples_per_batch: int | None = None,
    tokens_per_batch: int | Budget | None = None,
    use_cache: bool = True,
    own: Any = None,
    requests: Sequence[Request] | None = None,
    helpers: Mapping[str, Helper] | None = None,
    shots: Sequence[tuple[str, str]] | None = None,
    texts: Mapping[str, str] | None = None,
    callback: Callback | None = None,
) -> list[AttackResult]:
    """Search attack text for every prompt. The same arguments give the same result, alone or among others.

    Args:
        model: a sequence classifier or a causal language model (a training engine's bare ``module`` is fine; its own
            ``forward`` is not). Parameters are frozen and the mode is evaluation while the attack runs, then restored.
        tokenizer: its fast tokenizer.
        prompts: text before and after the attack text, for each example.
        targets: the class that the attack wants, or the text that the language model should go on with.
        method: name of the attack (:mod:`hardscale.attacks.base`).
        labels: true classes: success is a prediction other than the label. Without them, success is the target class.
            A language model succeeds when its greedy continuation is the target.
        keys: integers that name the examples, in errors and in their random streams; their index when absent.
        n_iterations: iterations; all are run and recorded.
        n_candidates: GCG: replacements tried in an iteration.
        top_k: GCG: tokens kept at each position by gradient.
        n_attack_tokens: length of the attack.
        init_text: repeated to ``n_attack_tokens`` tokens (:mod:`hardscale.attacks.starts`); ``@&`` when absent.
        init_tokens: GCG: the tokens of an earlier result that each prompt's attack goes on from; None: ``init_text``.
        gradient: GCG: False draws position and token uniformly instead (a control).
        candidate_rng: GCG: ``restart`` gives every example the same stream (as published), ``per_example`` its own.
        seed: root of the random streams.
        dtype: run forwards under autocast to this type.
        early_stop: GCG: leave an example at its first success; its lists end there.
        allowed: tokens that are inserted; as published for the kind of victim when absent
            (:func:`hardscale.settings.attacks.published_search`).
        held: GCG: the text that counts after an iteration, the last one or that with the lowest loss so far; as
            published for the kind of victim when absent.
        examples_per_batch: examples that move together; bounded by memory when absent.
        tokens_per_batch: tokens of one forward; by device when absent. They are halved when memory runs out, which
            changes no result beyond the last bits of a loss; a ``Budget`` tells afterwards how often.
        use_cache: compute the tokens before the attack once.
        own: settings block of an attack that has one of its own (:mod:`hardscale.settings.study_attacks`); its
            defaults if None.
        requests: chat victims: what each prompt is made of, for attacks that rewrite the whole request.
        helpers: further models that the attack uses, by role.
        shots: requests and openings that ``in_context`` may show (never an example's own); those of this call if None.
        texts: words of others that the attack uses, by role (:meth:`hardscale.settings.attacks.AttackBase.texts`).
        callback: told of every iteration.

    Returns:
        one result a prompt, in order.

    Raises:
        AttackError: lists of different lengths, a target that is no class, a prompt too long for the model or on which
            no attack text stands apart, a loss that is not finite.
    """
    called = list(range(len(prompts))) if keys is None else [int(key) for key in keys]
    lists = (
        ("targets", targets),
        ("labels", labels),
        ("keys", called),
        ("requests", requests),
        ("init_tokens", init_tokens),
    )
    for what, values in lists:
        if values is not None and len(values) != len(prompts):
            raise AttackError(f"{what}: found {len(values)} for {len(prompts)} prompts; give one for each")
    for what, number in (("n_iterations", n_iterations), ("n_attack_tokens", n_attack_tokens)):
        if number < 1:
            raise AttackError(f"{what}: found {number}; give at least 1")
    if n_candidates < 1 or top_k < 1:
        raise AttackError(f"n_candidates and top_k: found {n_candidates} and {top_k}; give at least 1")
    if candidate_rng not in ("restart", "per_example"):
        raise AttackError(f"candidate_rng: found {candidate_rng!r}; restart or per_example")
    run = find_attack(method)
    if not prompts:
        return []
    options = Options(
        n_iterations=n_iterations,
        n_candidates=n_candidates,
        top_k=top_k,
        n_attack_tokens=n_attack_tokens,
        initial_text=init_text or "@&",
        gradient=gradient,
        candidate_rng=candidate_rng,
        seed=seed,
        early_stop=early_stop,
        own=own,
        helpers=helpers or {},
        shots=_shots(requests, targets) if shots is None else shots,
        texts=texts or {},
    )
    # One for all parts: what did not fit once is not tried again.
    budget = tokens_per_batch if isinstance(tokens_per_batch, Budget) else Budget(tokens_per_batch)
    forwards = {"tokens_per_batch": budget, "dtype": dtype, "use_cache": use_cache}
    shape = model_shape(model.config)
    together = examples_per_batch or _together(model, prompts)
    results: list[AttackResult] = []
    with frozen(model):
        for start in range(0, len(prompts), together):
            part = slice(start, start + together)
            chosen = None if labels is None else labels[part]
            victim = _victim(model, tokenizer, targets[part], chosen, called[part], forwards)
            victim.follow([before + after for before, after in prompts[part]])
            pool, counts = published_search(method, chat=not isinstance(victim, ClassifierVictim))
            codec = Codec(tokenizer, victim.n_embeddings, closing=victim.closing, allowed=allowed or pool)
            here = replace(
                options,
                held=held or counts,
                requests=requests[part] if requests else None,
                initial_tokens=init_tokens[part] if init_tokens else None,
            )
            results += run(victim, codec, prompts[part], called[part], shape, here, callback)
    return results


def _shots(requests: Sequence[Request] | None, targets: Sequence[int | str]) -> list[tuple[str, str]]:
    return [(request.text, str(target)) for request, target in zip(requests or (), targets, strict=False)]


def _victim(
    model: Any,
    tokenizer: Any,
    targets: Sequence[int | str],
    labels: Sequence[int] | None,
    keys: Sequence[int],
    forwards: dict[str, Any],
) -> Victim:
    names = [str(key) for key in keys]
    texts = [target for target in targets if isinstance(target, str)]
    if len(texts) == len(targets):
        return language_victim()(model, tokenizer, texts, names, **forwards)
    if texts:
        raise AttackError("targets: found classes and texts; give one kind")
    return ClassifierVictim(model, [int(target) for target in targets], labels, names, **forwards)


def _together(model: Any, prompts: Sequence[tuple[str, str]]) -> int:
    """Examples whose stored prefixes fit the memory set aside for them, judged by the longest prompt."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = 2 * config.num_hidden_layers * heads * head * model.get_input_embeddings().weight.element_size()
    longest = max(len(before) for before, _ in prompts)  # a token has at least one character, or nearly so
    kind = model.get_input_embeddings().weight.device.type
    return max(_PREFIX_BYTES.get(kind, 2**30) // max(size * longest, 1), 1)


def find_attack(name: str) -> Callable[..., Any]:
    """The ``run`` function of an attack: that of the module with its name in this package.

    Raises:
        AttackError: no such attack.
    """
    if name not in ATTACK_KINDS:
        raise AttackError(f"method {name!r}: not an attack; one of {', '.join(ATTACK_KINDS)}")
    return importlib.import_module(f"hardscale.attacks.{name}").run


def language_victim() -> Callable[..., Any]:
    """The victim class for targets that are texts."""
    return importlib.import_module("hardscale.attacks.language_victim").LanguageVictim
