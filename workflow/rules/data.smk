"""Data: every task as parquet, deterministic splits."""


rule prepare_task:
    input:
        files=JOBS.inputs.task_files,
    output:
        manifest=f"{ROOT}/tasks/{{task}}/manifest.json",
    log:
        f"{ROOT}/logs/prepare_task/{{task}}.log",
    benchmark:
        f"{ROOT}/benchmarks/prepare_task/{{task}}.tsv"
    conda:
        CPU
    resources:
        mem_mb=2000,
        runtime=60,
        head=1,
    params:
        spec=JOBS.specs.task,
        code=JOBS.codes.task,
    message:
        "prepare task {wildcards.task}"
    shell:
        'python "$HARDSCALE_SCRIPTS"/prepare_task.py --spec {params.spec:q}'
        " --out {output.manifest:q} --log {log:q}"
