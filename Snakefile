"""hardscale: how adversarial robustness scales with model size, defence compute and attack compute."""

import gc
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.19")
# A plan is millions of objects that all stay: searching them for garbage over and over costs a tenth of the time.
gc.set_threshold(200_000, 50, 100)

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from hardscale.cli import prepare_environment, study_of
from hardscale.controller import cancel_left, claim, stop_on_signals
from hardscale.digest import code_digest
from hardscale.gangs import Launch
from hardscale.jobs import FIGURES, Jobs, manifests
from hardscale.launch.orphans import cancel_waiting_orphans
from hardscale.launch.records import end_run
from hardscale.preflight import check_folder, check_sources
from hardscale.resources import Needs

STUDY = study_of(workflow)
JOBS = Jobs(STUDY)
NEEDS = Needs(STUDY)
LAUNCH = Launch.of_profile(workflow.resource_settings.default_resources)
ROOT = str(JOBS.layout.root)
check_folder(JOBS.layout.root)
if workflow.is_main_process:
    claim()
prepare_environment(workflow.basedir, JOBS.data_root, LAUNCH.site)


envvars:
    "HARDSCALE_SCRIPTS",


wildcard_constraints:
    task="[a-z][a-z0-9_]*",
    family="[a-z0-9._-]+",
    scale="[a-z0-9._-]+",
    cell=JOBS.cell_pattern(),
    lineage=JOBS.lineage_pattern(),
    round=r"\d\d+",
    part="[a-z0-9._-]+",
    figure="[a-z_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/adversarial.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/ops.smk"


onstart:
    check_sources(STUDY, JOBS.layout.root)
    stop_on_signals()
    if LAUNCH.how == "slurm":
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
