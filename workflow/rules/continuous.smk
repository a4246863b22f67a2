"""Chat models as they are, and defenses that train once or in stages."""


rule import_model:
    """A chat model becomes round 0 of its cell as it is; nothing is trained."""
    input:
        base=JOBS.import_model.inputs.base,
        task=JOBS.import_model.inputs.task,
    output:
        manifest=JOBS.import_model.outputs.manifest,
    log:
        JOBS.import_model.log,
    benchmark:
        JOBS.import_model.benchmark
    wildcard_constraints:
        cell=JOBS.grid.cell_pattern(chat=True),
    localrule: True
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        spec=JOBS.import_model.spec,
        code=JOBS.import_model.code,
    message:
        "take {wildcards.cell} as it is"
    shell:
        'python "$HARDSCALE_SCRIPTS"/import_model.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --out {output.manifest:q} --log {log:q}"


rule import_external:
    """A defense that somebody else trained."""
    input:
        base=JOBS.import_external.inputs.base,
        task=JOBS.import_external.inputs.task,
    output:
        manifest=JOBS.import_external.outputs.manifest,
    log:
        JOBS.import_external.log,
    benchmark:
        JOBS.import_external.benchmark
    wildcard_constraints:
        lineage=JOBS.grid.lineage_pattern(JOBS.import_external.lineages),
    localrule: True
    conda:
        CPU
    resources:
        mem_mb=JOBS.needs(JOBS.import_external).mem_mb,
        runtime=JOBS.needs(JOBS.import_external).runtime,
        head=1,
    params:
        spec=JOBS.import_external.spec,
        code=JOBS.import_external.code,
    message:
        "take over {wildcards.lineage}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/import_model.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --out {output.manifest:q} --log {log:q}"


rule continuous:
    """C-AdvUL, C-AdvIPO, R2D2 and what is compared with them."""
    input:
        start=JOBS.continuous.inputs.start,
        task=JOBS.continuous.inputs.task,
    output:
        manifest=JOBS.continuous.outputs.manifest,
    log:
        JOBS.continuous.log,
    benchmark:
        JOBS.continuous.benchmark
    wildcard_constraints:
        lineage=JOBS.grid.lineage_pattern(JOBS.continuous.lineages),
    localrule: True
    conda:
        CPU
    threads: LAUNCH.threads(JOBS.needs(JOBS.continuous))
    resources:
        **LAUNCH.resources(JOBS.needs(JOBS.continuous)),
    params:
        spec=JOBS.continuous.spec,
        state=JOBS.continuous.state,
        code=JOBS.continuous.code,
    message:
        "train {wildcards.lineage}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/continuous.py --spec {params.spec:q} --start {input.start:q} --task {input.task:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"


# Continuous adversarial training of classifiers publishes equal stages of one training, all of them outputs.
for block in JOBS.c_at:

    rule:
        name:
            block.rule
        input:
            start=block.inputs.start,
            task=block.inputs.task,
        output:
            stages=block.outputs.stages,
        log:
            block.log,
        benchmark:
            block.benchmark
        wildcard_constraints:
            lineage=JOBS.grid.lineage_pattern(block.lineages),
        localrule: True
        conda:
            CPU
        threads: LAUNCH.threads(JOBS.needs(block))
        resources:
            **LAUNCH.resources(JOBS.needs(block)),
        params:
            spec=block.spec,
            state=block.state,
            code=block.code,
            models=block.models,
        message:
            "continuous adversarial training of {wildcards.lineage}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/c_at.py --spec {params.spec:q} --start {input.start:q} --task {input.task:q}'
            " --state {params.state:q} --out {params.models:q} --log {log:q}"
            " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
