"""A table of the Hugging Face hub, by the datasets package, or its own files where that package would change values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hardscale.errors import DataError, HardscaleError
from hardscale.tasks import hub
from hardscale.tasks.folders import split_files
from hardscale.tasks.locate import HubTable, LocalFiles

#: Readers of the datasets package that guess types, by which 007 becomes 7 and NA nothing, and pass over bad quotes.
_GUESSING = ("csv", "json")
#: Packages whose errors quote what they read.
_QUOTING = ("pyarrow", "pandas", "json", "csv")


def loaded(name: str, table: HubTable, root: Path | None) -> Any:
    """The splits of a table as the datasets package gives them.

    Raises:
        DataError: the table can not be had; the line quotes no row of it.
    """
    if not hub.reachable():
        if not hub.cached(table):
            raise DataError(hub.absent_line(f"tasks.{name}", table, root))
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when datasets is imported: the cache alone, no retries
    import datasets

    try:
        return datasets.load_dataset(
            table.repo,
            data_dir=table.folder,
            revision=table.revision,
            download_config=datasets.DownloadConfig(max_retries=2),
        )
    except Exception as error:  # the package raises whatever its parts raise
        raise _unreadable(name, table, error) from None


def text_files(name: str, table: HubTable, found: Any) -> LocalFiles | None:
    """The files of a table that is kept as csv or JSON, fetched as they are; None for other formats.

    Raises:
        DataError: they can not be had, or it is not clear which are which split.
    """
    split = next(iter(found.values()))
    if getattr(split, "builder_name", None) not in _GUESSING:
        return None
    from huggingface_hub import snapshot_download

    urls = getattr(split.info, "download_checksums", None) or {}
    files = [url.split("@", 1)[1].split("/", 1)[1] for url in urls if url.startswith("hf://") and "@" in url]
    try:
        folder = Path(
            snapshot_download(
                table.repo,
                repo_type="dataset",
                revision=table.revision,
                allow_patterns=["README.md", *files] if files else None,
                local_files_only=not hub.reachable(),
            )
        )
        splits = split_files(folder / (table.folder or ""))
    except HardscaleError:
        raise
    except Exception as error:  # as above
        raise _unreadable(name, table, error) from None
    return LocalFiles(f"hub:{table.name}", splits["train"], splits.get("validation", ()))


def _unreadable(name: str, table: HubTable, error: Exception) -> DataError:
    return DataError(f"tasks.{name}: {table.name} could not be read from the hub ({_reason(error)}); mend `source`")


def _reason(error: BaseException) -> str:
    """What an error says, or only its kind where it comes from reading rows."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    if any(type(one).__module__.split(".")[0].lstrip("_") in _QUOTING for one in chain) or any(
        type(one).__name__.startswith("DatasetGeneration") for one in chain
    ):
        return "its rows: " + " from ".join(dict.fromkeys(type(one).__name__ for one in chain))
    return " ".join(str(error).split())[:300]
