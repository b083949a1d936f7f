# A part leaves its records and the files that it declares, in a folder of its own.
rule evaluate:
    input:
        model=model_of_run,
        config=of_run("config.yaml", "parts/{part}"),
        settings=of_run("{part}.yaml", "parts/{part}"),
        code=of_run("{part}.code", "parts/{part}"),
        data=data_of_run,
        parts=parts_read,
    output:
        directory(f"{RUN}/parts/{{part}}"),
    log:
        f"{LOGS}/{{study}}/{{run}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/{{study}}/{{run}}/{{part}}.tsv"
    group:
        group_of_part
    conda:
        "../../envs/cpu/environment.yaml"
    # A measure of time has the machine for itself: all cores of this one, or a node of a cluster.
    threads: evaluation_threads
    resources:
        slurm_partition=partition,
        slurm_extra=lambda wildcards: "--exclusive" if is_exclusive(wildcards) else warning(wildcards),
        gpu=lambda wildcards: min(1, job(wildcards).gpus),
        gpu_model=lambda wildcards: job(wildcards).gpu_model,
        serial=1,
        runtime=lambda wildcards, attempt: minutes(job(wildcards).evaluation_runtime, attempt),
        mem_mb=lambda wildcards, attempt: job(wildcards).mem_mb * attempt,
    params:
        run=subpath(output[0], ancestor=2),
        data=subpath(input.data, parent=True),
        python=python_of_part,
    shell:
        f"{ONCE} {LOGGED} {{params.python}} -m ripstop evaluate {{params.run:q}} --data {{params.data:q}} --part {{wildcards.part:q}}"
