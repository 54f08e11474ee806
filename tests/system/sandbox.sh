# Sourced first by a script that conftest.py runs in pid, mount and network namespaces of its own. There `ray stop` sees no
# other Ray, every port is free, and what is still running when the script ends dies with it.
#
# SCRATCH   an empty folder; it becomes /run, with the user's home in /run/home and a log of each step in /run/logs
# LAN       is set: a second address of this machine, by which Ray would go
# BIN       the folder of python and ray
# USER_NAME who runs the test
set -euo pipefail

mount --bind "$SCRATCH" /run
chmod 755 /run  # PostgreSQL runs as a user of its own
mkdir /run/home /run/logs /run/ray /run/tmp
ip link set lo up
# An address of a network besides, as machines have one: what is meant for loopback must not be on it.
export LAN=10.66.0.1
ip link add lan type veth peer name lan-end
ip addr add "$LAN/24" dev lan
ip link set lan-end up
ip link set lan up
ip route add default via 10.66.0.254 dev lan

# Shells must find the right python, and their home must be no real one.
awk -F: -v OFS=: -v user="$USER_NAME" \
  '$1 == user { $2 = "*"; $6 = "/run/home"; $7 = "/bin/bash" } 1' /etc/passwd > /run/passwd
mount --bind /run/passwd /etc/passwd
cat > /run/home/.bashrc <<EOF
export PATH="$BIN:\$PATH" RAY_TMPDIR=/run/ray TMPDIR=/run/tmp RAY_USAGE_STATS_ENABLED=0
EOF
export HOME=/run/home
source /run/home/.bashrc
cd /run/home

sshd_settings() { # sshd_settings ADDRESS HOST_KEY AUTHORIZED_KEYS: an sshd that lets in one key and nobody else
  cat <<EOF
ListenAddress $1:22
HostKey $2
AuthorizedKeysFile $3
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
EOF
}

listening() { # listening FILE: who listens, when every listener has an owner; one that has just come has none in `ss` for a moment
  for _ in {1..100}; do
    ss -ltnpH > "$1"
    if ! grep -qv 'users:' "$1"; then return; fi
    sleep 0.1
  done
}

await_gone() { # await_gone PATTERN: `ray stop` returns before what its processes started has ended; what stays is for the test to see
  for _ in {1..300}; do
    if ! pgrep -f "$1" > /dev/null; then return; fi
    sleep 0.1
  done
}
