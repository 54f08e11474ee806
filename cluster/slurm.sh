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

fail() {
  echo "error: $1" >&2
  exit 2
}

home=${SLURM_SUBMIT_DIR:?}
bin=${TUNE_BN_VENV:-$home/.venv}/bin
studies=${TUNE_BN_STUDIES:-$home/studies}
port=${TUNE_BN_PORT:-$((20000 + 10#${SLURM_JOB_ID:?} % 10000))}
test -x "$bin/tune_bn" || fail "$bin/tune_bn: not found; accepted: TUNE_BN_VENV=FOLDER of an environment with tune_bn and ray[default]"
cd "$home"

# Whoever may read the token may run code as this user: it is made once, readable by its owner alone.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$home/.ray-token-$SLURM_JOB_ID
test -s "$RAY_AUTH_TOKEN_PATH" || "$bin/python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"

# A name that the job keeps when it is queued again, so that it finds its study.
study=
given=("$@")
for ((index = 0; index < ${#given[@]}; index++)); do
  case ${given[index]} in
    --study) study=${given[index + 1]:-} ;;
    --study=*) study=${given[index]#--study=} ;;
    --resume) resumed=1 ;;
    --address | --address=* | --output | --output=*) fail "${given[index]}: got it; accepted: the options of tune_bn search besides --address and --output, which this job states" ;;
  esac
done
if test -z "$study"; then
  study=slurm-$SLURM_JOB_ID
  given+=(--study "$study")
fi
if test -e "$studies/$study/space.yaml" && ((${SLURM_RESTART_COUNT:-0} > 0)) && test -z "${resumed:-}"; then
  given+=(--resume)
fi

nodes=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?}")
head=$(head -n 1 <<< "$nodes")
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --all-ip-addresses | awk '{ print $1 }')
cpus=${SLURM_CPUS_PER_TASK:-1}
ray=()
driver=
again=

# shellcheck disable=SC2317  # a trap calls it
cleanup() {
  if ((${#ray[@]} > 0)); then
    kill "${ray[@]}" 2> /dev/null || true
    wait "${ray[@]}" || true
  fi
  test -n "$again" || rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap cleanup EXIT

# Near the time limit (SIGUSR1), or preempted: SIGTERM, or SIGUSR1 where Slurm has PreemptParameters=send_user_signal.
# shellcheck disable=SC2317  # a trap calls it
queue_again() {
  again=1
  test -z "$driver" || kill -TERM "$driver" 2> /dev/null || true
}
trap queue_again USR1 TERM

srun --nodes=1 --ntasks=1 --nodelist="$head" --cpus-per-task="$cpus" --overlap \
  "$bin/ray" start --head --node-ip-address="$address" --port="$port" --include-dashboard=false --num-cpus="$cpus" \
  --disable-usage-stats --block &
ray+=($!)
until "$bin/ray" health-check --address "$address:$port" > /dev/null 2>&1; do
  kill -0 "${ray[0]}" 2> /dev/null || fail "ray start --head ended on $head; accepted: a node on which it runs, and a free port $port (TUNE_BN_PORT=...)"
  test -z "$again" || break
  sleep 1
done
others=$((${SLURM_JOB_NUM_NODES:-1} - 1))
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --exclude="$head" --cpus-per-task="$cpus" --overlap \
    "$bin/ray" start --address="$address:$port" --num-cpus="$cpus" --disable-usage-stats --block &
  ray+=($!)
fi

status=130
if test -z "$again"; then
  "$bin/tune_bn" search --address "$address:$port" --output "$studies" "${given[@]}" &
  driver=$!
  status=0
  wait "$driver" || status=$?
  # A trap interrupts `wait`; the driver is still writing its last records.
  while kill -0 "$driver" 2> /dev/null; do
    status=0
    wait "$driver" || status=$?
  done
fi
# 130: it stopped cleanly. 143: it had not begun to listen to SIGTERM.
if test -n "$again" && ((status == 130 || status == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
again=
exit "$status"
