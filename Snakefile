from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        "paper/tables",
        "paper/figures",
        "paper/main.pdf" if LATEX else [],


include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/paper.smk"


onstart:
    # With a limit of jobs per timespan (there is one by default) every look at the open jobs starts a timer for one more: after
    # some hundred jobs that finished, Snakemake looks dozens of times a second and takes half a core. `jobs` spares a cluster.
    workflow.scheduler.job_rate_limiter = None
    if any([workflow.dag_settings.forceall, workflow.dag_settings.forcetargets, workflow.dag_settings.forcerun]):
        shutil.rmtree(KEPT, ignore_errors=True)  # of tries that failed: who forces a job wants it done
    for line in summary():
        print(line)


onsuccess:
    shutil.rmtree(KEPT, ignore_errors=True)
    if not LATEX:
        print(NO_LATEX)
