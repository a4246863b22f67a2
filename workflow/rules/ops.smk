"""Upkeep: never part of `all`."""


localrules:
    all,
    prepare_task,
    prepare_model,
    pretrain,
    finetune,
    collect,
    fit,
    claims,
    cost,
    summary,
    verify,


rule verify:
    """Re-hash every published artifact, name what is damaged and the command that builds it again."""
    log:
        JOBS.log_of("verify"),
    conda:
        CPU
    params:
        root=JOBS.root,
        configfiles=STUDY_FILES,
    shell:
        'python "$HARDSCALE_SCRIPTS"/verify.py --root {params.root:q} --configfile {params.configfiles:q} --log {log:q}'
