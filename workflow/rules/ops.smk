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
    summary,
    verify,


rule verify:
    """Re-hash every published artefact and name what differs from its manifest."""
    log:
        f"{ROOT}/logs/verify.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        root=ROOT,
    shell:
        'python "$HARDSCALE_SCRIPTS"/verify.py --root {params.root:q} --log {log:q}'
