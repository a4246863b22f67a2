"""Adversarial training: rounds of attack, pool, mix and train, a block of rounds a job."""

# Rounds are known from the study, so each distinct block of rounds is a rule with its rounds as outputs: deleting the
# result of one round reruns its block and what depends on it.
for first, last in JOBS.blocks:

    rule:
        name:
            f"adversarial_rounds_{first:02d}_{last:02d}"
        input:
            start=JOBS.block_start(first),
            task=JOBS.cell_task,
        output:
            rounds=[
                f"{ROOT}/models/{{lineage}}/r{number:02d}/manifest.json"
                for number in range(first, last + 1)
            ],
        log:
            f"{ROOT}/logs/adversarial_rounds/{{lineage}}/r{first:02d}.log",
        benchmark:
            f"{ROOT}/benchmarks/adversarial_rounds/{{lineage}}/r{first:02d}.tsv"
        wildcard_constraints:
            lineage=JOBS.lineage_pattern(JOBS.blocks[first, last]),
        localrule: True
        conda:
            "../../envs/cpu.yaml"
        threads: LAUNCH.threads(NEEDS)
        resources:
            **LAUNCH.resources(NEEDS),
            mem_mb=NEEDS.mem_mb,
            runtime=NEEDS.runtime,
            disk_mb=NEEDS.disk_mb,
        params:
            spec=JOBS.rounds_spec(first, last),
            state=f"{ROOT}/state/{{lineage}}/r{first:02d}",
            code=JOBS.rounds_code,
        message:
            f"adversarial rounds {first} to {last} of {{wildcards.lineage}}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/adversarial_rounds.py --spec {params.spec:q} --start {input.start:q}'
            " --task {input.task:q} --state {params.state:q}"
            " --out {output.rounds:q} --log {log:q}"
            " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
