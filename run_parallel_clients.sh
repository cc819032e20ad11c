#!/bin/sh
# Sends requests from parallel clients and counts which backend answered: run_parallel_clients.sh -h
# In a checkout it needs nothing but python3, no environment and no installation.
set -eu
command -v python3 >/dev/null || { echo "run_parallel_clients.sh: python3 is not installed" >&2; exit 2; }
here=$(dirname "$(readlink -f "$0")")
# -I: the script sees the standard library only, whatever lies around it.
[ ! -f "$here/twisted_lb/parallel_clients.py" ] || exec python3 -I "$here/twisted_lb/parallel_clients.py" "$@"
# Installed, beside the Python that has the package.
python=$here/python3
[ -x "$python" ] || python=python3
exec "$python" -P -m twisted_lb.parallel_clients "$@"
