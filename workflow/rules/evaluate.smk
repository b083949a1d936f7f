rule evaluate:
    input:
        model=f"{RUN}/model.safetensors",
        config=f"{RUN}/evaluation.yaml",
        code=f"{RUN}/evaluate.code",
        data=data_of_run,
    output:
        f"{RUN}/records.jsonl",
    log:
        f"{LOGS}/{{run}}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/{{run}}/evaluate.tsv"
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        runtime=240 if GPUS else 60,
        mem_mb=lambda wildcards, attempt: (32000 if GPUS else 3000) * attempt,
    params:
        run=subpath(input.model, parent=True),
        data=subpath(input.data, parent=True),
    shell:
        "workflow/scripts/logged {log} python -m ripstop evaluate {params.run} --data {params.data}"


rule collect:
    input:
        records=records_of_study,
        code=f"{STUDY}/paper.code",
    output:
        records=f"{STUDY}/records.jsonl",
        metrics="results/metrics/{scale}/{study}.json",
        curve="results/metrics/{scale}/{study}.csv",
    log:
        f"{LOGS}/collect.log",
    benchmark:
        f"{BENCHMARKS}/collect.tsv"
    conda:
        "../../envs/cpu/environment.yaml"
    threads: 1
    resources:
        runtime=10,
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
    shell:
        "workflow/scripts/logged {log} python -m ripstop collect {input.records}"
        " --out {output.records} --metrics {output.metrics} --curve {output.curve}"
