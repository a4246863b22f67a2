"""Tables: one tidy table of all runs, the fits, the claims and a summary to read."""


rule collect:
    input:
        # An attack is rerun when its model changes, so it stands for the facts of its model too.
        attacks=manifests(JOBS.grid.attack_folders()),
    output:
        runs=f"{ROOT}/tables/runs.parquet",
        csv=f"{ROOT}/tables/runs.csv",
    log:
        f"{ROOT}/logs/collect.log",
    benchmark:
        f"{ROOT}/benchmarks/collect.tsv"
    conda:
        CPU
    resources:
        mem_mb=4000,
        runtime=60,
        head=1,
    params:
        spec=JOBS.specs.collect,
        root=subpath(output.runs, ancestor=2),
        code=JOBS.codes.of("hardscale.evaluation.collect"),
    message:
        "collect all runs"
    shell:
        'python "$HARDSCALE_SCRIPTS"/collect.py --spec {params.spec:q} --root {params.root:q}'
        " --out {output.runs:q} --csv {output.csv:q} --log {log:q}"


rule fit:
    input:
        runs=f"{ROOT}/tables/runs.parquet",
    output:
        fits=f"{ROOT}/tables/fits.parquet",
        csv=f"{ROOT}/tables/fits.csv",
    log:
        f"{ROOT}/logs/fit.log",
    benchmark:
        f"{ROOT}/benchmarks/fit.tsv"
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        headline=JOBS.specs.headline,
        targets=STUDY.analysis.target_asr,
        code=JOBS.codes.of("hardscale.analysis.fit"),
    message:
        "fit scaling laws"
    shell:
        'python "$HARDSCALE_SCRIPTS"/fit.py --runs {input.runs:q} --out {output.fits:q} --csv {output.csv:q}'
        " --headline {params.headline:q} --target-asr {params.targets} --log {log:q}"


rule claims:
    input:
        # The table names a digest of every attack's rows, so it changes when any of them does.
        runs=f"{ROOT}/tables/runs.parquet",
    output:
        claims=f"{ROOT}/tables/claims.parquet",
        csv=f"{ROOT}/tables/claims.csv",
    log:
        f"{ROOT}/logs/claims.log",
    benchmark:
        f"{ROOT}/benchmarks/claims.tsv"
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        root=subpath(output.claims, ancestor=2),
        headline=JOBS.specs.headline,
        code=JOBS.codes.of("hardscale.analysis.claims"),
    message:
        "test the study's claims"
    shell:
        'python "$HARDSCALE_SCRIPTS"/claims.py --runs {input.runs:q} --attacks {params.root:q}/attacks'
        " --models {params.root:q}/models --headline {params.headline:q}"
        " --out {output.claims:q} --csv {output.csv:q} --log {log:q}"


rule cost:
    input:
        models=JOBS.grid.defended_models(),
    output:
        cost=f"{ROOT}/tables/cost.parquet",
        csv=f"{ROOT}/tables/cost.csv",
    log:
        f"{ROOT}/logs/cost.log",
    benchmark:
        f"{ROOT}/benchmarks/cost.tsv"
    conda:
        CPU
    resources:
        mem_mb=1000,
        runtime=30,
        head=1,
    params:
        spec=JOBS.specs.collect,
        root=subpath(output.cost, ancestor=2),
        code=JOBS.codes.of("hardscale.analysis.cost"),
    message:
        "add up the cost of the defenses"
    shell:
        'python "$HARDSCALE_SCRIPTS"/cost.py --spec {params.spec:q} --root {params.root:q}'
        " --out {output.cost:q} --csv {output.csv:q} --log {log:q}"


rule summary:
    input:
        runs=f"{ROOT}/tables/runs.parquet",
    output:
        table=report(
            f"{ROOT}/tables/summary.md",
            caption="../report/summary.rst",
            category="Tables",
        ),
    log:
        f"{ROOT}/logs/summary.log",
    benchmark:
        f"{ROOT}/benchmarks/summary.tsv"
    conda:
        CPU
    resources:
        mem_mb=1000,
        runtime=10,
        head=1,
    params:
        spec=JOBS.specs.analysis,
        deviations=JOBS.specs.all_deviations,
        code=JOBS.codes.of("hardscale.analysis.summary"),
    message:
        "summarize the study"
    shell:
        'python "$HARDSCALE_SCRIPTS"/summary.py --runs {input.runs:q} --spec {params.spec:q}'
        " --deviations {params.deviations:q} --out {output.table:q} --log {log:q}"
