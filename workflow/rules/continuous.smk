"""Chat models as they are, and defenses by attacks in embedding space."""


rule import_model:
    """A chat model becomes round 0 of its cell as it is; nothing is trained."""
    input:
        base=JOBS.inputs.cell_base,
        task=JOBS.inputs.cell_task,
    output:
        manifest=f"{ROOT}/models/{{cell}}/none/r00/manifest.json",
    log:
        f"{ROOT}/logs/adopt/{{cell}}.log",
    benchmark:
        f"{ROOT}/benchmarks/adopt/{{cell}}.tsv"
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
        spec=JOBS.specs.import_model,
        code=JOBS.codes.of("hardscale.training.import_model"),
    message:
        "take {wildcards.cell} as it is"
    shell:
        'python "$HARDSCALE_SCRIPTS"/import_model.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --out {output.manifest:q} --log {log:q}"


rule import_external:
    """A defense that somebody else trained."""
    input:
        base=JOBS.inputs.cell_base,
        task=JOBS.inputs.cell_task,
    output:
        manifest=f"{ROOT}/models/{{lineage}}/r01/manifest.json",
    log:
        f"{ROOT}/logs/adopt/{{lineage}}.log",
    benchmark:
        f"{ROOT}/benchmarks/adopt/{{lineage}}.tsv"
    wildcard_constraints:
        lineage=JOBS.grid.lineage_pattern(JOBS.chat.external()),
    localrule: True
    conda:
        CPU
    resources:
        mem_mb=NEEDS.mem_mb,
        runtime=NEEDS.runtime,
        head=1,
    params:
        spec=JOBS.specs.import_model,
        code=JOBS.codes.of("hardscale.training.import_model"),
    message:
        "take over {wildcards.lineage}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/import_model.py --spec {params.spec:q} --base {input.base:q} --task {input.task:q}'
        " --out {output.manifest:q} --log {log:q}"


rule continuous:
    """C-AdvUL, C-AdvIPO, R2D2 and what is compared with them."""
    input:
        start=JOBS.inputs.block_start(1),
        task=JOBS.inputs.cell_task,
    output:
        manifest=f"{ROOT}/models/{{lineage}}/r01/manifest.json",
    log:
        f"{ROOT}/logs/continuous/{{lineage}}.log",
    benchmark:
        f"{ROOT}/benchmarks/continuous/{{lineage}}.tsv"
    wildcard_constraints:
        lineage=JOBS.grid.lineage_pattern(JOBS.chat.trained()),
    localrule: True
    conda:
        CPU
    threads: LAUNCH.threads(NEEDS)
    resources:
        **LAUNCH.resources(NEEDS),
    params:
        spec=JOBS.specs.continuous,
        state=f"{ROOT}/state/{{lineage}}",
        code=JOBS.codes.continuous,
    message:
        "train {wildcards.lineage}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/continuous.py --spec {params.spec:q} --start {input.start:q} --task {input.task:q}'
        " --state {params.state:q} --out {output.manifest:q} --log {log:q}"
        " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
        " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"


# Continuous adversarial training of classifiers publishes equal stages of one training, all of them outputs.
for block in JOBS.chat.c_at_blocks:

    rule:
        name:
            block.name
        input:
            start=JOBS.inputs.block_start(1),
            task=JOBS.inputs.cell_task,
        output:
            stages=[
                f"{ROOT}/models/{{lineage}}/r{number:02d}/manifest.json"
                for number in block.kept
            ],
        log:
            f"{ROOT}/logs/c_at/{{lineage}}.log",
        benchmark:
            f"{ROOT}/benchmarks/c_at/{{lineage}}.tsv"
        wildcard_constraints:
            lineage=JOBS.grid.lineage_pattern(block.lineages),
        localrule: True
        conda:
            CPU
        threads: LAUNCH.threads(NEEDS)
        resources:
            **LAUNCH.resources(NEEDS),
        params:
            spec=JOBS.specs.c_at,
            state=f"{ROOT}/state/{{lineage}}",
            code=JOBS.codes.of("hardscale.training.c_at"),
            models=f"{ROOT}/models/{{lineage}}",
        message:
            "continuous adversarial training of {wildcards.lineage}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/c_at.py --spec {params.spec:q} --start {input.start:q} --task {input.task:q}'
            " --state {params.state:q} --out {params.models:q} --log {log:q}"
            " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
