"""Models before finetuning: from the hub, a local folder, or made here."""


rule prepare_model:
    input:
        files=JOBS.inputs.model_files,
        tasks=JOBS.inputs.base_tasks,
    output:
        manifest=f"{ROOT}/base/{{family}}/{{scale}}/manifest.json",
    log:
        f"{ROOT}/logs/prepare_model/{{family}}/{{scale}}.log",
    benchmark:
        f"{ROOT}/benchmarks/prepare_model/{{family}}/{{scale}}.tsv"
    conda:
        CPU
    resources:
        mem_mb=NEEDS.mem_mb,
        runtime=NEEDS.runtime,
        head=1,
        # Not among params: what a study asks of a model never makes it anew.
        demands=JOBS.demands.of_model,
    params:
        spec=JOBS.specs.model,
        code=JOBS.codes.of("hardscale.models.prepare"),
    message:
        "prepare model {wildcards.family} {wildcards.scale}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/prepare_model.py --spec {params.spec:q} --task {input.tasks:q}'
        " --demands {resources.demands:q} --out {output.manifest:q} --log {log:q}"


rule pretrain:
    input:
        base=f"{ROOT}/base/{{family}}/{{scale}}/manifest.json",
        tasks=JOBS.inputs.base_tasks,
    output:
        manifest=f"{ROOT}/pretrained/{{family}}/{{scale}}/manifest.json",
    log:
        f"{ROOT}/logs/pretrain/{{family}}/{{scale}}.log",
    benchmark:
        f"{ROOT}/benchmarks/pretrain/{{family}}/{{scale}}.tsv"
    conda:
        CPU
    threads: LAUNCH.threads(NEEDS)
    resources:
        **LAUNCH.resources(NEEDS.of("pretrain")),
    params:
        spec=JOBS.specs.pretrain,
        state=f"{ROOT}/state/pretrained/{{family}}/{{scale}}",
        code=JOBS.codes.of("hardscale.training.pretrain"),
    message:
        "pretrain {wildcards.family} {wildcards.scale}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/pretrain.py --spec {params.spec:q} --base {input.base:q} --task {input.tasks:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
