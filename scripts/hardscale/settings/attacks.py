"""The blocks of a study for the attacks of the scaling study: GCG and random tokens."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from hardscale.settings.blocks import Overridable
from hardscale.settings.bounds import AttackTokens, Count, FilledText, Flag, Iterations, Seed, TopK
from hardscale.settings.wordings import Named

Position = Literal["suffix", "infix90", "prefix"]
#: Tokens that an attack may insert; special tokens are none of them.
Allowed = Literal["printable_ascii", "any"]
#: Which text counts after an iteration of GCG.
Held = Literal["last", "best"]


class AttackBase(Overridable):
    """What every named attack has."""

    kind: str
    position: Position | None = Field(
        None, description="Where in the modifiable chunk the attack writes; the task's `position` when absent."
    )
    n_iterations: Iterations
    seed: Seed | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Of the attack's random choices, the same on every model, as published (0); derived from the "
        "study's seed, the model's cell and the attack's name when absent.",
    )

    def texts(self, key: str) -> dict[str, Named]:  # noqa: ARG002 - most attacks have none
        """Texts of others that the attack reads, by role; ``key`` is its place in the study."""
        return {}

    def for_victim(self, chat: bool) -> Self:  # noqa: ARG002 - most attacks are the same for both
        """The block with every default filled in that depends on the kind of victim: a chat model or a classifier."""
        return self


class AttackSettings(AttackBase):
    """A named attack. Defaults are the paper's (appendix on attacks): 10 tokens, 128 candidates, top-256."""

    kind: Literal["gcg", "random_token"]
    n_attack_tokens: AttackTokens = 10
    n_iterations: Iterations = Field(10, description="GCG 10 undefended and 128 defended; RandomToken 1,280.")
    n_candidates: Count = Field(128, description="GCG: replacements tried in each iteration.")
    top_k: TopK = Field(256, description="GCG: tokens kept at each position by gradient.")
    gradient: Flag = Field(True, description="GCG: false draws position and token uniformly (no-gradient control).")
    initial_text: FilledText = Field("@&", description="GCG: repeated to n_attack_tokens tokens.")
    candidate_rng: Literal["restart", "per_example"] = Field(
        "restart", description="GCG: restart the stream for every example (paper), or key it by example."
    )
    early_stop: Flag = Field(False, description="Stop an example at its first success; leaves `asr` null after it.")
    allowed: Allowed | None = Field(
        None,
        description="Tokens inserted; absent: for chat models printable_ascii, as published, for classifiers any.",
    )
    held: Held | None = Field(
        None,
        description="GCG: the text that counts, of the last iteration or of the lowest loss so far; absent: for chat "
        "models best, as published, for classifiers last.",
    )

    def for_victim(self, chat: bool) -> Self:
        """With the tokens allowed and the text held as published for this kind of victim where the study is silent."""
        allowed, held = published_search(self.kind, chat)
        return self.model_copy(update={"allowed": self.allowed or allowed, "held": self.held or held})


def published_search(kind: str, chat: bool) -> tuple[Allowed, Held]:
    """``allowed`` and ``held`` of an attack where nobody says otherwise.

    GCG on chat models keeps to printable ASCII and to its best suffix (arXiv 2307.15043 and its code); on classifiers
    it takes any token and its last text (arXiv 2407.18213). RandomToken draws from GCG's tokens, and the first text of
    an attack in embedding space is built of them. BEAST and the adaptive search draw from all tokens, as published.
    """
    ascii_only = chat and kind in ("gcg", "random_token", "embedding")
    return "printable_ascii" if ascii_only else "any", "best" if chat and kind == "gcg" else "last"
