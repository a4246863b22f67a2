"""Figures: one module each, drawn from the tables alone."""


rule figure:
    input:
        runs=f"{ROOT}/tables/runs.parquet",
        fits=f"{ROOT}/tables/fits.parquet",
    output:
        png=report(
            f"{ROOT}/figures/{{figure}}.png",
            caption="../report/{figure}.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        svg=f"{ROOT}/figures/{{figure}}.svg",
    log:
        f"{ROOT}/logs/figure/{{figure}}.log",
    benchmark:
        f"{ROOT}/benchmarks/figure/{{figure}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=JOBS.analysis_spec,
        caption_note=STUDY.analysis.caption_note,
        code=JOBS.figure_code,
    message:
        "draw {wildcards.figure}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/figure.py --name {wildcards.figure} --runs {input.runs:q} --fits {input.fits:q}'
        " --spec {params.spec:q} --png {output.png:q} --svg {output.svg:q} --log {log:q}"
