#!/usr/bin/env bash
# Everything from nothing: environment, data, every study, tables, figures, paper.
#   ./reproduce.sh                     params.yaml's scale, on this machine
#   SCALE=smoke ./reproduce.sh         another scale (results in results/smoke; paper/ is made from it)
#   ./reproduce.sh --profile slurm     on a cluster; further arguments go to snakemake
# What earlier runs of this scale left is moved to results/before-<time>, never deleted.
set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 402)) ||
  { echo "error: bash $BASH_VERSION is too old, 4.2 or newer is needed; on macOS: brew install bash" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")"
started=$(date -u +%Y%m%dT%H%M%SZ)
log=results/logs/reproduce-$started.log
mkdir -p results/logs
export PYTHONUNBUFFERED=1

stamp() { while IFS= read -r line || [[ -n $line ]]; do printf '%(%F %T)T %s\n' -1 "$line"; done; }

# -i, and the trap: Ctrl-C ends Snakemake, not the log of its clean-up.
{
  SECONDS=0
  echo "commit  $(git describe --always --dirty 2>/dev/null || echo none)"
  cpus=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
  echo "host    $(hostname), $cpus CPUs, $( (nvidia-smi -L 2>/dev/null || true) | wc -l) GPUs"
  make setup
  venv=$(cd "${VENV:-.venv}" && pwd)
  export PATH=$venv/bin:$PATH PYTHONPATH=$PWD/src
  echo "python  $(python --version), snakemake $(snakemake --version), dvc $(dvc --version)"
  echo "set-up took $SECONDS s"
  # Every check before anything is moved: a scale that does not exist, or parameters that are none, end here.
  python -m ripstop plan ${SCALE:+--scale "$SCALE"}
  scale=$(python -m ripstop scale ${SCALE:+--scale "$SCALE"})
  echo "scale   $scale"
  echo "configuration:"
  cat params.yaml
  before=results/before-$started
  for made in "results/$scale" "results/metrics/$scale" "results/records/$scale" paper/tables paper/figures paper/sources \
    paper/contents.json paper/main.pdf .snakemake; do
    [[ -e $made ]] || continue
    mkdir -p "$before/$(dirname "$made")"
    mv "$made" "$before/$made"
    echo "moved   $made to $before/$made"
  done
  SECONDS=0
  snakemake all --config "scale=$scale" "$@"
  echo "everything took $SECONDS s, set-up apart"
  echo "results in results/$scale, tables and figures in paper/, this log in $log"
  python -m ripstop verify --scale "$scale"
} 2>&1 | (trap '' INT; stamp | tee -i "$log")
