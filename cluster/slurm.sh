#!/usr/bin/env bash
# `tune_bn search` as a job of Slurm: Ray's head and workers on the nodes of the allocation, the study's driver beside the
# head. From the root of the repository, on a login node:
#
#   make install                                       # once, on storage that all nodes share
#   sbatch cluster/slurm.sh --space resnet.yaml        # the options of `tune_bn search`
#   squeue --me                                        # and: .venv/bin/tune_bn status | logs STUDY | stop STUDY
#
# A job that is preempted, or is near its time limit, stops its study cleanly, is queued again, and goes on with the same
# study: nothing that finished is repeated. A job that ended otherwise (an error, a verdict, `tune_bn stop`) stays ended;
# `sbatch cluster/slurm.sh --space … --study NAME --resume` goes on by hand.
#
# Fill in, or check:
#   1. the #SBATCH lines: partition, nodes, GPUs and time of your cluster. One task per node starts one Ray node.
#   2. TUNE_BN_VENV: where tune_bn is installed, if not in .venv of the folder that the job is submitted from.
#   3. TUNE_BN_STUDIES: where the studies are, if not in studies/ there. All nodes must see it at the same path.
#   4. TUNE_BN_PORT: a port for Ray that no other job on these nodes uses; default: derived from the job's number.

#SBATCH --job-name=tune_bn
#SBATCH --nodes=2                  # (1)
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8          # (1)
#SBATCH --gpus-per-task=1          # (1)
#SBATCH --time=24:00:00            # (1)
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tune_bn-%j.log
# The script hears of its end early enough to write checkpoints.
#SBATCH --signal=B:USR1@120

set -euo pipefail
umask 077
# What the process below hears is no reason to end before it listens.
trap '' USR1

home=${SLURM_SUBMIT_DIR:?}
python=${TUNE_BN_VENV:-$home/.venv}/bin/python
cd "$home"
if ! said=$("$python" -c 'import tune_bn.service.slurm' 2>&1); then
  echo "error: $python on ${SLURMD_NODENAME:-$(hostname)}: ${said##*$'\n'}; accepted: TUNE_BN_VENV=FOLDER of an environment with tune_bn[cluster] that all nodes see" >&2
  exit 2
fi
# From here on tune_bn/service/slurm.py is the job; it tells what each of Slurm's signals means.
exec "$python" -m tune_bn.service.slurm "$@"
