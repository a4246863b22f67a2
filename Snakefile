"""hardscale: how adversarial robustness scales with model size, defense compute and attack compute."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from hardscale.ops.cli import (
    environment_file,
    makes_environments,
    prepare_environment,
    say_notes,
    study_files,
    study_of,
)
from hardscale.ops.controller import cancel_left, claim, stop_on_signals
from hardscale.plan.launching import Launch
from hardscale.launch.queue import cancel_waiting_orphans
from hardscale.launch.state import end_run
from hardscale.launch.silent_looks import keep_jobs_when_slurm_is_silent
from hardscale.plan.jobs import Jobs
from hardscale.ops.preflight import check_plan, check_sources

STUDY = study_of(workflow)
JOBS = Jobs(STUDY)
LAUNCH = Launch.of_profile(workflow.resource_settings.default_resources)
STUDY_FILES = study_files(workflow)
CPU = environment_file(workflow.basedir, "cpu")
LM_EVAL = environment_file(workflow.basedir, "lm-eval")
check_plan(JOBS, LAUNCH)
if workflow.is_main_process:
    claim()
    say_notes(STUDY, LAUNCH)
prepare_environment(workflow.basedir, JOBS.data_root, LAUNCH.site)


envvars:
    "HARDSCALE_SCRIPTS",


wildcard_constraints:
    task="[a-z][a-z0-9_]*",
    family="[a-z0-9._-]+",
    scale="[a-z0-9._-]+",
    cell=JOBS.grid.cell_pattern(),
    lineage=JOBS.grid.lineage_pattern(),
    round=r"\d\d+",
    part="[a-z0-9._-]+",


for phase in JOBS.phases:

    include: f"workflow/rules/{phase}.smk"


onstart:
    check_sources(STUDY, JOBS.layout.root, makes_environments(workflow))
    stop_on_signals()
    if LAUNCH.how == "slurm":
        keep_jobs_when_slurm_is_silent()
        cancel_waiting_orphans()


onsuccess:
    end_run()


onerror:
    cancel_left(workflow)
    end_run()


rule all:
    default_target: True
    input:
        JOBS.targets(),
