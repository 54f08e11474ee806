#!/usr/bin/env bash
# A study in Ray jobs on a real head, told to stop in every way that there is, and resumed each time.
#
# SPACE     the space file, of a study that pays 1 for a second of a device
# COUNTING  the folder of the module of the network that counts its steps
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"

mkdir /run/counting
export TUNE_BN_TEST_COUNTING_FOLDER=/run/counting PYTHONPATH=$COUNTING OMP_NUM_THREADS=1
cp "$SPACE" space.yaml
study=/run/home/studies/one

pace() { echo "$1" > /run/counting/pace.new; mv /run/counting/pace.new /run/counting/pace; }
await() { timeout 240 bash -c "until $1; do sleep 0.1; done" || { echo "waited in vain: $1"; return 1; }; }
value() { python -c "import json; print(json.load(open('$study/driver.json'))['$1'])"; }
begin() { # begin NAME OPTION…: a person who follows the job
  name=$1
  shift
  tune_bn search --job --space space.yaml --study one "$@" > "/run/logs/$name" 2>&1 &
  follower=$!
}
ended() { # what was left, and that nobody starts it again
  local status=0
  wait "$follower" || status=$?
  echo "$status" > "/run/$name.status"
  cp "$study/driver.json" "/run/$name.json"
  tune_bn head resume > "/run/$name.resumed" 2>&1
}
stop() { status=0; tune_bn stop one > "/run/$name.stop" 2>&1 || status=$?; echo "$status" > "/run/$name.stop.status"; }
running() { await "compgen -G '$study/checkpoints/$1-*/*' > /dev/null"; pace 0.4; }
training() { # a driver that has begun anew is at work
  local before
  before=$(stat -c %s /run/counting/steps)
  await "test \$(stat -c %s /run/counting/steps) -ge $((before + 6))"
}

head() {
  ray start --head --num-cpus=2 --object-store-memory=100000000 --dashboard-host=127.0.0.1 --disable-usage-stats \
    > /run/logs/ray 2>&1 < /dev/null
}

head
pace 0.02
begin search
await "test \"\$(cat $study/records.jsonl 2> /dev/null | wc -l)\" -ge 1"
pace 0.4
stop
ended

# Before the job's driver has begun.
begin early --resume
await "grep -q 'runs as the job' /run/logs/early"
stop
ended

begin hours --resume --set "budget.total_hours=$(python -c "print(($(value seconds) + 2) / 3600)")"
ended

begin cost --resume --set "budget.cost=$(python -c "print($(value device_seconds) + 2)")"
ended

pace 0.05
begin select --resume
running select
tr '\0' '\n' < "/proc/$(value pid)/environ" > /run/environment
ray job stop "$(sed -n 's/.* runs as the job \([^;]*\);.*/\1/p' /run/logs/select)" > /run/select.stop 2>&1
ended

# As KubeRay's RayJob starts one.
pace 0.05
name=term
ray job submit --submission-id rayjob -- bash -c \
  "cd /run/home && tune_bn search --space space.yaml --study one --address auto \$(test ! -e $study/space.yaml || echo --resume)" \
  > /run/logs/term 2>&1 < /dev/null &
follower=$!
running confirm
kill -TERM "$(value pid)"
ended

# Its driver is killed, and before anybody starts it again it is told to stop.
begin killed --resume
training
kill -KILL "$(value pid)"
wait "$follower" || true
stop
tune_bn head resume > /run/killed.resumed 2>&1

# Nobody told it to stop when its head was started again, so it goes on, until somebody does.
begin restarted --resume
training
ray stop > /run/logs/stop 2>&1
wait "$follower" || true
head
tune_bn head resume > /run/restarted.resumed 2>&1
training
name=confirm
stop
cp "$study/driver.json" /run/confirm.json
tune_bn head resume > /run/confirm.resumed 2>&1

pace 0.02
begin finish --resume
wait "$follower"
stop
cp "$study/driver.json" /run/finish.json
ray job list > /run/logs/jobs 2>&1
ray stop > /run/logs/stop 2>&1
await_gone 'raylet|gcs_server|ray::|ray-dashboard|tune_bn '
ps -eo args= > /run/processes
