"""Models before finetuning: from the hub, a local folder, or made here."""


rule prepare_model:
    input:
        files=JOBS.prepare_model.files.files,
        tasks=JOBS.prepare_model.inputs.tasks,
    output:
        manifest=JOBS.prepare_model.outputs.manifest,
    log:
        JOBS.prepare_model.log,
    benchmark:
        JOBS.prepare_model.benchmark
    conda:
        CPU
    resources:
        mem_mb=JOBS.needs(JOBS.prepare_model).mem_mb,
        runtime=JOBS.needs(JOBS.prepare_model).runtime,
        head=1,
        # Not among params: what a study asks of a model never makes it anew.
        demands=JOBS.demands.of_model,
    params:
        spec=JOBS.prepare_model.spec,
        code=JOBS.prepare_model.code,
    message:
        "prepare model {wildcards.family} {wildcards.scale}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/prepare_model.py --spec {params.spec:q} --task {input.tasks:q}'
        " --demands {resources.demands:q} --out {output.manifest:q} --log {log:q}"


rule pretrain:
    input:
        base=JOBS.pretrain.inputs.base,
        tasks=JOBS.pretrain.inputs.tasks,
    output:
        manifest=JOBS.pretrain.outputs.manifest,
    log:
        JOBS.pretrain.log,
    benchmark:
        JOBS.pretrain.benchmark
    conda:
        CPU
    threads: LAUNCH.threads(JOBS.needs(JOBS.pretrain))
    resources:
        **LAUNCH.resources(JOBS.needs(JOBS.pretrain)),
    params:
        spec=JOBS.pretrain.spec,
        state=JOBS.pretrain.state,
        code=JOBS.pretrain.code,
    message:
        "pretrain {wildcards.family} {wildcards.scale}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/pretrain.py --spec {params.spec:q} --base {input.base:q} --task {input.tasks:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
