"""The blocks of a study for families of models and their scales."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from hardscale.settings.blocks import Overridable, Settings
from hardscale.settings.bounds import (
    BatchSize,
    HubName,
    HubRevision,
    LearningRate,
    Line,
    Name,
    Real,
    Steps,
    Tokens,
    WarmupSteps,
    Whole,
    size,
)


class ScratchScale(Settings):
    """One scale of a family made here: a decoder of this shape."""

    n_layers: Annotated[int, Whole(1, 1_000)]
    width: Annotated[int, Whole(2, 100_000)]
    n_heads: Annotated[int, Whole(1, 10_000)]

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchScale:
        if self.width % self.n_heads or (self.width // self.n_heads) % 2:
            raise ValueError(f"width / n_heads must be an even whole number, found {self.width} / {self.n_heads}")
        return self


class HubScale(Settings):
    """One scale that exists already: on the hub, or in a local folder."""

    hub: HubName | None = Field(None, description="org/name on the Hugging Face hub")
    revision: HubRevision | None = Field(None, description="Commit SHA; without one the manifest says 'unpinned'.")
    path: Line | None = Field(None, description="Local folder as written by save_pretrained (safetensors only).")
    gguf: Line | None = Field(None, description="Local .gguf file, dequantized and converted once.")
    pretrain_tokens: Annotated[int, Whole(1, 10**15)] | None = Field(
        None, description="Tokens seen in pretraining; null = unknown compute."
    )
    n_params: Annotated[int, Whole(1, 10**14)] | None = Field(
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
    vocab_size: Annotated[int, Whole(260, 1_000_000)] = 512


class PretrainSettings(Overridable):
    """Causal language modeling on task text before finetuning (scratch families only)."""

    steps: Steps = 1_000
    batch_size: BatchSize = 32
    learning_rate: LearningRate = 1e-3
    warmup_steps: WarmupSteps = 50
    max_tokens: Tokens = 128


def _scale_kind(values: Any) -> str:
    """Which description of a scale some keys are of, so that what is wrong is said of that one alone."""
    given = values if isinstance(values, dict) else getattr(values, "model_fields_set", ())
    return "shape" if {"n_layers", "width", "n_heads"} & set(given) else "source"


AnyScale = Annotated[
    Annotated[ScratchScale, Tag("shape")] | Annotated[HubScale, Tag("source")], Discriminator(_scale_kind)
]


class FamilySettings(Settings):
    """Models of several scales that share a tokenizer and an architecture."""

    source: Literal["builtin", "scratch", "models"] = Field(
        "builtin", description="builtin: pythia or qwen2.5 from the hub; scratch: made here; models: listed by scale."
    )
    scales: Annotated[dict[Name, AnyScale], size(100)] | Annotated[list[Name], size(100)] | None = Field(
        None, description="builtin: names to use (all when absent); scratch and models: one description a scale."
    )
    tokenizer: TokenizerSettings = TokenizerSettings()
    init_std: Annotated[float, Real(1e-12, 100)] = Field(
        0.02, description="Scratch: standard deviation of the weights at start."
    )
    embedding_std: Annotated[float, Real(1e-12, 100)] | None = Field(
        None, description="Scratch: of the token embeddings; init_std if absent."
    )
    max_positions: Tokens = Field(2_048, description="Scratch: longest context.")
    pretrain: PretrainSettings | None = Field(None, description="Scratch: language modeling before finetuning.")

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
