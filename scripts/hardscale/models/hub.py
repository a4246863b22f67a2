"""Fetching a model from the Hugging Face hub: safetensors, configuration and tokenizer, never code or pickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hardscale.errors import ModelError
from hardscale.models.check import unreachable
from hardscale.models.folders import SMALL_FILES, WEIGHTS_INDEX

MODEL_FILES = ("model*.safetensors", WEIGHTS_INDEX, *SMALL_FILES)


def fetch(name: str, revision: str | None, patterns: Sequence[str] = MODEL_FILES) -> tuple[Path, str]:
    """Download a model into the local cache, or find it there.

    Args:
        name: ``org/name``.
        revision: commit SHA, tag or branch; the default branch when absent.
        patterns: files wanted; those of a model by default.

    Returns:
        The snapshot folder and the commit SHA that it is of.

    Raises:
        ModelError: the hub is out of reach and the cache has no copy, or the hub refuses.
    """
    shown = f"hub: {name}{f'@{revision}' if revision else ''}"
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise ModelError(
            f"{shown}: access must be granted first; accept its terms on the hub and run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{shown}: the model has no such revision; give a commit SHA of https://huggingface.co/{name}/commits"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{shown}: no such model, or it is private; check the name, or run `hf auth login`") from error
    except HfHubHTTPError as error:
        raise ModelError(
            f"{shown}: the hub answered with an error ({' '.join(str(error).split())[:160]}); try again later"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"hub: {unreachable(name, revision)}") from error
    return folder, folder.name
