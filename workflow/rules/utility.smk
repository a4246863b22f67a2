"""Utility: what an evaluated chat model is good for besides being robust."""


rule utility:
    input:
        victim=f"{ROOT}/models/{{lineage}}/r{{round}}/manifest.json",
        task=JOBS.inputs.cell_task,
    output:
        manifest=f"{ROOT}/utility/{{lineage}}/r{{round}}/manifest.json",
    log:
        f"{ROOT}/logs/utility/{{lineage}}/r{{round}}.log",
    benchmark:
        f"{ROOT}/benchmarks/utility/{{lineage}}/r{{round}}.tsv"
    conda:
        CPU
    threads: 1
    resources:
        **LAUNCH.device(NEEDS),
    params:
        spec=JOBS.specs.utility,
        code=JOBS.codes.of("hardscale.evaluation.utility_job"),
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
            victim=f"{ROOT}/models/{{lineage}}/r{{round}}/manifest.json",
            task=JOBS.inputs.cell_task,
            files=JOBS.measures.lm_eval_files(),
        output:
            manifest=f"{ROOT}/lm_eval/{{lineage}}/r{{round}}/manifest.json",
        log:
            f"{ROOT}/logs/lm_eval/{{lineage}}/r{{round}}.log",
        benchmark:
            f"{ROOT}/benchmarks/lm_eval/{{lineage}}/r{{round}}.tsv"
        conda:
            LM_EVAL
        threads: 1
        resources:
            **LAUNCH.device(NEEDS),
        params:
            spec=JOBS.measures.lm_eval_spec,
            code=JOBS.codes.of(
                "hardscale.evaluation.lm_eval_job",
                "hardscale.evaluation.lm_eval_worker",
            ),
        message:
            "measure {wildcards.lineage} round {wildcards.round} with lm_eval"
        shell:
            'python "$HARDSCALE_SCRIPTS"/lm_eval_harness.py --spec {params.spec:q} --victim {input.victim:q}'
            " --task {input.task:q} --out {output.manifest:q} --log {log:q}"


if "mt_bench" in JOBS.measures.kinds:

    rule mt_bench:
        """Conversations of two turns, rated by another model."""
        input:
            victim=f"{ROOT}/models/{{lineage}}/r{{round}}/manifest.json",
            task=JOBS.inputs.cell_task,
            judge=JOBS.measures.rating_models(),
            files=JOBS.measures.mt_bench_files(),
        output:
            manifest=f"{ROOT}/mt_bench/{{lineage}}/r{{round}}/manifest.json",
        log:
            f"{ROOT}/logs/mt_bench/{{lineage}}/r{{round}}.log",
        benchmark:
            f"{ROOT}/benchmarks/mt_bench/{{lineage}}/r{{round}}.tsv"
        conda:
            CPU
        threads: 1
        resources:
            **LAUNCH.device(NEEDS.beside(JOBS.measures.raters)),
        params:
            spec=JOBS.measures.mt_bench_spec,
            code=JOBS.codes.of("hardscale.evaluation.mt_bench_job"),
        message:
            "MT-Bench of {wildcards.lineage} round {wildcards.round}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/mt_bench.py --spec {params.spec:q} --victim {input.victim:q}'
            " --task {input.task:q} --judge {input.judge:q} --out {output.manifest:q} --log {log:q}"


if JOBS.chat.cells:

    rule collect_utility:
        input:
            attacks=manifests(JOBS.chat.attack_folders()),
            utility=manifests(JOBS.chat.utility_folders()),
            measures=manifests(JOBS.measures.folders()),
        output:
            tables=JOBS.outputs_of.chat_tables(),
        log:
            f"{ROOT}/logs/collect_utility.log",
        benchmark:
            f"{ROOT}/benchmarks/collect_utility.tsv"
        localrule: True
        conda:
            CPU
        resources:
            mem_mb=4000,
            runtime=60,
            head=1,
        params:
            spec=JOBS.specs.collect,
            root=ROOT,
            code=JOBS.codes.of(
                "hardscale.evaluation.chat_tables",
                "hardscale.analysis.gains",
                "hardscale.analysis.loss_correlation",
            ),
        message:
            "collect utility and losses"
        shell:
            'python "$HARDSCALE_SCRIPTS"/collect_utility.py --spec {params.spec:q} --root {params.root:q}'
            " --out {params.root:q}/tables --log {log:q}"
