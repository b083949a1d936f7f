# Checkpoints lie beside the outputs and are none: Snakemake removes outputs before a job starts, and
# a training that was stopped could not resume.
rule train:
    input:
        config=f"{RUN}/config.yaml",
        code=f"{RUN}/train.code",
        data=data_of_run,
    output:
        model=f"{RUN}/model.safetensors",
        report=f"{RUN}/training.json",
    log:
        f"{LOGS}/{{run}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{run}}/train.tsv"
    priority: work_of_training
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        runtime=1440 if GPUS else 60,
        mem_mb=lambda wildcards, attempt: (32000 if GPUS else 3000) * attempt,
    params:
        run=subpath(output.model, parent=True),
        data=subpath(input.data, parent=True),
    shell:
        "workflow/scripts/logged {log} python -m ripstop train {params.run} --data {params.data}"
