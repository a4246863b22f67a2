"""One kind of job in a study: its entry of the job table with the study's paths, inputs and settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from hardscale.artifacts import paths
from hardscale.plan.grid import RoundBlock
from hardscale.plan.paths import Lineage
from hardscale.plan.table import JobKind

#: Family and scale of the models that a job with some wildcards holds besides its own.
_Beside = Callable[[Any], Collection[tuple[str, str]]]


def _alone(wildcards: Any) -> Collection[tuple[str, str]]:  # noqa: ARG001
    return ()


@dataclass(frozen=True)
class Job:
    """One rule: a kind of job in this study.

    Attributes:
        kind: its entry of the job table.
        root: ``results/<study>``.
        rule: name of the rule.
        instances: the wildcards of every job of the rule.
        inputs: name -> artifacts and tables that it reads: a path with wildcards, paths, or an input function.
        files: name -> input function of the user's own files that it reads.
        spec: params function of what it is told, or the text itself.
        code: params function of the digest of its code, or the digest itself.
        rounds: the rounds that it publishes, where it publishes several.
        lineages: that the rule is for; None for all.
        beside: other models that a job keeps in memory, for the estimates of its resources.
    """

    kind: JobKind
    root: str
    rule: str
    instances: Callable[[], Iterable[Any]]
    inputs: SimpleNamespace = field(default_factory=SimpleNamespace)
    files: SimpleNamespace = field(default_factory=SimpleNamespace)
    spec: Any = None
    code: Any = None
    rounds: RoundBlock | None = None
    lineages: list[Lineage] | None = None
    beside: _Beside = _alone

    @cached_property
    def outputs(self) -> SimpleNamespace:
        """Name -> path with wildcards; a list of them where every round has one."""
        found: dict[str, str | list[str]] = {}
        for name, template in self.kind.outputs.items():
            path = f"{self.root}/{template}"
            if self.rounds is not None:
                found[name] = [path.replace("{round}", paths.round_number(number)) for number in self.rounds.kept]
            else:
                found[name] = path
        return SimpleNamespace(**found)

    @property
    def log(self) -> str:
        """Its log."""
        return self._at(paths.LOG, self.kind.place)

    @property
    def benchmark(self) -> str:
        """Where Snakemake writes how long it took."""
        return self._at(paths.BENCHMARK, self.kind.place)

    @property
    def state(self) -> str | None:
        """Private folder of a distributed job."""
        return None if self.kind.state is None else self._at(paths.STATE, self.kind.state)

    @property
    def name(self) -> str:
        """What tells the rule from others of its kind: of a figure the figure's name."""
        return self.rule.removeprefix(f"{self.kind.name}_")

    @property
    def folder(self) -> str:
        """The folder that holds the first output of every job of the kind."""
        return f"{self.root}/{paths.top(next(iter(self.kind.outputs.values())))}"

    @property
    def models(self) -> str:
        """The folder of a lineage's models, in which a job that publishes several puts them."""
        return f"{self.root}/{paths.MODEL.rpartition('/')[0]}"

    def _at(self, template: str, place: str) -> str:
        first = "" if self.rounds is None else paths.round_number(self.rounds.first)
        return f"{self.root}/{template.replace('{place}', place.replace('{first}', first))}"


def plain_function(value: Any) -> Any:
    """A method as a plain function of the wildcards; anything else as it is.

    Snakemake looks up the parameters of every function several times for each job of a plan, which takes twice as long
    for a method.
    """
    return (lambda wildcards: value(wildcards)) if callable(value) else value
