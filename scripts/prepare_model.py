"""Prepare a base model: a local folder from the hub, a path or a .gguf file, or a tokenizer and shape made here."""

from __future__ import annotations

import hardscale.runtime.pinned  # noqa: F401

import argparse
import json
import os
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder
from hardscale.runtime.console import console, say


def main() -> None:
    """Read the command line and publish the artifact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: family, scale, settings of the family, seed")
    parser.add_argument("--task", nargs="*", type=artifact_folder, default=[], help="task artifacts (scratch families)")
    parser.add_argument(
        "--root",
        type=Path,
        default=os.environ.get("HARDSCALE_DATA") or None,
        help="folder in hub layout, looked at before the hub",
    )
    parser.add_argument("--demands", default="[]", help="JSON: lengths and vocabulary that the study asks for")
    parser.add_argument("--out", required=True, type=artifact_folder, help="artifact to publish")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    spec = json.loads(args.spec)
    with console(args.log, f"prepare_model {spec['family']}/{spec['scale']}"):
        from hardscale.artifacts.manifest import read_manifest
        from hardscale.models.fit import unpacked
        from hardscale.models.prepare import prepare_model
        from hardscale.settings.models import FamilySettings

        settings = FamilySettings.model_validate(spec["settings"])
        name, seed = (spec["family"], spec["scale"]), spec["seed"]
        prepare_model(*name, settings, args.task, args.out, seed, args.root, unpacked(args.demands))
        facts = read_manifest(args.out)["facts"]
        kind = "classifier" if facts["classifier_parameters"] else "language model"
        n_params = facts["classifier_parameters"] or facts["generative_parameters"]
        say(f"{facts['source']} ({facts['revision']}): {n_params:,} parameters as a {kind}")


if __name__ == "__main__":
    main()
