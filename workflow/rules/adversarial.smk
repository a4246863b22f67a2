"""Adversarial training: rounds of attack, pool, mix and train, a block of rounds a job."""

# Rounds are known from the study, so each distinct block of rounds is a rule with the rounds that stay as outputs:
# deleting one of them reruns its block and what depends on it. Of the other rounds only the record is kept, for people.
for block in JOBS.adversarial_rounds:

    rule:
        name:
            block.rule
        input:
            start=block.inputs.start,
            task=block.inputs.task,
        output:
            rounds=block.outputs.rounds,
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
            f"adversarial rounds {block.rounds.first} to {block.rounds.last} of {{wildcards.lineage}}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/adversarial_rounds.py --spec {params.spec:q} --start {input.start:q}'
            " --task {input.task:q} --state {params.state:q}"
            " --out {params.models:q} --log {log:q}"
            " --code {params.code} --launch {resources.launch} --nodes {resources.nodes} --gpus {resources.gpu}"
            " --mem-mb {resources.mem_mb} --minutes {resources.runtime} --zero-stage {resources.zero_stage}"
