"""Figures: one module each, drawn from the tables alone."""

# The path of a caption cannot hold a wildcard, so every figure is a rule of its own.
for figure_name in JOBS.outputs_of.figure_names:

    rule:
        name:
            f"figure_{figure_name}"
        input:
            runs=f"{ROOT}/tables/runs.parquet",
            fits=f"{ROOT}/tables/fits.parquet",
            tables=JOBS.outputs_of.tables_of(figure_name),
        output:
            png=report(
                f"{ROOT}/figures/{{figure}}.png",
                caption=f"../report/{figure_name}.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            ),
            svg=f"{ROOT}/figures/{{figure}}.svg",
        log:
            f"{ROOT}/logs/figure/{{figure}}.log",
        benchmark:
            f"{ROOT}/benchmarks/figure/{{figure}}.tsv"
        wildcard_constraints:
            figure=figure_name,
        localrule: True
        conda:
            CPU
        resources:
            mem_mb=1000,
            runtime=10,
            head=1,
        params:
            spec=JOBS.specs.analysis,
            caption_note=JOBS.specs.caption_note,
            deviations=JOBS.specs.deviations,
            scratch_families=JOBS.specs.scratch_families,
            code=JOBS.codes.figure,
        message:
            "draw {wildcards.figure}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/figure.py --name {wildcards.figure} --runs {input.runs:q} --fits {input.fits:q}'
            " --tables {input.tables:q} --spec {params.spec:q} --png {output.png:q} --svg {output.svg:q} --log {log:q}"
