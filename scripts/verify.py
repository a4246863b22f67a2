"""Re-hash every artifact of a study, name those that are damaged and what to rerun; remove them if asked to."""

import argparse
from pathlib import Path

from hardscale.errors import ArtifactError
from hardscale.ops.cli import DEFAULT_STUDY, study_from_files
from hardscale.ops.controller import claim
from hardscale.ops.reference import artifacts, damages, remove, rerun_command, targets
from hardscale.plan.paths import StudyPaths
from hardscale.runtime.console import Progress, console, say


def main() -> None:
    """Parse arguments and run; exit status 1 when something is damaged, but 0 when --repair removed it."""
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--root", type=Path, help="results/<study>")
    which.add_argument("--study", type=Path, help="study file, its results in this folder")
    parser.add_argument("--configfile", nargs="*", default=[], help="study file, for the command that is printed")
    parser.add_argument("--repair", action="store_true", help="remove the damaged folders: the next run rebuilds them")
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    root, files = args.root, [name for name in args.configfile if name]
    if args.study:
        root = StudyPaths(study_from_files([args.study]).name).root
        files = [] if args.study == Path(DEFAULT_STUDY) else [str(args.study)]
    with console(args.log, "verify"):
        if args.repair:
            # Removing is a controller's work: not under the feet of another one.
            claim(root.absolute().parents[1] / ".snakemake", [])
        folders = artifacts(root)
        progress = Progress(len(folders), "verify", "artifact")
        found = damages(root, progress.update)
        progress.close()
        for damage in found:
            say(damage.reason)
        if not found:
            return
        if args.repair:
            remove(root, found)
            say(f"removed {len(found)} damaged folder(s) and nothing else; this builds them and what depends on them:")
            say(f"  {rerun_command(root, files)}")
            return
        say("remove them with verify.py --repair (make repair), then build them again, or leave out the targets to")
        say("build also what depends on them:")
        say(f"  {rerun_command(root, files, targets(root, found))}")
        n_folders = len(folders) + sum(one.half for one in found)
        raise ArtifactError(f"{root}: {len(found)} of {n_folders} artifacts are damaged, see above")


if __name__ == "__main__":
    main()
