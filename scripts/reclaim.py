"""List files of a study's folder that are no longer needed; with --yes, remove them."""

from hardscale.errors import ArtifactError
from hardscale.ops.status import enter, parser
from hardscale.plan.jobs import Jobs
from hardscale.runtime.console import console, printable


def main() -> None:
    """Parse arguments, list, remove."""
    command = parser(__doc__)
    command.add_argument("--yes", action="store_true", help="remove what is listed")
    command.add_argument("--orphans", action="store_true", help="also artifacts that the study no longer asks for")
    command.add_argument("--days", type=float, default=30.0, help="Slurm's logs are kept so long")
    args = command.parse_args()
    with console(None, "gc"):
        collect_garbage(enter(args), yes=args.yes, orphans=args.orphans, days=args.days)


def collect_garbage(jobs: Jobs, *, yes: bool, orphans: bool, days: float) -> None:
    """Print the list, then remove what is on it when told to: as the only controller, so that none starts meanwhile.

    Raises:
        ArtifactError: nothing may be removed now, or something could not be.
    """
    from hardscale.ops.controller import claim
    from hardscale.ops.disk import freed
    from hardscale.ops.garbage import ORPHAN, garbage, refusal, remove, strangers
    from hardscale.ops.job_state import survey
    from hardscale.ops.status import size

    if yes:
        claim(argv=())
    found = survey(jobs)
    items = garbage(found, orphans=orphans, log_days=days)
    sizes = freed(item.path for item in items)
    for item in items:
        print(printable(f"{item.kind:9}  {size(sizes[item.path]):>10}  {item.path}"))
    total = f"{len(items)} things, {size(sum(sizes.values()))}"
    if unknown := strangers(found):
        print(printable(f"drafts and state are left alone: {unknown}"))
    reason = refusal(found)
    if not yes:
        print(f"{total}; nothing was removed, --yes removes them", *[printable(f"(not now: {reason})")] * bool(reason))
        return
    if reason:
        raise ArtifactError(f"nothing was removed: {reason}")
    stayed = [(item, why) for item, why in remove(items) if why]
    gone = sum(sizes.values()) - sum(sizes[item.path] for item, _ in stayed)
    print(f"{len(items) - len(stayed)} of {len(items)} things removed, {size(gone)} given back")
    if any(item.kind == ORPHAN and "attacks" in item.path.parts for item in items):
        print("tables may still hold removed attacks; `snakemake --forcerun collect` makes them again without")
    if stayed:
        item, why = stayed[0]
        raise ArtifactError(f"{item.path}: stayed ({why})" + (f"; so did {len(stayed) - 1} more" * (len(stayed) > 1)))


if __name__ == "__main__":
    main()
