"""Columns of every parquet table that passes between jobs or leaves the workflow."""

import pyarrow as pa

_str, _i64, _f64, _bool = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _schema(*columns: tuple[str, pa.DataType], nullable: tuple[str, ...] = ()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns])


#: One row per example of a task split; the prompt is ``"".join(chunks)``.
EXAMPLES = _schema(
    ("example_id", _i64),
    ("chunks", pa.list_(_str)),
    ("modifiable", _i64),  # index of the one chunk that attacks may change
    ("label", _i64),
)

#: One row per behavior of a chat task; readable by its owner alone.
BEHAVIORS = _schema(
    ("split", _str),  # train or test
    ("row_id", _i64),  # row of its file, from 0
    ("behavior_id", _str),
    ("behavior", _str),
    ("context", _str),  # stands before the behavior in the request
    ("category", _str),
    ("targets", pa.list_(_str)),  # openings that attacks aim at, at least one
    ("safe_answer", _str),
    nullable=("context", "category"),
)

#: One row per ordinary conversation of a chat task.
CHATS = _schema(
    ("split", _str),  # train or validation
    ("row_id", _i64),  # row of its split in the source, from 0
    ("roles", pa.list_(_str)),
    ("contents", pa.list_(_str)),
)

#: One row per attacked example (attack.parquet). Lists have one entry per iteration, the first is iteration 1.
ATTACK = _schema(
    ("example_id", _i64),
    ("label", _i64),
    ("clean_prediction", _i64),
    ("adversarial_text", _str),  # the whole prompt with the attack text that is held after the last iteration
    ("adversarial_tokens", pa.list_(_i64)),  # the attack tokens alone
    ("success", _bool),
    ("first_success", _i64),  # 1-based iteration, null if never
    ("losses", pa.list_(_f64)),
    ("successes", pa.list_(_bool)),
    ("n_evaluated", pa.list_(_i64)),  # candidates whose loss was computed in each iteration
    ("forward_tokens", pa.list_(_i64)),  # cumulative, by the convention: whole prompts, no cache
    ("backward_tokens", pa.list_(_i64)),
    ("flops_exact_by_iteration", pa.list_(_f64)),  # cumulative, as computed: cache used, input gradients only
    ("forward_passes", pa.list_(_i64)),  # cumulative prompts forwarded
    ("backward_passes", pa.list_(_i64)),
    ("n_forward_tokens", _i64),
    ("n_backward_tokens", _i64),
    ("flops", _f64),  # 2 N forward tokens + 4 N backward tokens
    ("seed", _i64),
    nullable=("first_success",),
)

#: One row per judged reply and judge; readable by its owner alone.
REPLIES = _schema(
    ("example_id", _i64),
    ("behavior_id", _str),  # of other questions, what they are: harmless, mmlu, polite
    ("category", _str),
    ("iteration", _i64),  # 0: to the request as it is; otherwise the attack's last
    ("judge", _str),
    ("complied", _bool),  # null where the judge gives no verdict
    ("score", _f64),
    ("raw", _str),  # what the judge wrote or measured
    ("reply", _str),  # with its begin, where that was put into the model's mouth
    nullable=("category", "complied", "score"),
)

#: What a chat model is good for besides being robust, one row per measure.
UTILITY = _schema(
    ("metric", _str),
    ("value", _f64),  # null where there was nothing to measure
    ("n", _i64),
    ("ci_low", _f64),
    ("ci_high", _f64),
    ("detail", _str),
    nullable=("value", "ci_low", "ci_high"),
)

#: Clean evaluation of a model: one row per validation example.
CLEAN = _schema(("example_id", _i64), ("label", _i64), ("prediction", _i64), ("loss", _f64))

#: Training history, one row per optimizer step. Memory and speed go to timing.parquet: they differ between runs.
METRICS = _schema(
    ("round", _i64),
    ("step", _i64),
    ("loss", _f64),
    ("learning_rate", _f64),
    ("grad_norm", _f64),
    ("n_tokens", _i64),
    ("n_examples", _i64),
)
TIMING = _schema(
    ("step", _i64),
    ("seconds", _f64),
    ("tokens_per_second", _f64),
    ("memory_mb", _f64),
    ("batch_halvings", _i64),  # of an attack: how often memory ran out by its end and batches were halved
    nullable=("batch_halvings",),
)

_TERMS_NULLABLE = (
    ("toward", _f64),  # mean cross-entropy of the safe answers under the attack
    ("away", _f64),  # mean log-probability of the harmful answers under the attack, or the away loss in its other form
    ("utility", _f64),
    ("preference", _f64),  # mean loss of preference, before its weight
    ("attack_loss_first", _f64),  # mean cross-entropy of the harmful answers without the perturbation
    ("attack_loss_last", _f64),  # ... with it
    ("projected_share", _f64),
    ("max_ratio", _f64),
    ("mean_ratio", _f64),
)
#: Terms of the loss in training against attacks on embeddings, one row per optimizer step; null where a step has none.
TERMS = _schema(
    ("step", _i64),
    ("n_adversarial", _i64),
    ("n_utility", _i64),
    ("forward_passes", _i64),
    ("backward_passes", _i64),
    ("forward_tokens", _i64),
    ("backward_tokens", _i64),
    ("flops_exact", _f64),
    *_TERMS_NULLABLE,
    nullable=tuple(name for name, _ in _TERMS_NULLABLE),
)

#: The pool of adversarial examples as it stands after a round.
POOL = _schema(
    ("example_id", _i64),
    ("round", _i64),
    ("text", _str),
    ("label", _i64),
    ("success", _bool),
    ("last_loss", _f64),  # null until the example was trained on
    nullable=("last_loss",),
)

_RUNS_REQUIRED = (
    ("study", _str),
    ("task", _str),
    ("family", _str),
    ("scale", _str),
    ("n_params", _i64),
    ("seed", _i64),
    ("defense", _str),
    ("defense_kind", _str),
    ("round", _i64),
    ("attack", _str),
    ("attack_kind", _str),
    ("position", _str),
    ("iteration", _i64),
    ("n_examples", _i64),
    ("n_attacked", _i64),
)
_RUNS_NULLABLE = (
    ("n_success", _i64),
    ("asr", _f64),
    ("n_success_any", _i64),
    ("asr_any", _f64),
    ("clean_accuracy", _f64),
    ("attack_flops_per_example", _f64),
    ("defense_flops", _f64),
    ("pretrain_flops", _f64),
    ("attack_seed", _i64),
    ("success_rule", _str),
    ("judge", _str),
    ("eps", _f64),
    ("n_forward_passes", _f64),
    ("n_backward_passes", _f64),
    ("attack_flops_exact", _f64),
    ("n_seen_tokens", _i64),
    ("n_clean_examples", _i64),
)
#: The tidy result table: one row per cell x attack x position x iteration; iteration 0 is before the attack.
RUNS = _schema(*_RUNS_REQUIRED, *_RUNS_NULLABLE, nullable=tuple(name for name, _ in _RUNS_NULLABLE))

_FITS = (
    ("kind", _str),
    ("task", _str),
    ("family", _str),
    ("scale", _str),
    ("defense", _str),
    ("round", _i64),
    ("attack", _str),
    ("position", _str),
    ("target_asr", _f64),
    ("method", _str),
    ("slope", _f64),
    ("intercept", _f64),
    ("ci_low", _f64),
    ("ci_high", _f64),
    ("n_points", _i64),
    ("n_seeds", _i64),
    ("estimand", _str),
)
#: Slopes with intervals; a column that has no meaning for a kind of fit is null.
FITS = _schema(
    *_FITS,
    nullable=(
        "family",
        "scale",
        "defense",
        "round",
        "attack",
        "position",
        "target_asr",
        "slope",
        "intercept",
        "ci_low",
        "ci_high",
        "estimand",
    ),
)
