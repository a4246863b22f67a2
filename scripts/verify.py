"""Re-hash every artefact of a study and name those that differ from their manifest."""

import argparse
from pathlib import Path

from hardscale.artifacts.manifest import MANIFEST, verify
from hardscale.console import Progress, console, say
from hardscale.errors import ArtifactError


def main() -> None:
    """Parse arguments and run; exit status 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="results/<study>")
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    with console(args.log, "verify"):
        folders = [path.parent for path in sorted(args.root.rglob(MANIFEST)) if "state" not in path.parts]
        progress, bad = Progress(len(folders), "verify", "artefact"), 0
        for folder in folders:
            try:
                verify(folder)
            except ArtifactError as error:
                bad += 1
                say(str(error))
            progress.update()
        progress.close()
        if bad:
            raise ArtifactError(f"{args.root}: {bad} of {len(folders)} artefacts differ from their manifests")


if __name__ == "__main__":
    main()
