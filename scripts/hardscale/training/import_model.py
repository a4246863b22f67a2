"""Chat models that are not trained here: a model as it is (round 0), or a defense that somebody else trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hardscale.artifacts.manifest import open_artifact
from hardscale.artifacts.publish import Draft, publishing
from hardscale.artifacts.schemas import CLEAN, METRICS, TIMING
from hardscale.artifacts.tables import write_table
from hardscale.errors import ModelError
from hardscale.models.chat import ChatTemplate
from hardscale.models.counts import generative_parameters
from hardscale.models.external import assemble
from hardscale.models.folders import weight_files
from hardscale.models.load import MODEL, named_as, read_config, read_tokenizer
from hardscale.models.prepare import link_or_copy
from hardscale.settings.defenses import External
from hardscale.settings.words import first_problem
from hardscale.tasks.chat import load_chat_task

_COMPUTE = ("training_flops", "generation_flops", "defense_flops", "n_seen_tokens")


def import_model(spec: dict[str, Any], base: Path, task: Path, out: Path) -> None:
    """Publish a base model as round 0 of a chat cell: the same files, linked, at no compute.

    Args:
        spec: ``cell``; kept in the manifest.
        base: ``base_model`` artifact with weights.
        task: ``task`` artifact for chat models.
        out: the ``model`` artifact.

    Raises:
        ModelError: the base has no weights, or its tokenizer no usable chat template.
        DataError: the task is one for classifiers.
    """
    source = open_artifact(base, "base_model")["facts"].get("source", base)
    origin = base / MODEL
    if not weight_files(origin):
        raise ModelError(f"{base}: a chat cell needs a trained model and this one has no weights; give `pretrain`")
    with publishing(out, "model", spec, {"base": base, "task": task}) as draft:
        (draft.path / MODEL).mkdir()
        for path in sorted(origin.iterdir()):
            link_or_copy(path, draft.path / MODEL / path.name)
        with named_as({draft.path / MODEL: source}):
            _note(draft, task, spec, round_number=0, compute={"n_seen_tokens": 0} | dict.fromkeys(_COMPUTE[:3], 0.0))


def import_external(spec: dict[str, Any], base: Path, task: Path, out: Path, root: Path | None = None) -> None:
    """Publish a model, or an adapter merged into one, that somebody else trained. Its compute is unknown: null.

    Args:
        spec: ``cell``, ``defense``, ``external`` (an :class:`~hardscale.settings.defenses.External`).
        base: the cell's own ``base_model`` artifact, for what the settings do not name.
        task: ``task`` artifact for chat models.
        out: the ``model`` artifact, round 1.
        root: folder in hub layout, looked at before the hub.

    Raises:
        ModelError: a part is missing, pickled, quantized or asks for remote code, or the parts do not fit together.
        DataError: the task is one for classifiers.
    """
    try:
        settings = External.model_validate(spec["external"])
    except ValidationError as error:
        raise ModelError(f"--spec: external: {first_problem(error, spec['external'])}; see docs/study.md") from error
    open_artifact(base, "base_model")
    with publishing(out, "model", spec, {"base": base, "task": task}) as draft:
        folder = draft.path / MODEL
        folder.mkdir()
        draft.note(external=assemble(settings, base / MODEL, root, folder))
        theirs = settings.tokenizer or settings.base or settings.adapter
        with named_as({folder: f"external: {theirs}"}):
            _note(draft, task, spec, round_number=1, compute=dict.fromkeys(_COMPUTE))


def _note(draft: Draft, task: Path, spec: dict[str, Any], round_number: int, compute: dict[str, Any]) -> None:
    """Empty tables, and facts as finetuning gives them."""
    folder = draft.path / MODEL
    config, tokenizer = read_config(folder), read_tokenizer(folder)
    n_embeddings = config.get_text_config().vocab_size
    if len(tokenizer) > n_embeddings:
        raise ModelError(
            f"tokenizer: {len(tokenizer)} tokens where the model has {n_embeddings} embeddings; "
            "use the tokenizer the model was trained with"
        )
    template = ChatTemplate(tokenizer, load_chat_task(task).facts["system_prompt"])
    for name, schema in (("clean", CLEAN), ("metrics", METRICS), ("timing", TIMING)):
        write_table(draft.path / f"{name}.parquet", [], schema)
    draft.note(
        **compute,
        cell=spec["cell"],
        defense=spec.get("defense", "none"),
        round=round_number,
        n_params=generative_parameters(config),
        n_clean=0,
        clean_accuracy=None,
        attack_asr=None,
        has_weights=True,
        template_sha256=template.sha256,
    )
