"""A Snakemake profile as the preflight reads it: rendered, and with the values of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardscale.errors import StudyError
from hardscale.plan.launching import Launch

_NAMES = ("config.v9+.yaml", "config.v8+.yaml", "config.yaml")


@dataclass(frozen=True)
class Profile:
    """A profile. ``values`` are its top-level keys."""

    path: Path
    values: dict[str, Any]

    @property
    def defaults(self) -> dict[str, Any]:
        """``default-resources``."""
        return dict(self.values.get("default-resources") or {})

    @property
    def launch(self) -> Launch:
        """How distributed jobs are started, and with which partition and account."""
        return Launch.of_profile(self.defaults)

    def of_rule(self, rule: str) -> dict[str, Any]:
        """What ``set-resources`` says of a rule: it wins over the rule's own."""
        return dict((self.values.get("set-resources") or {}).get(rule) or {})

    def number(self, key: str, default: int) -> int:
        """A whole number among the top-level keys."""
        value = self.values.get(key, default)
        return value if isinstance(value, int) else default


def read_profile(folder: Path) -> Profile:
    """The profile in a folder, or that a file is.

    Raises:
        StudyError: there is none, or it cannot be rendered.
    """
    import yaml
    import yte

    path = folder
    if not folder.is_file():
        found = [folder / name for name in _NAMES if (folder / name).is_file()]
        if not found:
            raise StudyError(f"{folder}: no profile here ({', '.join(_NAMES)}); name one by --profile profiles/slurm")
        path = found[0]
    try:
        values = yte.process_yaml(path.read_text(encoding="utf-8"), require_use_yte=True)
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    except Exception as error:  # expressions in the file may raise anything
        raise StudyError(f"{path}: an expression failed: {type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise StudyError(f"{path}: a profile is a mapping of keys, found {type(values).__name__}")
    return Profile(path, values)
