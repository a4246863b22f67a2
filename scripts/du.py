"""Show what a study takes on disk, by kind and by the largest folders, and what gc would give back."""

from hardscale.ops.status import enter, parser
from hardscale.plan.jobs import Jobs
from hardscale.runtime.console import console, printable

_LARGEST = 10


def main() -> None:
    """Parse arguments and print."""
    args = parser(__doc__).parse_args()
    with console(None, "du"):
        print(printable(disk_use(enter(args))))


def disk_use(jobs: Jobs) -> str:
    """Tables of kinds and of the largest folders, and one line on what gc would free."""
    from hardscale.ops.disk import freed, usage
    from hardscale.ops.garbage import garbage
    from hardscale.ops.job_state import survey
    from hardscale.ops.status import size, table

    kinds, places = usage(jobs.layout)
    rows = [[kind, u.files, size(u.apparent), size(u.used)] for kind, u in kinds.items() if u.files]
    rows.append(
        [
            "all",
            sum(u.files for u in kinds.values()),
            size(sum(u.apparent for u in kinds.values())),
            size(sum(u.used for u in kinds.values())),
        ]
    )
    largest = sorted(places.items(), key=lambda entry: -entry[1].used)[:_LARGEST]
    items = garbage(survey(jobs))
    free = size(sum(freed(item.path for item in items).values()))
    return "\n\n".join(
        [
            table(["", "files", "length", "on disk"], rows),
            "largest\n" + "\n".join(f"{size(u.used):>10}  {place}" for place, u in largest),
            f"gc would give back {free} ({len(items)} things)",
        ]
    )


if __name__ == "__main__":
    main()
