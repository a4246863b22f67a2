"""Attacks: every named attack on every evaluated model, whole or in shards."""


rule attack:
    input:
        victim=f"{ROOT}/models/{{lineage}}/r{{round}}/manifest.json",
        task=JOBS.cell_task,
        helpers=JOBS.chat.attack_models,
    output:
        manifest=f"{ROOT}/attacks/{{lineage}}/r{{round}}/{{part}}/manifest.json",
    log:
        f"{ROOT}/logs/attack/{{lineage}}/r{{round}}/{{part}}.log",
    benchmark:
        f"{ROOT}/benchmarks/attack/{{lineage}}/r{{round}}/{{part}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        **LAUNCH.device(NEEDS),
    params:
        spec=JOBS.attack_spec,
        code=JOBS.attack_code,
        leases=f"{ROOT}/state/leases",
        helpers=JOBS.chat.attack_roles,
    message:
        "attack {wildcards.lineage} round {wildcards.round} with {wildcards.part}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/attack.py --spec {params.spec:q} --victim {input.victim:q} --task {input.task:q}'
        " --out {output.manifest:q} --leases {params.leases:q} --code {params.code:q} --log {log:q}"
        " {params.helpers:q}"
