"""Finetuning: the undefended classifier of every cell."""


rule finetune:
    input:
        base=JOBS.inputs.cell_base,
        task=JOBS.inputs.cell_task,
    output:
        manifest=f"{ROOT}/models/{{cell}}/none/r00/manifest.json",
    log:
        f"{ROOT}/logs/finetune/{{cell}}.log",
    benchmark:
        f"{ROOT}/benchmarks/finetune/{{cell}}.tsv"
    wildcard_constraints:
        cell=JOBS.grid.cell_pattern(chat=False),
    conda:
        CPU
    threads: LAUNCH.threads(NEEDS)
    resources:
        **LAUNCH.resources(NEEDS),
    params:
        spec=JOBS.specs.finetune,
        state=f"{ROOT}/state/{{cell}}/none",
        code=JOBS.codes.of("hardscale.training.finetune"),
    message:
        "finetune {wildcards.cell}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/finetune.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
