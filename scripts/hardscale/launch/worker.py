"""What runs in every rank of a distributed job: reads the job's command line, joins the ranks, trains.

Heavy libraries are imported here and below, never in the driver.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from pathlib import Path
from typing import Any

from hardscale.launch.arguments import identity_of, outputs, parser, read_spec, training_of
from hardscale.launch.state import keep, naming_a_full_disk
from hardscale.runtime import pulse
from hardscale.runtime.instruction_set import KEY, PINNED, settle


def main(job: str, argv: list[str], meeting: Path | None) -> None:
    """Run one rank of a job.

    Args:
        job: one of the distributed ones of :data:`hardscale.plan.table.TABLE`.
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
    """Train: by the job's own trainer, or by that which the settings block of its defense names."""
    training = training_of(job)
    trainer, withheld = training.trainer, False
    if trainer is None:
        from hardscale.settings.study_defenses import DEFENSE_KINDS

        block = DEFENSE_KINDS[spec["settings"]["kind"]]
        trainer, withheld = block.trainer, block.victims == "chat"
    module, _, function = str(trainer).partition(":")
    train = getattr(importlib.import_module(module), function)
    inputs = [getattr(arguments, option) for option in training.inputs]
    with _quotations_withheld(arguments.task) if withheld else contextlib.nullcontext():
        train(spec, *inputs, arguments.state, outs if training.several else arguments.out, group, options)


def _quotations_withheld(task: Path) -> contextlib.AbstractContextManager[None]:
    """No text of a task for chat models in an error: the logs of ranks are for everybody."""
    from hardscale.tasks.chat import texts_withheld
    from hardscale.untrusted.redaction import withholding_quotations

    return withholding_quotations(texts_withheld(task))
