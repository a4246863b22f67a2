"""The families that are known by name: where each scale lives, how large it is and what it was trained on.

Every number is of the models section and appendix of "Effects of Scale on Language Model Robustness"
(arXiv 2407.18213). No torch and no transformers here: the workflow reads this while it plans.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Tokens in Pythia pretraining, equal for every scale.
PYTHIA_PRETRAIN_TOKENS = 299_892_736_000
#: Tokens in Qwen2.5 pretraining. These two are the paper authors' assumption (by analogy with Qwen2), not a published
#: count: 18e12 for 0.5B, 10.5e12 for the others.
QWEN_SMALL_PRETRAIN_TOKENS = 18e12
QWEN_PRETRAIN_TOKENS = 10.5e12


@dataclass(frozen=True)
class BuiltinScale:
    """One scale of a builtin family.

    Attributes:
        hub: ``org/name`` on the Hugging Face hub.
        classifier_parameters: all parameters of the two-class classifier (input embeddings in, unembedding out, a
            bias-free head of two rows in): the N of every x-axis and of every attack and training FLOP count.
        generative_parameters: the N of the pretraining FLOPs. For Pythia the language model without its unembedding;
            for Qwen2.5 the paper takes the full language model, which for the untied 7b and 14b has the unembedding in.
        pretrain_tokens: tokens seen in pretraining.
        n_layers: transformer blocks.
        width: of the residual stream.
        intermediate: width inside the feed-forward part.
        n_heads: query heads.
        n_kv_heads: key and value heads.
        vocab: rows of the embedding matrix (padded, so more than the tokenizer knows).
        tied: whether the unembedding is the embedding matrix.
        window: tokens that it was trained to read.
    """

    hub: str
    classifier_parameters: int
    generative_parameters: int
    pretrain_tokens: float
    n_layers: int
    width: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    vocab: int
    tied: bool
    window: int

    @property
    def pretrain_flops(self) -> float:
        """``6 N D`` with the generative N."""
        return 6 * self.generative_parameters * self.pretrain_tokens


def _pythia(
    name: str, classifier: int, generative: int, layers: int, width: int, heads: int, vocab: int = 50_304
) -> BuiltinScale:
    return BuiltinScale(
        hub=f"EleutherAI/pythia-{name}",
        classifier_parameters=classifier,
        generative_parameters=generative,
        pretrain_tokens=PYTHIA_PRETRAIN_TOKENS,
        n_layers=layers,
        width=width,
        intermediate=4 * width,
        n_heads=heads,
        n_kv_heads=heads,
        vocab=vocab,
        tied=False,
        window=2_048,
    )


def _qwen(
    name: str, classifier: int, generative: int, layers: int, width: int, intermediate: int, heads: int, kv_heads: int
) -> BuiltinScale:
    untied = name in ("7B", "14B")
    return BuiltinScale(
        hub=f"Qwen/Qwen2.5-{name}",
        classifier_parameters=classifier,
        generative_parameters=generative,
        pretrain_tokens=QWEN_SMALL_PRETRAIN_TOKENS if name == "0.5B" else QWEN_PRETRAIN_TOKENS,
        n_layers=layers,
        width=width,
        intermediate=intermediate,
        n_heads=heads,
        n_kv_heads=kv_heads,
        vocab=152_064 if untied else 151_936,
        tied=not untied,
        window=32_768,
    )


#: Family -> scale -> what is known, smallest scale first.
BUILTIN_FAMILIES: dict[str, dict[str, BuiltinScale]] = {
    "pythia": {
        "14m": _pythia("14m", 7_629_056, 7_628_800, 6, 128, 4),
        "31m": _pythia("31m", 17_617_408, 17_616_896, 6, 256, 8),
        "70m": _pythia("70m", 44_672_000, 44_670_976, 6, 512, 8),
        "160m": _pythia("160m", 123_691_008, 123_689_472, 12, 768, 12),
        "410m": _pythia("410m", 353_824_768, 353_822_720, 24, 1_024, 16),
        "1b": _pythia("1b", 908_763_136, 908_759_040, 16, 2_048, 8),
        "1.4b": _pythia("1.4b", 1_311_629_312, 1_311_625_216, 24, 2_048, 16),
        "2.8b": _pythia("2.8b", 2_646_435_840, 2_646_430_720, 32, 2_560, 32),
        "6.9b": _pythia("6.9b", 6_650_740_736, 6_650_732_544, 32, 4_096, 32, vocab=50_432),
        "12b": _pythia("12b", 11_586_560_000, 11_586_549_760, 36, 5_120, 40, vocab=50_688),
    },
    "qwen2.5": {
        "0.5b": _qwen("0.5B", 494_034_560, 494_032_768, 24, 896, 4_864, 14, 2),
        "1.5b": _qwen("1.5B", 1_543_717_376, 1_543_714_304, 28, 1_536, 8_960, 12, 2),
        "3b": _qwen("3B", 3_085_942_784, 3_085_938_688, 36, 2_048, 11_008, 16, 2),
        "7b": _qwen("7B", 7_070_626_304, 7_615_616_512, 28, 3_584, 18_944, 28, 4),
        "14b": _qwen("14B", 13_991_476_224, 14_770_033_664, 48, 5_120, 13_824, 40, 8),
    },
}
