# Sourced after sandbox.sh: a Slurm of one controller and three nodes, each with a network, processes, temporary folders, a
# name and a munged of its own, and two ordinary users, alice and bob, whose homes below /run/users all of them see.
#
# begin_slurm                 everything, until `srun` reaches every node
# node_up NAME, node_down NAME    a node's power comes (with the disk that it had), or goes
# on NODE COMMAND…            as root on that host
# as USER COMMAND…            as that user in the folder work/ of the home, on the controller, which is the login node too

begin_slurm() {
  unset TMPDIR RAY_TMPDIR
  mkdir -p /run/netns /run/slurm/state /run/munge /run/hosts /run/users
  for path in "$REPOSITORY" "$(dirname "$BIN")" "$(readlink -f "$BIN/python" | xargs dirname | xargs dirname)"; do
    open_to_all "$path"
  done
  local number user
  cp /etc/group /run/group
  mount --bind /run/group /etc/group
  for user in alice:64101 bob:64102; do
    number=${user#*:} user=${user%:*}
    echo "$user:*:$number:$number::/run/users/$user:/bin/bash" >> /run/passwd
    mkdir -p "/run/users/$user/work/cluster"
    cp "$REPOSITORY/cluster/slurm.sh" "/run/users/$user/work/cluster/"
    echo "$user:*:$number:" >> /run/group
    chown -R "$number:$number" "/run/users/$user"
    chmod -R go= "/run/users/$user"
  done
  head --bytes=64 /dev/urandom > /run/munge.key
  chmod 400 /run/munge.key
  slurm_settings > /run/slurm/slurm.conf
  ip link add bridge type bridge
  ip addr add 10.77.0.254/24 dev bridge
  ip link set bridge up
  host_of controller 10.77.0.1 slurmctld
  for number in 1 2 3; do node_up "n$number"; done
  timeout 30 bash -c "$(declare -f on); until on controller srun --nodes=3 --immediate=1 true; do sleep 0.2; done" \
    2> /run/logs/srun
}

slurm_settings() {
  cat <<EOF2
ClusterName=test
SlurmctldHost=controller(10.77.0.1)
AuthType=auth/munge
# A job that is queued again waits until the credential of its last start has expired: else two minutes.
AuthInfo=cred_expire=5
SlurmUser=root
SlurmctldParameters=${SLURMCTLD_PARAMETERS:-enable_configless}
StateSaveLocation=/run/slurm/state
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmctldLogFile=/run/logs/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmdPidFile=/var/spool/slurmd.pid
SlurmdLogFile=/run/logs/slurmd-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-3] CPUs=8 RealMemory=8000 State=UNKNOWN
PartitionName=low Nodes=n[1-3] Default=YES PriorityTier=1
PartitionName=grace Nodes=n[1-3] PriorityTier=1 GraceTime=25
PartitionName=high Nodes=n[1-3] PriorityTier=10 PreemptMode=OFF
EOF2
}

# A folder that ordinary users reach, and that stays where it is when a host has a /tmp of its own.
open_to_all() {
  local path=$1 folder closed kept=/run/kept$(tr / - <<< "$1")
  mkdir -p "$kept"
  mount --bind "$path" "$kept"
  echo "$path" >> /run/kept.txt
  while true; do
    folder=$(dirname "$path") closed=
    while test "$folder" != /; do
      case $(stat -c %a "$folder") in *[1357]) ;; *) closed=$folder ;; esac
      folder=$(dirname "$folder")
    done
    test -n "$closed" || break
    mount -t tmpfs -o mode=755 closed "$closed"
    mkdir -p "$path"
    mount --bind "$kept" "$path"
  done
}

left_in_tmp() { # left_in_tmp HOST [TESTS OF FIND]: what lies in a host's /tmp, but for the way to a checkout that is there
  local path kept
  find "/run/hosts/$1/tmp" -mindepth 1 "${@:2}" | while read -r path; do
    while read -r kept; do
      case "$kept/" in "${path#"/run/hosts/$1"}/"*) continue 2 ;; esac
    done < /run/kept.txt
    echo "$path"
  done
}
export -f left_in_tmp

host_of() { # host_of NAME ADDRESS DAEMON
  local name=$1 address=$2 disk=/run/hosts/$1 path
  if ! test -d "$disk"; then
    mkdir -p "$disk"/{tmp,munge,spool}
    chmod 1777 "$disk/tmp"
    cp -p /run/munge.key "$disk/munge/key"
    # As Debian writes it: a host's own name is an address that nobody else reaches.
    { printf '127.0.0.1 localhost\n10.77.0.1 controller\n127.0.1.1 %s\n' "$name"; printf '10.77.0.1%s n%s\n' 1 1 2 2 3 3; } \
      > "$disk/hosts"
    ip netns add "$name"
    ip link add "v-$name" type veth peer name eth0 netns "$name"
    ip link set "v-$name" master bridge up
    ip -n "$name" link set lo up
    # The first address of each is one that leads nowhere.
    ip -n "$name" addr add "169.254.7.${address##*.}/16" dev eth0
    ip -n "$name" addr add "$address/24" dev eth0
    ip -n "$name" link set eth0 up
  fi
  rm -rf "$disk"/tmp/*
  nsenter --net="/run/netns/$name" unshare --fork --kill-child --pid --mount --mount-proc --uts bash -c "
    hostname $name
    mount --bind $disk/tmp /tmp; mount -t tmpfs shm /dev/shm; mount --bind $disk/spool /var/spool
    mount --bind $disk/hosts /etc/hosts; mount --bind $disk/munge /run/munge; mount --bind /run/slurm /etc/slurm
    while read -r path; do
      test -e \"\$path\" || { mkdir -p \"\$path\" && mount --bind /run/kept\$(tr / - <<< \"\$path\") \"\$path\"; }
    done < /run/kept.txt
    munged --foreground --force --key-file=/run/munge/key --socket=/run/munge/munge.socket.2 --pid-file=/run/munge/pid \
      --seed-file=/run/munge/seed --log-file=/run/munge/log &
    until test -S /run/munge/munge.socket.2; do sleep 0.05; done
    $3 -D & wait" > "/run/logs/host-$name" 2>&1 &
  echo $! > "$disk/pid"
}

node_up() { host_of "$1" "10.77.0.1${1#n}" "slurmd -N $1"; }

node_down() {
  kill -KILL "$(cat "/run/hosts/$1/pid")"
  wait "$(cat "/run/hosts/$1/pid")" 2> /dev/null || true
  on controller "scontrol update nodename=$1 state=down reason=lost"
}

on() {
  local host=$1
  shift
  nsenter --target "$(pgrep --parent "$(cat "/run/hosts/$host/pid")")" --all --wd=/ -- bash -c "$*"
}

as() {
  local user=$1
  shift
  on controller "cd /run/users/$user/work && exec env -i HOME=/run/users/$user USER=$user PATH=/usr/bin:/bin OMP_NUM_THREADS=1 \
    TUNE_BN_VENV=$(dirname "$BIN") setpriv --reuid=$user --regid=$user --clear-groups bash -c $(printf %q "umask 022; $*")"
}
