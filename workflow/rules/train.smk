# Checkpoints lie beside the outputs and are none: Snakemake removes outputs before a job starts, and
# a training that was stopped could not resume.
rule train:
    input:
        config=of_run("config.yaml"),
        code=of_run("train.code"),
        data=data_of_run,
    output:
        model=f"{RUN}/model.safetensors",
        report=f"{RUN}/training.json",
    log:
        f"{LOGS}/{{study}}/{{run}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{study}}/{{run}}/train.tsv"
    priority: lambda wildcards: job(wildcards).work
    conda:
        "../../envs/cpu/environment.yaml"
    threads: lambda wildcards: job(wildcards).threads
    resources:
        gpu=lambda wildcards: job(wildcards).gpus,
        runtime=lambda wildcards: job(wildcards).runtime,
        mem_mb=lambda wildcards, attempt: job(wildcards).mem_mb * attempt,
    params:
        run=subpath(output.model, parent=True),
        data=subpath(input.data, parent=True),
        python=lambda wildcards: python(job(wildcards).environment),
    shell:
        f"{LOGGED} {{params.python}} -m ripstop train {{params.run:q}} --data {{params.data:q}}"
