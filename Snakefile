"""hardscale: how adversarial robustness scales with model size, defense compute and attack compute."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from hardscale.cli import (
    environment_file,
    makes_environments,
    prepare_environment,
    say_what_computes,
    study_files,
    study_of,
)
from hardscale.controller import cancel_left, claim, stop_on_signals
from hardscale.gangs import Launch
from hardscale.launch.orphans import cancel_waiting_orphans
from hardscale.launch.records import end_run
from hardscale.launch.silent_looks import keep_jobs_when_slurm_is_silent
from hardscale.paths import manifests
from hardscale.plan.jobs import Jobs
from hardscale.preflight import check_plan, check_sources
from hardscale.resources import Needs

STUDY = study_of(workflow)
JOBS = Jobs(STUDY)
NEEDS = Needs(STUDY, others=JOBS.helpers.beside)
LAUNCH = Launch.of_profile(workflow.resource_settings.default_resources)
ROOT = str(JOBS.layout.root)
STUDY_FILES = study_files(workflow)
CPU = environment_file(workflow.basedir, "cpu")
LM_EVAL = environment_file(workflow.basedir, "lm-eval")
check_plan(JOBS.holdings, LAUNCH, NEEDS)
if workflow.is_main_process:
    claim()
    say_what_computes(STUDY)
prepare_environment(workflow.basedir, JOBS.data_root, LAUNCH.site)


envvars:
    "HARDSCALE_SCRIPTS",


wildcard_constraints:
    task="[a-z][a-z0-9_]*",
    family="[a-z0-9._-]+",
    scale="[a-z0-9._-]+",
    cell=JOBS.holdings.cell_pattern(),
    lineage=JOBS.holdings.lineage_pattern(),
    round=r"\d\d+",
    part="[a-z0-9._-]+",
    figure="[a-z_]+",


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
