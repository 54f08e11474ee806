#!/usr/bin/env bash
# Two users' studies at once on nodes that they share, and all by which Slurm ends a job before its study is done.
#
# REPOSITORY   the checkout, which belongs to another user than those of the jobs
# SPACE        the space file
# COUNTING     the folder of the module of the network that counts its steps
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
source "$here/slurm_hosts.sh"
begin_slurm

for user in alice bob; do
  mkdir -p "/run/counting/$user"
  chmod 777 "/run/counting/$user"
  echo 0.12 > "/run/counting/$user/pace"
  cp "$SPACE" "/run/users/$user/work/counted.yaml"
done
study=/run/users/alice/work/studies/one theirs=/run/users/bob/work/studies/two

submit() { # submit USER OPTIONS…: prints the job's number
  as "$1" "export PYTHONPATH=$COUNTING TUNE_BN_TEST_COUNTING_FOLDER=/run/counting/$1; sbatch --parsable ${*:2}"
}
note() { echo "== $*, after $SECONDS s" >> /run/logs/story; }
look() { note "$1"; on controller 'squeue --all --format="%i %u %P %T %r %S"' >> /run/logs/story 2>&1; }
await() {
  timeout "$1" bash -c "until $2; do sleep 0.2; done" && return
  look "waited in vain: $2"
  tail /run/users/*/work/*.log
  return 1
}
count() { cat "$1/records.jsonl" 2> /dev/null | wc -l; }
await_record() { await 240 "test \"\$(cat $1/records.jsonl 2> /dev/null | wc -l)\" -gt $2"; }
await_line() { await "${4:-60}" "test \"\$(grep -c '$2' $1 2> /dev/null)\" = $3"; }
preempt() { # preempt WHERE: by a job that needs whole nodes
  on controller "sbatch --quiet --output=/dev/null --partition=high $1 --exclusive --wrap='sleep 3'"
}
left_over() { # what jobs that ended left on the nodes
  for number in 1 2 3; do
    left_in_tmp "n$number"
    on "n$number" 'ls /dev/shm; ps -eo user=,args= | grep -v "^root"' || true
  done
}

cpus='--cpus-per-task=1 --gpus-per-task=0'
one=$(submit alice --partition=grace --nodelist=n1,n2 "$cpus" cluster/slurm.sh --space counted.yaml --study one)
log=/run/users/alice/work/tune_bn-$one.log
two=$(submit bob --nodelist=n1 --nodes=1 "$cpus" cluster/slurm.sh --space counted.yaml --study two)
await_record "$study" 0
await_record "$theirs" 0
look 'both are at work'
# What Ray makes in its folder may be open to all: nobody gets there.
{ for name in n1 n2 n3; do left_in_tmp $name -maxdepth 1 ! -perm 700; done; find /run/users -perm -o+w ! -type l; } > /run/open-to-all
find /run/hosts/n*/tmp /run/users -iname '*token*' > /run/tokens
on n1 'ps -eo args=' > /run/command-lines

preempt --nodes=3
await_line "$log" 'is queued again: preempted' 1
await 60 "test -z \"\$(left_in_tmp n1)\""
look 'preempted, one with a GraceTime and one without'
mine=$(count "$study") others=$(count "$theirs")
await_record "$theirs" "$others"
await_record "$study" "$mine"

as bob scancel "$two"
await 60 "grep -q 'ends: cancelled' /run/users/bob/work/tune_bn-$two.log"
look 'one is cancelled'
sed -n 's/.*ends: cancelled. To go on: //p' "/run/users/bob/work/tune_bn-$two.log" > /run/to-go-on

SLURMCTLD_PARAMETERS=preempt_send_user_signal slurm_settings > /run/slurm/slurm.conf
on controller scontrol reconfigure
preempt --nodelist=n2
await_line "$log" 'is queued again: preempted' 2
look 'preempted with user signals'
# As a user goes on with what was cancelled, by the line that the job left.
echo 0.02 > /run/counting/bob/pace
three=$(submit bob --nodelist=n1,n3 "$cpus" "$(sed 's/^sbatch //' /run/to-go-on)")
mine=$(count "$study")
await_record "$study" "$mine"

# Slower while Slurm, which looks every half minute, finds that the limit is near.
echo 0.6 > /run/counting/alice/pace
minutes="\$(squeue --noheader --jobs=$one --format=%M | awk -F: '{ print \$1 }')"
on controller "scontrol update jobid=$one timelimit=\$(($minutes + 2))"
await_line "$log" 'is queued again: its time limit is near' 1 90
on controller "scontrol update jobid=$one timelimit=unlimited"
look 'the time limit was near'
echo 0.12 > /run/counting/alice/pace
mine=$(count "$study")
await_record "$study" "$mine"

node_down n2
sleep 1
node_up n2
look 'a node was lost'
echo 0.02 > /run/counting/alice/pace
await_line "$log" 'exit status 0' 1 240
await_line "/run/users/bob/work/tune_bn-$three.log" 'exit status 0' 1 240
look 'both have a verdict'
on controller "squeue --noheader --jobs=$two --states=all --format=%T" > /run/cancelled

# A node fails between the verdict and the end of the job.
on controller "scontrol requeue $one"
await_line "$log" 'came to its verdict before this start' 1
for _ in {1..50}; do test -n "$(on controller squeue --noheader)" || break; sleep 0.3; done
look 'all is done'
left_over > /run/left
cp "$log" /run/log-one
cp "/run/users/bob/work/tune_bn-$two.log" /run/log-two
cp "/run/users/bob/work/tune_bn-$three.log" /run/log-three
find /run/users -iname '*token*' >> /run/tokens
