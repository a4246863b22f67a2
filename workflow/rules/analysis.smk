"""Tables: one tidy table of all runs, the fits, the claims and a summary to read."""


rule collect:
    input:
        # An attack is rerun when its model changes, so it stands for the facts of its model too.
        attacks=JOBS.collect.inputs.attacks,
    output:
        runs=JOBS.collect.outputs.runs,
        csv=JOBS.collect.outputs.csv,
    log:
        JOBS.collect.log,
    benchmark:
        JOBS.collect.benchmark
    conda:
        CPU
    resources:
        mem_mb=4000,
        runtime=60,
        head=1,
    params:
        spec=JOBS.collect.spec,
        root=JOBS.root,
        code=JOBS.collect.code,
    message:
        "collect all runs"
    shell:
        'python "$HARDSCALE_SCRIPTS"/collect.py --spec {params.spec:q} --root {params.root:q}'
        " --out {output.runs:q} --csv {output.csv:q} --log {log:q}"


rule fit:
    input:
        runs=JOBS.fit.inputs.runs,
    output:
        fits=JOBS.fit.outputs.fits,
        csv=JOBS.fit.outputs.csv,
    log:
        JOBS.fit.log,
    benchmark:
        JOBS.fit.benchmark
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        headline=JOBS.fit.spec,
        targets=STUDY.analysis.target_asr,
        code=JOBS.fit.code,
    message:
        "fit scaling laws"
    shell:
        'python "$HARDSCALE_SCRIPTS"/fit.py --runs {input.runs:q} --out {output.fits:q} --csv {output.csv:q}'
        " --headline {params.headline:q} --target-asr {params.targets} --log {log:q}"


rule claims:
    input:
        # The table names a digest of every attack's rows, so it changes when any of them does.
        runs=JOBS.claims.inputs.runs,
    output:
        claims=JOBS.claims.outputs.claims,
        csv=JOBS.claims.outputs.csv,
    log:
        JOBS.claims.log,
    benchmark:
        JOBS.claims.benchmark
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        attacks=JOBS.attack.folder,
        models=JOBS.finetune.folder,
        headline=JOBS.claims.spec,
        code=JOBS.claims.code,
    message:
        "test the study's claims"
    shell:
        'python "$HARDSCALE_SCRIPTS"/claims.py --runs {input.runs:q} --attacks {params.attacks:q}'
        " --models {params.models:q} --headline {params.headline:q}"
        " --out {output.claims:q} --csv {output.csv:q} --log {log:q}"


rule cost:
    input:
        models=JOBS.cost.inputs.models,
    output:
        cost=JOBS.cost.outputs.cost,
        csv=JOBS.cost.outputs.csv,
    log:
        JOBS.cost.log,
    benchmark:
        JOBS.cost.benchmark
    conda:
        CPU
    resources:
        mem_mb=1000,
        runtime=30,
        head=1,
    params:
        spec=JOBS.cost.spec,
        root=JOBS.root,
        code=JOBS.cost.code,
    message:
        "add up the cost of the defenses"
    shell:
        'python "$HARDSCALE_SCRIPTS"/cost.py --spec {params.spec:q} --root {params.root:q}'
        " --out {output.cost:q} --csv {output.csv:q} --log {log:q}"


rule summary:
    input:
        runs=JOBS.summary.inputs.runs,
    output:
        table=report(
            JOBS.summary.outputs.table,
            caption="../report/summary.rst",
            category="Tables",
        ),
    log:
        JOBS.summary.log,
    benchmark:
        JOBS.summary.benchmark
    conda:
        CPU
    resources:
        mem_mb=1000,
        runtime=10,
        head=1,
    params:
        spec=JOBS.summary.spec,
        deviations=JOBS.specs.all_deviations,
        code=JOBS.summary.code,
    message:
        "summarize the study"
    shell:
        'python "$HARDSCALE_SCRIPTS"/summary.py --runs {input.runs:q} --spec {params.spec:q}'
        " --deviations {params.deviations:q} --out {output.table:q} --log {log:q}"
