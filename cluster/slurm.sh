#!/usr/bin/env bash
# `tune_bn search` as a job of Slurm: Ray's head and workers on the nodes of the allocation, the study's driver beside
# the head. From the root of the repository, on a login node:
#
#   make install                                       # once, on storage that all nodes share
#   sbatch cluster/slurm.sh --space resnet.yaml        # the options of `tune_bn search`
#   sbatch --gpus-per-task=0 cluster/slurm.sh …        # on a cluster without GPUs
#   squeue --me                                        # and: .venv/bin/tune_bn status | logs STUDY | stop STUDY
#
# A job that is preempted, loses a node, or is near its time limit stops its study cleanly where there is time to, is
# queued again, and goes on with the same study: nothing that finished is repeated. Slurm lets it wait two minutes first.
# A job that is cancelled, or ended otherwise (an error, a verdict, `tune_bn stop`), stays ended; its log says by which
# `sbatch` line one goes on. Preempted, it has the partition's GraceTime, else KillWait, to stop in. User signals are
# not needed for it (SlurmctldParameters=preempt_send_user_signal in Slurm 22.05, PreemptParameters=send_user_signal in
# later ones) and do no harm. What each signal means: tune_bn/service/slurm.py.
#
# Fill in, or check:
#   1. the #SBATCH lines: partition, nodes, GPUs and time of your cluster. One task per node starts one Ray node.
#   2. TUNE_BN_VENV: where tune_bn[cluster] is installed, if not in .venv of the folder that the job is submitted from.
#   3. TUNE_BN_STUDIES: where the studies are, if not in studies/ there. All nodes must see it at the same path.
#   4. TUNE_BN_NETWORK: by which network the nodes reach each other (10.0.0.0/8), if not by that of Slurm's NodeAddr.
#   5. TUNE_BN_PORT: a port for Ray's head, if not any that is free.
#   6. TUNE_BN_WAIT: seconds until nodes that have not joined are named in the log; default: 300.
#   7. TUNE_BN_MISSING: go-on (the default) without them, or fail.

#SBATCH --job-name=tune_bn
#SBATCH --nodes=2                  # (1)
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8          # (1)
#SBATCH --gpus-per-task=1          # (1) 0 on a cluster without GPUs
#SBATCH --time=24:00:00            # (1)
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tune_bn-%j.log
# The script hears of its end early enough to write checkpoints.
#SBATCH --signal=B:USR1@120

set -euo pipefail
umask 077
# Until the process below listens, the notice is no reason to die of it.
trap '' USR1

home=${SLURM_SUBMIT_DIR:?is set by Slurm alone; accepted: sbatch cluster/slurm.sh OPTIONS}
python=${TUNE_BN_VENV:-$home/.venv}/bin/python
cd "$home"
if ! test -x "$python"; then
  said='no such file, or none that may be run'
elif said=$("$python" -c 'import tune_bn.service.slurm' 2>&1); then
  exec "$python" -m tune_bn.service.slurm "$@"
fi
accepted='TUNE_BN_VENV=FOLDER of an environment with tune_bn[cluster] that all nodes see'
echo "error: $python on ${SLURMD_NODENAME:-$(hostname)}: ${said##*$'\n'}; accepted: $accepted" >&2
exit 2
