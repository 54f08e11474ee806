#!/usr/bin/env bash
# The one install step of every node: tune_bn from a wheel into ~/.tune_bn, with what a cluster needs besides, and for every
# login shell its PATH and Ray's token authentication.
#
#   install.sh [PACKAGE ...]
#
# Beside this script are constraints.txt, which pins Ray and all libraries to those that the project is tested with, and
# dist/ with the wheel of tune_bn. Where dist/ holds wheels of others too, they are all that is asked, and no network is needed:
#
#   pip download --dest dist --constraint constraints.txt "$(echo dist/tune_bn-*.whl)[cluster]" [PACKAGE ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${TUNE_BN_VENV:-$HOME/.tune_bn}
python=${PYTHON:-python3}

fail() {
  echo "error: $1" >&2
  exit 2
}

shopt -s nullglob
# What is copied to a node stays there: of several versions the newest is meant.
own=
others=()
for wheel in "$here"/dist/*.whl; do
  if [[ $wheel != */tune_bn-* ]]; then
    others+=("$wheel")
  elif test -z "$own" || test "$wheel" -nt "$own"; then
    own=$wheel
  fi
done
test -n "$own" || fail "$here/dist: got no wheel of tune_bn; accepted: one, as 'python -m build --wheel' leaves it"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python: got $("$python" --version 2>&1); accepted: Python 3.11 or later (PYTHON=...)"

if ! test -x "$home/bin/pip"; then
  # Debian and Ubuntu keep a part of venv in a package of its own.
  "$python" -m ensurepip --version > /dev/null 2>&1 || {
    sudo apt-get -o DPkg::Lock::Timeout=300 update
    sudo apt-get -o DPkg::Lock::Timeout=300 install -y python3-venv
  }
  "$python" -m venv --clear "$home"
fi

sources=()
((${#others[@]} == 0)) || sources=(--no-index --find-links "$here/dist")
"$home/bin/pip" install --disable-pip-version-check "${sources[@]}" --constraint "$here/constraints.txt" "${own}[cluster]" "$@"
# A wheel of new code may carry an old version number.
"$home/bin/pip" install --disable-pip-version-check --no-index --no-deps --force-reinstall "$own"

touch "$HOME/.bashrc"
# Nothing here reports to anybody: neither Ray nor MLflow.
for line in "export PATH=\"$home/bin:\$PATH\"" "export RAY_AUTH_MODE=token" \
  "export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true"; do
  grep -qxF "$line" "$HOME/.bashrc" || echo "$line" >> "$HOME/.bashrc"
done
