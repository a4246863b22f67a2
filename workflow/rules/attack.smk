"""Attacks: every named attack on every evaluated model, whole or in shards."""


rule attack:
    input:
        victim=f"{ROOT}/models/{{lineage}}/r{{round}}/manifest.json",
        task=JOBS.inputs.cell_task,
        helpers=JOBS.helpers.models,
        texts=JOBS.inputs.attack_files,
    output:
        manifest=f"{ROOT}/attacks/{{lineage}}/r{{round}}/{{part}}/manifest.json",
    log:
        f"{ROOT}/logs/attack/{{lineage}}/r{{round}}/{{part}}.log",
    benchmark:
        f"{ROOT}/benchmarks/attack/{{lineage}}/r{{round}}/{{part}}.tsv"
    conda:
        CPU
    threads: 1
    resources:
        **LAUNCH.device(NEEDS),
    params:
        spec=JOBS.specs.attack,
        code=JOBS.codes.attack,
        leases=f"{ROOT}/state/leases",
        helpers=JOBS.helpers.roles,
    message:
        "attack {wildcards.lineage} round {wildcards.round} with {wildcards.part}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/attack.py --spec {params.spec:q} --victim {input.victim:q} --task {input.task:q}'
        " --out {output.manifest:q} --leases {params.leases:q} --code {params.code:q} --log {log:q}"
        " {params.helpers:q}"
