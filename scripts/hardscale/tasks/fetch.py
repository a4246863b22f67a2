"""A single file of a data set, on this machine or from the hub."""

from __future__ import annotations

from pathlib import Path

from hardscale.errors import DataError
from hardscale.tasks import hub
from hardscale.tasks.locate import HubFile, locate_file


def file_here(key: str, source: str, root: Path | None) -> Path:
    """The file that a study names at ``key``, fetched into the hub's cache where it is not here.

    Raises:
        DataError: it is neither here nor to be had.
    """
    place = locate_file(key, source, root)
    return fetched(key, place, root) if isinstance(place, HubFile) else place


def fetched(key: str, place: HubFile, root: Path | None) -> Path:
    """A file of the hub, in its cache; nothing is asked of the hub while it cannot be reached.

    Raises:
        DataError: it is not to be had.
    """
    cached = not hub.reachable()
    if cached and not hub.cached_file(place):
        raise DataError(hub.absent_file_line(key, place, root))
    from huggingface_hub import hf_hub_download

    try:
        found = hf_hub_download(
            place.repo, place.file, repo_type="dataset", revision=place.revision, local_files_only=cached
        )
    except Exception as error:  # the package raises whatever its parts raise
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{key}: {place.repo} could not be read from the hub ({reason}); fix it in the study"
        ) from error
    return Path(found)
