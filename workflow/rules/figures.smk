"""Figures: one module each, drawn from the tables alone."""

# The path of a caption cannot hold a wildcard, so every figure is a rule of its own.
for figure in JOBS.figures:

    rule:
        name:
            figure.rule
        input:
            runs=figure.inputs.runs,
            fits=figure.inputs.fits,
            tables=figure.inputs.tables,
        output:
            png=report(
                figure.outputs.png,
                caption=f"../report/{figure.name}.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            ),
            svg=figure.outputs.svg,
        log:
            figure.log,
        benchmark:
            figure.benchmark
        wildcard_constraints:
            figure=figure.name,
        localrule: True
        conda:
            CPU
        resources:
            mem_mb=1000,
            runtime=10,
            head=1,
        params:
            spec=figure.spec,
            caption_note=JOBS.specs.caption_note,
            deviations=JOBS.specs.deviations,
            scratch_families=JOBS.specs.scratch_families,
            code=figure.code,
        message:
            "draw {wildcards.figure}"
        shell:
            'python "$HARDSCALE_SCRIPTS"/figure.py --name {wildcards.figure} --runs {input.runs:q} --fits {input.fits:q}'
            " --tables {input.tables:q} --spec {params.spec:q} --png {output.png:q} --svg {output.svg:q} --log {log:q}"
