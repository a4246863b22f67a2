"""Reproduce a study unattended: check what is on disk, make a sample of it again, or all of it; record what drifted.

Called by cron through ``cron.sh``; ``--help`` and docs/cron.md say more, the exit statuses among it.
"""

import sys

from hardscale.ops.cron_arguments import parse
from hardscale.ops.outcome import StoppedError
from hardscale.runtime.console import console, say


def main() -> None:
    """Parse arguments and run."""
    args = parse(sys.argv[1:])
    with console(None, "cron"):
        from hardscale.ops.cron import run

        try:
            status = run(args)
        except StoppedError as stop:
            say(f"error: {stop}")
            status = stop.status
    raise SystemExit(status)


if __name__ == "__main__":
    main()
