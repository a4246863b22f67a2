"""Adversarial training: rounds of attack, pool, mix and train, a block of rounds a job."""

# Rounds are known from the study, so each distinct block of rounds is a rule with the rounds that stay as outputs:
# deleting one of them reruns its block and what depends on it. Of the other rounds only the record is kept, for people.
for block in JOBS.grid.blocks:

    rule:
        name:
            block.name
        input:
            start=JOBS.inputs.block_start(block.first),
            task=JOBS.inputs.cell_task,
        output:
            rounds=[
                f"{ROOT}/models/{{lineage}}/r{number:02d}/manifest.json"
                for number in block.kept
            ],
        log:
            f"{ROOT}/logs/adversarial_rounds/{{lineage}}/r{block.first:02d}.log",
        benchmark:
            f"{ROOT}/benchmarks/adversarial_rounds/{{lineage}}/r{block.first:02d}.tsv"
        wildcard_constraints:
            lineage=JOBS.grid.lineage_pattern(block.lineages),
        localrule: True
        conda:
            CPU
        threads: LAUNCH.threads(NEEDS)
        resources:
            **LAUNCH.resources(NEEDS),
        params:
            spec=JOBS.specs.rounds(block),
            state=f"{ROOT}/state/{{lineage}}/r{block.first:02d}",
            code=JOBS.codes.rounds,
            models=f"{ROOT}/models/{{lineage}}",
        message:
            f"adversarial rounds {block.first} to {block.last} of {{wildcards.lineage}}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/adversarial_rounds.py --spec {params.spec:q} --start {input.start:q}'
            " --task {input.task:q} --state {params.state:q}"
            " --out {params.models:q} --log {log:q}"
            " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
