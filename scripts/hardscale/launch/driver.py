"""The body of a gang entry: command line, log, gang."""

from __future__ import annotations

import sys

from hardscale.console import console
from hardscale.errors import TrainingError
from hardscale.launch.arguments import parser, read_spec
from hardscale.launch.gang import run_gang


def drive(job: str, argv: list[str] | None = None) -> None:
    """Run a gang job from its command line and wait for it; exits with a status.

    Args:
        job: ``finetune``, ``adversarial_rounds`` or ``pretrain``.
        argv: options; those of this process when None.
    """
    options = sys.argv[1:] if argv is None else argv
    arguments = parser(job).parse_args(options)
    label = _label(job, arguments.spec)
    with console(arguments.log, label):
        spec = read_spec(arguments.spec)
        run_gang(
            [job, *options],
            ranks=int(spec.get("ranks", 1)),
            state=arguments.state.absolute(),
            launch=arguments.launch,
            label=label,
            threads=arguments.threads,
            log=arguments.log,
        )


def _label(job: str, spec_option: str) -> str:
    """What the terminal calls this job: enough to tell it from the others of a study."""
    try:
        spec = read_spec(spec_option)
    except TrainingError:
        return job
    names = ("cell", "defense", "family", "scale")
    return " ".join([job, "/".join(str(spec[name]) for name in names if name in spec)])
