"""Finetuning: the undefended classifier of every cell."""


rule finetune:
    input:
        base=JOBS.finetune.inputs.base,
        task=JOBS.finetune.inputs.task,
    output:
        manifest=JOBS.finetune.outputs.manifest,
    log:
        JOBS.finetune.log,
    benchmark:
        JOBS.finetune.benchmark
    wildcard_constraints:
        cell=JOBS.grid.cell_pattern(chat=False),
    conda:
        CPU
    threads: LAUNCH.threads(JOBS.needs(JOBS.finetune))
    resources:
        **LAUNCH.resources(JOBS.needs(JOBS.finetune)),
    params:
        spec=JOBS.finetune.spec,
        state=JOBS.finetune.state,
        code=JOBS.finetune.code,
    message:
        "finetune {wildcards.cell}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/finetune.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
