"""Attacks: every named attack on every evaluated model, whole or in shards."""


rule attack:
    input:
        victim=JOBS.attack.inputs.victim,
        task=JOBS.attack.inputs.task,
        helpers=JOBS.attack.inputs.helpers,
        texts=JOBS.attack.files.texts,
    output:
        manifest=JOBS.attack.outputs.manifest,
    log:
        JOBS.attack.log,
    benchmark:
        JOBS.attack.benchmark
    conda:
        CPU
    threads: 1
    resources:
        **LAUNCH.device(JOBS.needs(JOBS.attack)),
    params:
        spec=JOBS.attack.spec,
        code=JOBS.attack.code,
        leases=JOBS.leases,
        helpers=JOBS.helpers.roles,
    message:
        "attack {wildcards.lineage} round {wildcards.round} with {wildcards.part}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/attack.py --spec {params.spec:q} --victim {input.victim:q} --task {input.task:q}'
        " --out {output.manifest:q} --leases {params.leases:q} --code {params.code:q} --log {log:q}"
        " {params.helpers:q}"
