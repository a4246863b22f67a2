"""Utility: what an evaluated chat model is good for besides being robust."""


rule utility:
    input:
        victim=JOBS.utility.inputs.victim,
        task=JOBS.utility.inputs.task,
    output:
        manifest=JOBS.utility.outputs.manifest,
    log:
        JOBS.utility.log,
    benchmark:
        JOBS.utility.benchmark
    conda:
        CPU
    threads: 1
    resources:
        **LAUNCH.device(JOBS.needs(JOBS.utility)),
    params:
        spec=JOBS.utility.spec,
        code=JOBS.utility.code,
    message:
        "measure the utility of {wildcards.lineage} round {wildcards.round}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/utility.py --spec {params.spec:q} --victim {input.victim:q} --task {input.task:q}'
        " --out {output.manifest:q} --log {log:q}"


JOBS.measures.name_interpreter()

if "lm_eval" in JOBS.measures.kinds:

    rule lm_eval:
        """Benchmarks by lm-evaluation-harness, in an interpreter of its own."""
        input:
            victim=JOBS.lm_eval.inputs.victim,
            task=JOBS.lm_eval.inputs.task,
            files=JOBS.lm_eval.files.files,
        output:
            manifest=JOBS.lm_eval.outputs.manifest,
        log:
            JOBS.lm_eval.log,
        benchmark:
            JOBS.lm_eval.benchmark
        conda:
            LM_EVAL
        threads: 1
        resources:
            **LAUNCH.device(JOBS.needs(JOBS.lm_eval)),
        params:
            spec=JOBS.lm_eval.spec,
            code=JOBS.lm_eval.code,
        message:
            "measure {wildcards.lineage} round {wildcards.round} with lm_eval"
        shell:
            'python "$HARDSCALE_SCRIPTS"/lm_eval_harness.py --spec {params.spec:q} --victim {input.victim:q}'
            " --task {input.task:q} --out {output.manifest:q} --log {log:q}"


if "mt_bench" in JOBS.measures.kinds:

    rule mt_bench:
        """Conversations of two turns, rated by another model."""
        input:
            victim=JOBS.mt_bench.inputs.victim,
            task=JOBS.mt_bench.inputs.task,
            judge=JOBS.mt_bench.inputs.judge,
            files=JOBS.mt_bench.files.files,
        output:
            manifest=JOBS.mt_bench.outputs.manifest,
        log:
            JOBS.mt_bench.log,
        benchmark:
            JOBS.mt_bench.benchmark
        conda:
            CPU
        threads: 1
        resources:
            **LAUNCH.device(JOBS.needs(JOBS.mt_bench)),
        params:
            spec=JOBS.mt_bench.spec,
            code=JOBS.mt_bench.code,
        message:
            "MT-Bench of {wildcards.lineage} round {wildcards.round}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/mt_bench.py --spec {params.spec:q} --victim {input.victim:q}'
            " --task {input.task:q} --judge {input.judge:q} --out {output.manifest:q} --log {log:q}"


if JOBS.chat.cells:

    rule collect_utility:
        input:
            attacks=JOBS.collect_utility.inputs.attacks,
            utility=JOBS.collect_utility.inputs.utility,
            measures=JOBS.collect_utility.inputs.measures,
        output:
            tables=JOBS.outputs_of.chat_tables(),
        log:
            JOBS.collect_utility.log,
        benchmark:
            JOBS.collect_utility.benchmark
        localrule: True
        conda:
            CPU
        resources:
            mem_mb=4000,
            runtime=60,
            head=1,
        params:
            spec=JOBS.collect_utility.spec,
            root=JOBS.root,
            tables=JOBS.collect_utility.folder,
            code=JOBS.collect_utility.code,
        message:
            "collect utility and losses"
        shell:
            'python "$HARDSCALE_SCRIPTS"/collect_utility.py --spec {params.spec:q} --root {params.root:q}'
            " --out {params.tables:q} --log {log:q}"
