#!/usr/bin/env bash
# Jobs that cannot begin, or that nobody can end well: each says why in a line, and leaves nothing. Beside them the study
# of a script of the user's own, on two nodes.
#
# REPOSITORY   the checkout
# SPACE        the space file
# COUNTING     the folder of the module of the network that counts its steps
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
source "$here/slurm_hosts.sh"
begin_slurm

mkdir -p /run/counting /run/slow
chmod 777 /run/counting /run/slow
echo 0.1 > /run/counting/pace
echo 1 > /run/slow/pace
cp "$SPACE" /run/users/alice/work/counted.yaml

submit() { # submit NAME VARIABLES OPTIONS…: the job's log is NAME.log
  as alice "export PYTHONPATH=$COUNTING TUNE_BN_TEST_COUNTING_FOLDER=/run/counting $2; sbatch --parsable --output=$1.log --gpus-per-task=0 \
    --cpus-per-task=2 ${*:3}" > "/run/jobs/$1"
}
await() { timeout "$1" bash -c "until $2; do sleep 0.2; done" || { echo "waited in vain: $2"; tail -v /run/users/alice/work/*.log; return 1; }; }
state() { on controller "squeue --noheader --states=all --jobs=$(cat "/run/jobs/$1") --format=%T"; }
ended() { # ended NAME…: all of them
  local name
  for name in "$@"; do
    for _ in {1..300}; do case $(state "$name") in PENDING | RUNNING | COMPLETING) sleep 0.3 ;; *) break ;; esac; done
    echo "$name $(state "$name")" >> /run/states
  done
}
mkdir /run/jobs
search='cluster/slurm.sh --space counted.yaml --study'
own='cluster/slurm.sh --space ridge/space.yaml --study'

submit no-python TUNE_BN_VENV=/nowhere --nodes=1 "$search" a
submit other-python TUNE_BN_VENV=/usr --nodes=1 "$search" b
submit refused A=1 --nodes=1 "$search" c --address auto
on n1 "$BIN/python -c 'import socket, time; s = socket.create_server((\"10.77.0.11\", 23456)); time.sleep(600)'" &
submit port-taken TUNE_BN_PORT=23456 --nodelist=n1 --nodes=1 "$search" e
submit no-network TUNE_BN_NETWORK=192.168.0.0/16 --nodes=1 "$search" f
cp -r "$REPOSITORY/examples/no_torch" /run/users/alice/work/ridge
chown -R alice /run/users/alice/work/ridge
as alice "$BIN/tune_bn check --space ridge/space.yaml" > /run/jobs/check
submit own A=1 --nodelist=n1,n2 --nodes=2 "$own" own --trials 3 --set budget.finalists=1 --set seeds.select=[201] \
  --set seeds.confirm=[1,2,3]
submit pending A=1 --nodes=2 --begin=now+1hour "$search" g
as alice scancel "$(cat /run/jobs/pending)"
submit short TUNE_BN_TEST_COUNTING_FOLDER=/run/slow --time=1 --nodes=1 --nodelist=n3 "$search" short
ended no-python other-python refused port-taken no-network pending
await 240 'test -s /run/users/alice/work/studies/own/verdict.json'
ended own
cp /run/users/alice/work/studies/own/verdict.json /run/jobs/

# n2 lets nobody make a folder.
chmod 755 /run/hosts/n2/tmp
submit fails TUNE_BN_MISSING=fail --nodelist=n1,n2 --nodes=2 "$search" h
# A driver whose Ray is gone waits for it: by Ray's own settings a minute.
submit goes-on RAY_gcs_rpc_server_reconnect_timeout_s=5 --nodelist=n1,n2 --nodes=2 "$search" killed
ended fails
await 240 'test -s /run/users/alice/work/studies/killed/records.jsonl'
on controller "scancel --signal=KILL --batch $(cat /run/jobs/goes-on)"
ended goes-on short
# The first process of such a host is no init, and collects no exit status.
left() { for number in 1 2 3; do left_in_tmp "n$number"; on "n$number" 'ls /dev/shm; ps -eo user=,args= | grep -v -e "^root" -e "<defunct>"' || true; done; }
# Its driver was told by its parent's death, and ends by itself.
for _ in {1..200}; do left > /run/left; [ -s /run/left ] || break; sleep 0.3; done
find /run/users -iname '*token*' > /run/tokens
ls /run/users/alice/work/studies > /run/studies
cp /run/users/alice/work/*.log /run/jobs/
