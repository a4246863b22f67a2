"""The one way to run an attack: many prompts at once, on a classifier or a language model.

:func:`run_attack` takes the attack's settings as its block, as jobs have it; :func:`attack` is the same for callers who
would rather give a few settings by keyword.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import ValidationError

from hardscale.attacks.call import Call
from hardscale.attacks.classifier_victim import ClassifierVictim
from hardscale.attacks.codec import Codec
from hardscale.attacks.results import AttackResult, Callback, Helper, Request
from hardscale.attacks.victim import Victim
from hardscale.errors import AttackError
from hardscale.models.counts import model_shape
from hardscale.models.parameters import frozen
from hardscale.runtime.memory import Budget
from hardscale.settings.attack_base import Allowed, AttackBase, Held
from hardscale.settings.attacks import DEFAULT_KIND
from hardscale.settings.study_attacks import ATTACK_KINDS
from hardscale.settings.words import first_problem

#: Memory that the stored prefixes of examples attacked together may take, by device type.
_PREFIX_BYTES = {"cpu": 2**30, "cuda": 8 * 2**30}


def attack(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str]],
    targets: Sequence[int | str],
    *,
    method: str = DEFAULT_KIND,
    labels: Sequence[int] | None = None,
    keys: Sequence[int] | None = None,
    n_iterations: int | None = None,
    n_candidates: int | None = None,
    top_k: int | None = None,
    n_attack_tokens: int | None = None,
    init_text: str | None = None,
    gradient: bool | None = None,
    candidate_rng: Literal["restart", "per_example"] | None = None,
    early_stop: bool | None = None,
    allowed: Allowed | None = None,
    held: Held | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    examples_per_batch: int | None = None,
    tokens_per_batch: int | Budget | None = None,
    use_cache: bool = True,
    requests: Sequence[Request] | None = None,
    helpers: Mapping[str, Helper] | None = None,
    callback: Callback | None = None,
) -> list[AttackResult]:
    """Search attack text for every prompt by a method and the settings that attacks have in common.

    A setting that is not given is the default of the method's block (docs/study.md); one that the method does not have
    is not looked at. All settings of a method are those of its block: give that to :func:`run_attack`.

    Args:
        model: see :func:`run_attack`, as for all arguments that are not named here.
        tokenizer: of the model.
        prompts: text before and after the attack text, for each example.
        targets: the class or the text wanted, for each example.
        method: kind of attack.
        labels: true classes.
        keys: integers that name the examples.
        n_iterations: iterations; all are run and recorded.
        n_candidates: replacements tried in an iteration.
        top_k: tokens kept at each position by gradient.
        n_attack_tokens: length of the attack.
        init_text: repeated to ``n_attack_tokens`` tokens (:mod:`hardscale.attacks.starts`).
        gradient: False draws position and token uniformly instead (a control).
        candidate_rng: ``restart`` gives every example the same stream (as published), ``per_example`` its own.
        early_stop: leave an example at its first success; its lists end there.
        allowed: tokens that are inserted; as published for the kind of victim when absent.
        held: the text that counts after an iteration; as published for the kind of victim when absent.
        seed: root of the random streams.
        dtype: run forwards under autocast to this type.
        examples_per_batch: examples that move together.
        tokens_per_batch: tokens of one forward.
        use_cache: compute the tokens before the attack once.
        requests: of a chat victim.
        helpers: further models that the attack uses, by role.
        callback: told of every iteration.

    Returns:
        one result a prompt, in order.

    Raises:
        AttackError: no such method, a setting that is not allowed, or as :func:`run_attack` says.
    """
    given = {
        "n_iterations": n_iterations,
        "n_candidates": n_candidates,
        "top_k": top_k,
        "n_attack_tokens": n_attack_tokens,
        "initial_text": init_text,
        "gradient": gradient,
        "candidate_rng": candidate_rng,
        "early_stop": early_stop,
        "allowed": allowed,
        "held": held,
    }
    return run_attack(
        _block(method, {key: value for key, value in given.items() if value is not None}),
        model,
        tokenizer,
        prompts,
        targets,
        labels=labels,
        keys=keys,
        seed=seed,
        dtype=dtype,
        examples_per_batch=examples_per_batch,
        tokens_per_batch=tokens_per_batch,
        use_cache=use_cache,
        requests=requests,
        helpers=helpers,
        callback=callback,
    )


def _block(kind: str, given: Mapping[str, Any]) -> AttackBase:
    """The block of an attack with those of the settings that it has.

    Raises:
        AttackError: no such attack, or a value that is not allowed.
    """
    if kind not in ATTACK_KINDS:
        raise AttackError(f"method {kind!r}: not an attack; one of {', '.join(ATTACK_KINDS)}")
    block = ATTACK_KINDS[kind]
    values = {"kind": kind, **{key: value for key, value in given.items() if key in block.model_fields}}
    try:
        return block.model_validate(values)
    except ValidationError as error:
        raise AttackError(first_problem(error, values)) from error


def run_attack(
    settings: AttackBase,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str]],
    targets: Sequence[int | str],
    *,
    labels: Sequence[int] | None = None,
    keys: Sequence[int] | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    examples_per_batch: int | None = None,
    tokens_per_batch: int | Budget | None = None,
    use_cache: bool = True,
    requests: Sequence[Request] | None = None,
    starts: Sequence[Sequence[int] | None] | None = None,
    known: Sequence[tuple[str, str]] | None = None,
    helpers: Mapping[str, Helper] | None = None,
    texts: Mapping[str, str] | None = None,
    callback: Callback | None = None,
) -> list[AttackResult]:
    """Search attack text for every prompt. The same arguments give the same result, alone or among others.

    Args:
        settings: the attack's block (:mod:`hardscale.settings.attacks`). What it leaves to the kind of victim is as
            published for that kind; the caller must apply its ``seed`` and ``position``.
        model: a sequence classifier or a causal language model (a training engine's bare ``module`` is fine; its own
            ``forward`` is not). Parameters are frozen and the mode is evaluation while the attack runs, then restored.
        tokenizer: its fast tokenizer.
        prompts: text before and after the attack text, for each example.
        targets: the class that the attack wants, or the text that the language model should go on with.
        labels: true classes: success is a prediction other than the label. Without them, success is the target class.
            A language model succeeds when its greedy continuation is the target.
        keys: integers that name the examples, in errors and in their random streams; their index when absent.
        seed: root of the random streams.
        dtype: run forwards under autocast to this type.
        examples_per_batch: examples that move together; bounded by memory when absent.
        tokens_per_batch: tokens of one forward; by device when absent. They are halved when memory runs out, which
            changes no result beyond the last bits of a loss; a ``Budget`` tells afterwards how often.
        use_cache: compute the tokens before the attack once.
        requests: chat victims: what each prompt is made of, for attacks that rewrite the whole request.
        starts: tokens of an earlier result that each prompt's search goes on from; None: from its first text.
        known: requests of the task with the openings aimed at, which an attack may show as answered earlier (never an
            example's own); those of this call if None.
        helpers: further models that the attack uses, by role.
        texts: words of others that the attack uses, by role
            (:meth:`hardscale.settings.attack_base.AttackBase.texts`).
        callback: told of every iteration.

    Returns:
        one result a prompt, in order.

    Raises:
        AttackError: lists of different lengths, a target that is no class, a prompt too long for the model or on which
            no attack text stands apart, a loss that is not finite, ``starts`` for a search that cannot use them.
    """
    called = list(range(len(prompts))) if keys is None else [int(key) for key in keys]
    lists: tuple[tuple[str, Sequence[Any] | None], ...] = (
        ("targets", targets),
        ("labels", labels),
        ("keys", called),
        ("requests", requests),
        ("starts", starts),
    )
    for what, values in lists:
        if values is not None and len(values) != len(prompts):
            raise AttackError(f"{what}: found {len(values)} for {len(prompts)} prompts; give one for each")
    if starts is not None and not settings.facts.resumes:
        raise AttackError(f"starts: found with {settings.kind}, which begins anew; leave them out")
    run = _runner(settings)
    if not prompts:
        return []
    if known is None:
        known = [(request.text, str(target)) for request, target in zip(requests or (), targets, strict=False)]
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
            chat = not isinstance(victim, ClassifierVictim)
            call = Call(
                victim,
                Codec(tokenizer, victim.n_embeddings, closing=victim.closing, allowed=settings.pool(chat)),
                prompts[part],
                called[part],
                shape,
                seed,
                requests=requests[part] if requests else None,
                starts=starts[part] if starts else None,
                known=known,
                helpers=helpers or {},
                texts=texts or {},
                callback=callback,
            )
            results += run(settings.for_victim(chat), call)
    return results


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


def _runner(settings: AttackBase) -> Callable[[AttackBase, Call], list[AttackResult]]:
    """The function that runs an attack, which its block names."""
    module, _, name = settings.facts.runner.partition(":")
    found: Callable[[AttackBase, Call], list[AttackResult]] = getattr(importlib.import_module(module), name)
    return found


def language_victim() -> Callable[..., Any]:
    """The victim class for targets that are texts.

    By its name, so that it is not among the code of jobs on classifiers; those on chat models name it in their digest.
    """
    return importlib.import_module("hardscale.attacks.language_victim").LanguageVictim
