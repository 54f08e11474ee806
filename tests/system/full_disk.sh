# A study whose disk fills up.
# TESTS   the folder tests/ of the repository
source "$(dirname "$0")/sandbox.sh"

mkdir -p /run/home/place/studies
mount -t tmpfs -o size=8m tmpfs /run/home/place/studies
export PYTHONPATH="$(dirname "$TESTS"):$TESTS/faults"
"$BIN/python" "$TESTS/system/full_disk.py" > /run/logs/full_disk.log 2>&1
cp -r /run/home/place/studies/one /run/home/study
