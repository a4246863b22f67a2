"""Show how far a study is: jobs done, running, queued and failed, and how long the rest takes."""

import json
import sys
import time

from hardscale.ops.status import enter, parser
from hardscale.runtime.console import console


def main() -> None:
    """Parse arguments and print."""
    command = parser(__doc__)
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--watch", type=float, nargs="?", const=10.0, metavar="SECONDS", help="again and again")
    args = command.parse_args()
    with console(None, "status"):
        from hardscale.ops.job_state import survey
        from hardscale.ops.status import render, status

        jobs = enter(args)
        while True:
            facts = status(survey(jobs))
            text = json.dumps(facts, indent=1) if args.json else render(facts)
            clear = "\x1b[H\x1b[2J" if args.watch is not None and sys.stdout.isatty() else ""
            print(f"{clear}{text}", flush=True)
            if args.watch is None:
                return
            time.sleep(max(args.watch, 1.0))


if __name__ == "__main__":
    main()
