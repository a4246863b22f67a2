"""Take a chat model as it is: round 0 of its cell, or a defense that somebody else trained."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from hardscale.artifacts.manifest import artifact_folder
from hardscale.runtime.console import console, say
from hardscale.runtime.instruction_set import KEY, PINNED, settle


def main() -> None:
    """Read the command line and publish the artifact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: cell, defense, round and, of a defense, external")
    parser.add_argument("--base", required=True, type=artifact_folder, help="base_model artifact of the cell")
    parser.add_argument("--task", required=True, type=artifact_folder, help="task artifact for chat models")
    parser.add_argument(
        "--root",
        type=Path,
        default=os.environ.get("HARDSCALE_DATA") or None,
        help="folder in hub layout, looked at before the hub",
    )
    parser.add_argument("--out", required=True, type=artifact_folder, help="artifact to publish")
    parser.add_argument("--log", type=Path, help="file for everything but progress and errors")
    args = parser.parse_args()
    spec = json.loads(args.spec)
    with console(args.log, f"import_model {spec['cell']}/{spec.get('defense', 'none')}"):
        settle(spec.get(KEY, PINNED))
        from hardscale.artifacts.manifest import read_manifest
        from hardscale.training.import_model import import_external, import_model

        if spec.get("external"):
            import_external(spec, args.base, args.task, args.out, args.root)
        else:
            import_model(spec, args.base, args.task, args.out)
        facts = read_manifest(args.out)["facts"]
        say(f"{facts['n_params']:,} parameters, chat template {facts['template_sha256'][:12]}")


if __name__ == "__main__":
    main()
