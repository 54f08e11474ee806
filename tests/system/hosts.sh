# Sourced after sandbox.sh: hosts of their own on one machine. Each has a network, processes, a home, temporary folders and
# an sshd of its own, so that what works between them works over ssh and the network alone, and a host can be lost whole.
#
# begin_hosts [ADDRESS BITS]   a network, by default 10.77.0.0/24 with this shell at 10.77.0.254, and a key pair in /run/ssh
# host_up NAME ADDRESS   start a host, or start it again with the disk that it had; a name has 13 characters at most
# host_down NAME         the power goes out
# host_cut NAME, host_join NAME   take it from the network, and give it back

begin_hosts() {
  gateway=${1:-10.77.0.254}
  bits=${2:-24}
  mkdir -p /run/netns /run/ssh /run/sshd /run/hosts
  ssh-keygen -q -t ed25519 -N '' -f /run/ssh/user_key
  ip link add bridge type bridge
  ip addr add "$gateway/$bits" dev bridge
  ip link set bridge up
}

host_up() {
  local name=$1 address=$2 disk=/run/hosts/$1
  if ! test -d "$disk"; then
    mkdir -p "$disk"/{home,ray,tmp,ssh}
    cp /run/home/.bashrc "$disk/home/.bashrc"
    ssh-keygen -q -t ed25519 -N '' -f "$disk/ssh/host_key"
    sshd_settings "$address" "$disk/ssh/host_key" /run/ssh/user_key.pub > "$disk/ssh/sshd_config"
    ip netns add "$name"
    ip link add "v-$name" type veth peer name eth0 netns "$name"
    ip link set "v-$name" master bridge up
    ip -n "$name" link set lo up
    ip -n "$name" addr add "$address/$bits" dev eth0
    ip -n "$name" addr add "10.78.${address#*.*.}/$bits" dev eth0  # hosts have several
    ip -n "$name" link set eth0 up
    ip -n "$name" route add default via "$gateway"
  fi
  rm -rf "$disk"/ray/* "$disk"/tmp/*
  # Not by `ip netns exec`, which would remount /sys and hide what this shell mounted.
  nsenter --net="/run/netns/$name" unshare --fork --kill-child --pid --mount --mount-proc --uts bash -c "
    hostname $name
    mount --bind $disk/home /run/home; mount --bind $disk/ray /run/ray; mount --bind $disk/tmp /run/tmp
    cd /run/home
    exec $(command -v sshd) -D -f $disk/ssh/sshd_config -E /run/logs/sshd-$name" &
  echo $! > "/run/hosts/$name.pid"
  timeout 20 bash -c "until ssh -q $(ssh_options) $address true; do sleep 0.2; done"
}

host_down() {
  kill -KILL "$(cat "/run/hosts/$1.pid")"
  wait "$(cat "/run/hosts/$1.pid")" 2> /dev/null || true
}

host_cut() { ip link set "v-$1" down; }
host_join() { ip link set "v-$1" up; }

ssh_options() { echo "-i /run/ssh/user_key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"; }

on() { # on ADDRESS COMMAND…: with what a person's shell has
  local address=$1
  shift
  ssh -q $(ssh_options) "$address" "source ~/.bashrc; $*"
}
