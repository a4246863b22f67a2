"""The base class of attack blocks, and facts of each kind of attack that other modules look up.

Facts are no settings: they are in no spec, so that adding one reruns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from hardscale.settings.blocks import Overridable
from hardscale.settings.bounds import Iterations, Seed
from hardscale.settings.wordings import Named

Position = Literal["suffix", "infix90", "prefix"]
#: Tokens that an attack may insert; special tokens are none of them.
Allowed = Literal["printable_ascii", "any"]
#: Which text counts after an iteration of a search.
Held = Literal["last", "best"]
#: Special upper bounds: fewer than the prompt's tokens, and the size of the vocabulary.
PROMPT, VOCABULARY = "<prompt>", "<vocabulary>"


@dataclass(frozen=True)
class Role:
    """What another model does for an attack; the setting of the role's name says which model.

    Attributes:
        writes: setting with the most tokens that it writes at a time; empty where none bounds it.
        continues: it reads the texts of a task with what the attack adds to them.
    """

    writes: str = ""
    continues: bool = False


@dataclass(frozen=True)
class Facts:
    """Facts shared by every attack of one kind. Settings are named by their keys in the block, dots between.

    Attributes:
        label: its name in figures.
        runner: ``module:function`` that runs it: ``function(settings, call)``, settings being its block and the call a
            :class:`hardscale.attacks.call.Call`.
        place: among other attacks in figures.
        chat_only: it has no meaning for a classifier.
        rewrites: it writes a whole request anew, so that it has no position.
        space: where it searches.
        ranks: setting with the number of tokens kept at each position by gradient; empty where none are ranked so.
        replaces: setting with the number of replacements drawn in an iteration, of which those are scored that stay the
            same tokens as text; empty where an iteration scores one text, or as many as it finds.
        blind: it draws its tokens whatever the victim says.
        resumes: a search may go on from the tokens of an earlier one.
        adds: setting with the number of tokens that it puts beside a text; empty where none says.
        begins_reply: those tokens are of the reply, not of the prompt.
        within: setting -> what its value must not exceed: PROMPT, VOCABULARY or another setting.
        replies: setting with the most tokens of the victim's replies that it reads; empty where it reads none.
        roles: setting that names another model -> what that model does.
        ascii_on_chat: on chat models, the tokens that it inserts are printable ASCII as published.
        best_on_chat: on chat models, the text that counts is the best so far as published.
        by_victim: settings with defaults by the kind of victim.
    """

    label: str
    runner: str
    place: int = 100
    chat_only: bool = False
    rewrites: bool = False
    space: Literal["text", "embeddings"] = "text"
    ranks: str = ""
    replaces: str = ""
    blind: bool = False
    resumes: bool = False
    adds: str = ""
    begins_reply: bool = False
    within: Mapping[str, str] = field(default_factory=dict)
    replies: str = ""
    roles: Mapping[str, Role] = field(default_factory=dict)
    ascii_on_chat: bool = False
    best_on_chat: bool = False
    by_victim: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module of the runner."""
        return self.runner.partition(":")[0]


class AttackBase(Overridable):
    """What every named attack has."""

    #: Kind -> its facts, for each kind that the block is of.
    kinds: ClassVar[Mapping[str, Facts]] = {}

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

    @property
    def facts(self) -> Facts:
        """Facts of this attack's kind."""
        return self.kinds[self.kind]

    def value(self, key: str) -> Any:
        """The setting of a key, dots between blocks."""
        found: Any = self
        for name in key.split("."):
            found = getattr(found, name)
        return found

    def texts(self, key: str) -> dict[str, Named]:  # noqa: ARG002 - most attacks have none
        """Texts of others that the attack reads, by role; ``key`` is its place in the study."""
        return {}

    def for_victim(self, chat: bool) -> Self:  # noqa: ARG002 - most attacks are the same for both
        """The block with every default filled in that depends on the kind of victim: a chat model or a classifier."""
        return self

    def pool(self, chat: bool) -> Allowed:
        """The tokens that are inserted into prompts of this kind of victim."""
        return "printable_ascii" if chat and self.facts.ascii_on_chat else "any"

    @property
    def ranking(self) -> str:
        """The setting with the number of tokens that are kept by gradient; empty where none are."""
        return self.facts.ranks

    def added_tokens(self) -> tuple[str, int]:
        """The setting with the number of tokens put beside a text, and that number; empty and 0 where none says."""
        key = self.facts.adds
        return key, int(self.value(key)) if key else 0

    def limits(self) -> Iterator[tuple[str, int, str]]:
        """Setting, value and what it must not exceed: PROMPT, VOCABULARY or another setting of the block."""
        key, n_added = self.added_tokens()
        if n_added and not self.facts.begins_reply:
            yield key, n_added, PROMPT
        if self.ranking:
            yield self.ranking, self.value(self.ranking), VOCABULARY
        for key, bound in self.facts.within.items():
            yield key, self.value(key), bound

    def unread(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Settings that have no effect given the others, and why."""
        if self.facts.rewrites:
            yield ("position",), "an attack of this kind rewrites whole requests"
