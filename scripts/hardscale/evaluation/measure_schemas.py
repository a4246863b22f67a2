"""Schemas of the lm-eval and MT-Bench tables."""

import pyarrow as pa

_str, _i64, _f64 = pa.string(), pa.int64(), pa.float64()

#: What lm-evaluation-harness says of a chat model, one row per metric of every task and group (lm_eval.parquet).
LM_EVAL = pa.schema(
    [
        pa.field("asked", _str, nullable=False),  # the task or group that the study names
        pa.field("task", _str, nullable=False),  # itself or one of its parts
        pa.field("metric", _str, nullable=False),
        pa.field("filter", _str, nullable=False),  # of the replies, before they are scored
        pa.field("value", _f64, nullable=False),
        pa.field("stderr", _f64),  # null where lm_eval has none
        pa.field("n", _i64, nullable=False),  # questions
        pa.field("num_fewshot", _i64),  # null for groups, whose tasks may differ in it
        pa.field("task_version", _str, nullable=False),
        pa.field("headline", pa.bool_(), nullable=False),  # whether it stands for its task in the table of utility
        pa.field("chat_template_sha256", _str, nullable=False),  # of the template's source
        pa.field("lm_eval_version", _str, nullable=False),
    ]
)

#: Rated replies of MT-Bench (ratings.parquet); readable by its owner alone.
RATINGS = pa.schema(
    [
        pa.field("question_id", _str, nullable=False),
        pa.field("category", _str, nullable=False),
        pa.field("turn", _i64, nullable=False),  # 1 or 2
        pa.field("rating", _f64),  # from 1 to 10, null where none can be read in what the judge wrote
        pa.field("judge", _str, nullable=False),
        pa.field("raw", _str, nullable=False),  # what the judge wrote
        pa.field("reply", _str, nullable=False),
    ]
)
