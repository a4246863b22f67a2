"""Data: every task as parquet, deterministic splits."""


rule prepare_task:
    input:
        files=JOBS.prepare_task.files.files,
    output:
        manifest=JOBS.prepare_task.outputs.manifest,
    log:
        JOBS.prepare_task.log,
    benchmark:
        JOBS.prepare_task.benchmark
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        spec=JOBS.prepare_task.spec,
        code=JOBS.prepare_task.code,
    message:
        "prepare task {wildcards.task}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/prepare_task.py --spec {params.spec:q}'
        " --out {output.manifest:q} --log {log:q}"
