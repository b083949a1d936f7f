# Checkpoints lie beside the outputs and are none: Snakemake removes outputs before a job starts, and
# a training that was stopped could not resume.
rule train:
    input:
        choice=choice_of_run,
        config=of_run("config.yaml", "model.safetensors"),
        code=of_run("train.code", "model.safetensors"),
        data=data_of_run,
    output:
        model=f"{RUN}/model.safetensors",
        report=f"{RUN}/training.json",
    log:
        f"{LOGS}/{{study}}/{{run}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{study}}/{{run}}/train.tsv"
    priority: lambda wildcards: job(wildcards).work
    group:
        group_of_training
    conda:
        "../../envs/cpu/environment.yaml"
    threads: lambda wildcards: job(wildcards).threads * job(wildcards).processes // job(wildcards).nodes
    resources:
        slurm_partition=partition,
        slurm_extra=warning,
        gpu=lambda wildcards: job(wildcards).gpus if job(wildcards).nodes == 1 else 0,
        gpu_model=lambda wildcards: job(wildcards).gpu_model if job(wildcards).nodes == 1 else None,
        gres=gpus_of_node,
        # One task a node, which starts its processes. `mpi` keeps the cluster's plugin from starting one task alone.
        nodes=lambda wildcards: job(wildcards).nodes,
        tasks=lambda wildcards: job(wildcards).nodes,
        tasks_per_gpu=0,
        mpi=lambda wildcards: "srun" if job(wildcards).nodes > 1 else None,
        serial=1,
        runtime=lambda wildcards, attempt: minutes(job(wildcards).runtime, attempt),
        mem_mb=lambda wildcards, attempt: job(wildcards).mem_mb * attempt,
    params:
        run=subpath(output.model, parent=True),
        data=subpath(input.data, parent=True),
        python=python_of_training,
    shell:
        f"{ONCE} {LOGGED} {{params.python}} -m ripstop train --wait {{params.run:q}} --data {{params.data:q}}"


# What an arm trains with, chosen by the held-out loss of its candidates.
rule choose:
    input:
        reports=candidates,
        code=of_study("choose.code", "choices/{choice}.json"),
    output:
        CHOICE,
    log:
        f"{LOGS}/{{study}}/choices/{{choice}}.log",
    localrule: True
    conda:
        "../../envs/cpu/environment.yaml"
    params:
        candidates=lambda wildcards, input: [str(Path(report).parent) for report in input.reports],
    shell:
        f"{LOGGED} python -m ripstop choose {{params.candidates:q}} --out {{output:q}}"
