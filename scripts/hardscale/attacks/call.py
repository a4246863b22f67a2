"""The arguments that every attack receives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hardscale.attacks.codec import Codec
from hardscale.attacks.results import Callback, Helper, Request
from hardscale.attacks.victim import Victim
from hardscale.models.flops import ModelShape


@dataclass(frozen=True)
class Call:
    """What an attack is run on, beside its settings; lists have an entry a prompt.

    Attributes:
        victim: the model under attack, with what is wanted of it.
        codec: of its tokenizer, with the tokens that may be inserted.
        prompts: text before and after the attack text.
        keys: names of the examples in random streams.
        shape: of the victim.
        seed: root of the random streams.
        requests: of a chat victim, what each prompt is made of; None where nobody says.
        starts: tokens of an earlier result that a search goes on from, for each prompt that has some.
        known: requests of the task with the openings aimed at, which an attack may show as answered earlier.
        helpers: further models by role.
        texts: words of others by role (:meth:`hardscale.settings.attack_base.AttackBase.texts`).
        callback: told of every iteration.
    """

    victim: Victim
    codec: Codec
    prompts: Sequence[tuple[str, str]]
    keys: Sequence[int]
    shape: ModelShape
    seed: int
    requests: Sequence[Request] | None = None
    starts: Sequence[Sequence[int] | None] | None = None
    known: Sequence[tuple[str, str]] = ()
    helpers: Mapping[str, Helper] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    callback: Callback | None = None

    def note(self, iteration: int, alive: int, seconds: float) -> None:
        """Report an iteration to the callback."""
        if self.callback:
            self.callback(iteration, alive, seconds)
