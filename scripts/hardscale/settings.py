"""The typed blocks of a study file: what can be set, the default (the paper's constant) and what is allowed.

No torch and no transformers here: the Snakefile loads this module in every job and in every dry run.
Section names in the docstrings are those of "Effects of Scale on Language Model Robustness" (arXiv 2407.18213).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$", max_length=60)]
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
NonNegativeInt = Annotated[int, Field(ge=0)]


class Settings(BaseModel):
    """A block of a study: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


class Where(Settings):
    """Which cells an override applies to; a key left out matches every cell."""

    task: list[str] | None = None
    family: list[str] | None = None
    scale: list[str] | None = None
    seed: list[int] | None = None

    def matches(self, task: str, family: str, scale: str, seed: int) -> bool:
        """Whether the cell with these four coordinates is selected."""
        pairs = ((self.task, task), (self.family, family), (self.scale, scale), (self.seed, seed))
        return all(allowed is None or value in allowed for allowed, value in pairs)


class Override(Settings):
    """Other values for some cells: ``{where: {scale: [14m]}, set: {rounds: 60}}``. Later overrides win."""

    where: Where
    set: dict[str, Any]


class Overridable(Settings):
    """A block whose values may differ by cell."""

    overrides: list[Override] = Field(default_factory=list, description="Other values for some cells; later ones win.")

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> Overridable:
        """Build every overridden block once, so that a bad override is refused while the study loads."""
        for i, override in enumerate(self.overrides):
            try:
                self._with(override.set)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(map(str, first["loc"]))
                raise ValueError(f"overrides.{i}.set.{key}: {first['msg']} (found {first['input']!r})") from error
        return self

    def _with(self, values: dict[str, Any]) -> Overridable:
        merged = deep_merge(self.model_dump(exclude={"overrides"}, exclude_unset=True), values)
        return type(self).model_validate(merged)

    def resolve(self, task: str, family: str, scale: str, seed: int) -> Any:
        """The block as it holds for one cell, overrides applied and removed."""
        values: dict[str, Any] = {}
        for override in self.overrides:
            if override.where.matches(task, family, scale, seed):
                values = deep_merge(values, override.set)
        return self._with(values)


def deep_merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``over``; mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = deep_merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


# --- data -----------------------------------------------------------------------------------------------------------


class DataSettings(Settings):
    """Where real data comes from: ``root`` is a folder in hub layout; without it the Hugging Face hub is used."""

    root: str | None = Field(None, description="Folder in hub layout; the environment's HARDSCALE_DATA when absent.")


class WordSource(Settings):
    """Words of the constructed tasks (section 3, PasswordMatch and WordLength)."""

    source: Literal["english_words", "letters"] = Field(
        "english_words", description="english_words: the package's web2 list; letters: random lower-case strings."
    )
    min_length: PositiveInt = 1
    max_length: PositiveInt = 22
    n_words: PositiveInt | None = Field(25_487, description="Words kept, drawn once by seed; null keeps all.")

    @model_validator(mode="after")
    def _lengths(self) -> WordSource:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        return self


CONSTRUCTED = ("password_match", "word_length")
TEXT_TASKS = ("imdb", "spam")
PREFERENCE_TASKS = ("helpful", "harmless")
Position = Literal["suffix", "infix90", "prefix"]


class TaskSettings(Settings):
    """A classification task: one of the six of the paper, or any table described here.

    A described task needs ``source``, ``text``, ``label`` and ``labels``; the six need nothing.
    """

    kind: Literal["password_match", "word_length", "imdb", "spam", "helpful", "harmless", "described"] | None = Field(
        None, description="Defaults to the task's own name; `described` when `source` is given."
    )
    instruction: str | None = Field(None, description="Text before the content; the built-in one when absent.")
    answer_prompt: str = Field("\n\nAnswer:", description="Text after the content.")
    n_train: PositiveInt = Field(20_000, description="Training examples kept (first ones of the shuffled split).")
    n_validation: PositiveInt = Field(2_000, description="Validation examples kept.")
    max_words: PositiveInt | None = Field(None, description="Content is cut to this many words before tokenising.")
    max_tokens: PositiveInt | None = Field(
        1_000, description="Examples whose prompt is longer, in tokens of the family's tokenizer, are left out."
    )
    words: WordSource = WordSource()
    source: str | None = Field(
        None, description="file.csv | file.jsonl | file.parquet | folder | hub:org/name[@revision]"
    )
    text: str | None = Field(None, description="Column with the text (described tasks).")
    label: str | None = Field(None, description="Column with the label (described tasks).")
    labels: list[str] | None = Field(None, description="All label values, in class order (described tasks).")
    position: Literal["suffix", "prefix"] = Field(
        "suffix", description="Side of the text on which attacks write unless they name their own position."
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="Share split off by content hash where a source has no validation split."
    )

    @model_validator(mode="after")
    def _described_is_complete(self) -> TaskSettings:
        described = {"source": self.source, "text": self.text, "label": self.label, "labels": self.labels}
        if self.kind == "described" or self.text or self.label or self.labels:
            missing = [key for key, value in described.items() if not value]
            if missing:
                raise ValueError(f"a described task also needs: {', '.join(missing)}")
            labels = self.labels or []
            if len(labels) < 2 or len(set(labels)) != len(labels):
                raise ValueError(f"labels must be at least two distinct values, found {labels}")
        return self


# --- models ---------------------------------------------------------------------------------------------------------


class ScratchScale(Settings):
    """One scale of a family made here: a decoder of this shape."""

    n_layers: PositiveInt
    width: PositiveInt
    n_heads: PositiveInt

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchScale:
        if self.width % self.n_heads or (self.width // self.n_heads) % 2:
            raise ValueError(f"width / n_heads must be an even whole number, found {self.width} / {self.n_heads}")
        return self


class HubScale(Settings):
    """One scale that exists already: on the hub, or in a local folder."""

    hub: str | None = Field(None, description="org/name on the Hugging Face hub")
    revision: str | None = Field(None, description="Commit SHA; without one the manifest says 'unpinned'.")
    path: str | None = Field(None, description="Local folder as written by save_pretrained (safetensors only).")
    gguf: str | None = Field(None, description="Local .gguf file, dequantised and converted once.")
    pretrain_tokens: PositiveInt | None = Field(None, description="Tokens seen in pretraining; null = unknown compute.")
    n_params: PositiveInt | None = Field(
        None, description="About how many, for estimates of memory and time alone; read from names like 7b if absent."
    )

    @model_validator(mode="after")
    def _one_source(self) -> HubScale:
        given = [key for key in ("hub", "path", "gguf") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"exactly one of hub, path, gguf is needed, found {given or 'none'}")
        return self


class TokenizerSettings(Settings):
    """Tokenizer of a scratch family: byte-level BPE."""

    kind: Literal["pieces", "text"] = Field(
        "pieces",
        description="pieces: each template piece is one token and words stay near letters; text: BPE on training text.",
    )
    vocab_size: Annotated[int, Field(ge=260)] = 512


class PretrainSettings(Overridable):
    """Causal language modelling on task text before finetuning (scratch families only)."""

    steps: PositiveInt = 1_000
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    warmup_steps: NonNegativeInt = 50
    max_tokens: PositiveInt = 128


class FamilySettings(Settings):
    """Models of several scales that share a tokenizer and an architecture."""

    source: Literal["builtin", "scratch", "models"] = Field(
        "builtin", description="builtin: pythia or qwen2.5 from the hub; scratch: made here; models: listed by scale."
    )
    scales: dict[Name, ScratchScale | HubScale] | list[Name] | None = Field(
        None, description="builtin: names to use (all when absent); scratch and models: one description a scale."
    )
    tokenizer: TokenizerSettings = TokenizerSettings()
    init_std: PositiveFloat = Field(0.02, description="Scratch: standard deviation of the weights at start.")
    embedding_std: PositiveFloat | None = Field(
        None, description="Scratch: of the token embeddings; init_std if absent."
    )
    max_positions: PositiveInt = Field(2_048, description="Scratch: longest context.")
    pretrain: PretrainSettings | None = Field(None, description="Scratch: language modelling before finetuning.")

    @model_validator(mode="after")
    def _scales_fit_source(self) -> FamilySettings:
        if self.source == "builtin":
            if isinstance(self.scales, dict):
                raise ValueError("a builtin family takes a list of scale names; use source: models to describe scales")
            return self
        kind = ScratchScale if self.source == "scratch" else HubScale
        if not isinstance(self.scales, dict) or not self.scales:
            raise ValueError(f"source: {self.source} needs `scales:` with one description a scale")
        wrong = [name for name, scale in self.scales.items() if not isinstance(scale, kind)]
        if wrong:
            keys = "n_layers, width, n_heads" if kind is ScratchScale else "hub, path or gguf"
            raise ValueError(f"scales of source: {self.source} are described by {keys}; wrong: {', '.join(wrong)}")
        if self.pretrain and self.source != "scratch":
            raise ValueError("pretrain is for source: scratch")
        return self


# --- training -------------------------------------------------------------------------------------------------------


class OptimizerSettings(Settings):
    """Optimizer and schedule. The defaults are the paper's (Adafactor, fixed scale, appendix on training)."""

    kind: Literal["adafactor", "adamw"] = "adafactor"
    learning_rate: PositiveFloat = 1e-5
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="linear, cosine: to 0 at the last step."
    )
    warmup_steps: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="AdamW only.")
    factored: bool = Field(
        True,
        description="Adafactor only; false keeps the whole second moment, a deviation that ZeRO 1 and above needs.",
    )
    max_grad_norm: PositiveFloat | None = Field(1.0, description="Global gradient norm clip; null for none.")


class ExposureSettings(Settings):
    """Random tokens in the modifiable chunk of some training examples (not in the paper; a named deviation)."""

    probability: Fraction = 0.0
    max_tokens: PositiveInt = 10


class FinetuneSettings(Overridable):
    """Training of the undefended classifier (section 3): 3 epochs, batch 8, float32."""

    epochs: PositiveFloat | None = Field(3, description="Passes over the training split; give this or steps.")
    steps: PositiveInt | None = Field(None, description="Optimizer steps; wins over epochs.")
    batch_size: PositiveInt = Field(8, description="Examples an optimizer step sees, over all ranks.")
    optimizer: OptimizerSettings = OptimizerSettings()
    exposure: ExposureSettings = ExposureSettings()
    n_clean: PositiveInt = Field(1_000, description="Validation examples of the clean-accuracy evaluation.")


# --- attacks --------------------------------------------------------------------------------------------------------


class AttackBase(Overridable):
    """What every named attack has."""

    kind: str
    position: Position | None = Field(
        None, description="Where in the modifiable chunk the attack writes; the task's `position` when absent."
    )
    n_iterations: PositiveInt


class AttackSettings(AttackBase):
    """A named attack. Defaults are the paper's (appendix on attacks): 10 tokens, 128 candidates, top-256."""

    kind: Literal["gcg", "random_token"]
    n_attack_tokens: PositiveInt = 10
    n_iterations: PositiveInt = Field(10, description="GCG 10 undefended and 128 defended; RandomToken 1,280.")
    n_candidates: PositiveInt = Field(128, description="GCG: replacements tried in each iteration.")
    top_k: PositiveInt = Field(256, description="GCG: tokens kept at each position by gradient.")
    gradient: bool = Field(True, description="GCG: false draws position and token uniformly (no-gradient control).")
    initial_text: str = Field("@&", description="GCG: repeated to n_attack_tokens tokens.")
    candidate_rng: Literal["restart", "per_example"] = Field(
        "restart", description="GCG: restart the stream for every example (paper), or key it by example."
    )
    early_stop: bool = Field(False, description="Stop an example at its first success; leaves `asr` null after it.")


class AttackInTraining(AttackSettings):
    """The attack inside adversarial training: the iterations follow a ramp over the rounds."""

    n_iterations: PositiveInt = Field(8, description="Iterations in the first round.")
    n_iterations_end: PositiveInt | None = Field(64, description="Iterations in the last round; null for no ramp.")


# --- defences -------------------------------------------------------------------------------------------------------


class AdversarialRounds(Overridable):
    """Iterative adversarial training (section 5): attack, pool, mix, train; repeated."""

    kind: Literal["adversarial_rounds"] = "adversarial_rounds"
    rounds: PositiveInt = 5
    attack: AttackInTraining = AttackInTraining(kind="gcg")
    n_new_examples: PositiveInt = Field(200, description="Clean training examples attacked in each round.")
    set_size: PositiveInt = Field(1_000, description="Examples of one round's training set.")
    max_adversarial_fraction: Fraction = Field(0.8, description="Largest share of pool examples in that set.")
    recency_weight: Fraction = Field(0.5, description="alpha in rho = (1 - alpha) * time + alpha * loss rank.")
    sampling_decay: NonNegativeFloat = Field(0.005, description="lambda in p ~ exp(lambda * (rho - max rho)).")
    loss_rank: Literal["true", "argsort"] = Field(
        "true", description="argsort: indices instead of ranks, as published."
    )
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 1
    optimizer: OptimizerSettings = OptimizerSettings(schedule="constant")
    carry_optimizer: bool = Field(True, description="Keep the optimizer state from round to round.")
    exposure: ExposureSettings = Field(ExposureSettings(), description="Of the clean part of the set.")
    n_clean: PositiveInt = 1_000
    rounds_per_job: PositiveInt | None = Field(None, description="Rounds trained by one job; by scale when absent.")


# --- what is run ----------------------------------------------------------------------------------------------------


class GridRow(Settings):
    """Cells: every task x family x scale x seed named here."""

    tasks: list[str]
    families: list[str]
    scales: list[str] | None = Field(None, description="All scales of the family when absent.")
    seeds: list[NonNegativeInt]


class EvaluateRow(Settings):
    """Which attacks are run on which models."""

    attacks: list[str]
    defenses: list[str] = Field(default_factory=lambda: ["none"], description="`none` is the undefended model.")
    rounds: Literal["paper", "all", "last"] | list[NonNegativeInt] = Field(
        "paper", description="Of iterative defences; paper: about ten, geometrically spaced."
    )
    where: Where = Where()
    n_examples: PositiveInt = Field(200, description="Validation examples looked at; the correct ones are attacked.")
    shards: PositiveInt = Field(1, description="Jobs that one attack on one model is split into.")


class AnalysisSettings(Settings):
    """What figures and fits look at."""

    headline_iteration: dict[str, PositiveInt] = Field(
        default_factory=dict, description="Attack name -> iteration of the size plots; its last one when absent."
    )
    target_asr: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=lambda: [0.02, 0.05], description="Attack success rates of the offense-defense curves."
    )
    caption_note: str = Field("", description="Added to every caption: this study's deviations from the paper.")
