"""What runs in every rank of a distributed job: reads the job's command line, joins the ranks, trains.

Heavy libraries are imported here and below, never in the driver.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hardscale.launch.arguments import identity_of, outputs, parser, read_spec
from hardscale.launch.state import keep, naming_a_full_disk
from hardscale.runtime import pulse
from hardscale.runtime.instruction_set import KEY, PINNED, settle


def main(job: str, argv: list[str], meeting: Path | None) -> None:
    """Run one rank of a job.

    Args:
        job: one of :data:`~hardscale.launch.arguments.JOBS`.
        argv: the options of the entry.
        meeting: file where the ranks of one machine meet; None: at ``MASTER_ADDR:MASTER_PORT``.
    """
    began = time.monotonic()
    arguments = parser(job).parse_args(argv)
    spec = read_spec(arguments.spec)
    settle(spec.get(KEY, PINNED))
    from hardscale.training.options import RunOptions

    options = RunOptions(
        zero_stage=arguments.zero_stage,
        dtype=arguments.dtype,
        micro_batch=arguments.micro_batch,
        save_seconds=arguments.save_seconds,
        threads=arguments.threads,
        patience_seconds=arguments.patience_seconds,
        code=arguments.code,
    )
    from hardscale.training.distributed import start_group

    group = start_group(options.threads, meeting, options.patience_seconds)
    print(f"rank {group.rank} of {group.world} on {group.device}, pid {os.getpid()}", flush=True)
    outs = outputs(job, spec, arguments.out)
    state = arguments.state.absolute()
    with naming_a_full_disk(state, state / "checkpoints"):
        try:
            _run(job, spec, arguments, outs, group, options)
        finally:
            pulse.stop()
        if group.leader:
            keep(state, identity_of(job, spec, arguments), outs)
    print(f"rank {group.rank} done after {time.monotonic() - began:.1f} s", flush=True)


def _run(job: str, spec: dict[str, Any], arguments: Any, outs: list[Path], group: Any, options: Any) -> None:
    if job == "finetune":
        from hardscale.training.finetune import finetune

        finetune(spec, arguments.base, arguments.task, arguments.state, arguments.out, group, options)
    elif job == "adversarial_rounds":
        from hardscale.training.rounds import adversarial_rounds

        adversarial_rounds(spec, arguments.start, arguments.task, arguments.state, outs, group, options)
    elif job == "continuous":
        from hardscale.tasks.chat import texts_withheld
        from hardscale.untrusted.redaction import withholding_quotations

        if spec["settings"]["kind"] == "r2d2":
            from hardscale.training.continuous.r2d2 import r2d2 as continuous
        else:
            from hardscale.training.continuous.trainer import continuous
        with withholding_quotations(texts_withheld(arguments.task)):  # the ranks' logs are for everybody
            continuous(spec, arguments.start, arguments.task, arguments.state, arguments.out, group, options)
    elif job == "c_at":
        from hardscale.training.c_at import c_at

        c_at(spec, arguments.start, arguments.task, arguments.state, outs, group, options)
    else:
        from hardscale.training.pretrain import pretrain

        pretrain(spec, arguments.base, arguments.task, arguments.state, arguments.out, group, options)
