#!/usr/bin/env bash
# Make the virtual environment that everything runs in: the versions of requirements.lock, no others.
set -euo pipefail
venv=$1
python=${PYTHON:-python3.11}

if ! command -v "$python" >/dev/null 2>&1; then
  python=python3
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
  found=$("$python" --version 2>&1 || echo 'no Python')
  echo "Error: this needs Python 3.11, and '$python' is $found." >&2
  echo "    Hint: install Python 3.11 (python.org, your package manager, pyenv, or conda with environment.yml), then" >&2
  echo "    run again with: make PYTHON=/path/to/python3.11 ..." >&2
  exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  echo "Error: this Python has no venv module." >&2
  echo "    Hint: on Debian and Ubuntu: apt-get install python3.11-venv" >&2
  exit 1
fi

echo "Setting up $venv (a few minutes, once)."
"$python" -m venv "$venv"
log=$venv/setup.log
# Torch alone and first: where the package index offers several builds, the one that is chosen here is the one kept.
if ! {
  "$venv/bin/python" -m pip install --disable-pip-version-check "$(grep '^torch==' requirements.lock)" \
    && "$venv/bin/python" -m pip install --disable-pip-version-check -r requirements.lock \
    && "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
} >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  echo "Error: installing the packages of requirements.lock failed; the whole log is $log." >&2
  echo "    Hint: check the network and the free disk space (6 GB), then run the same command again. A package that must" >&2
  echo "    be compiled needs gcc and the Python headers (Debian: apt-get install build-essential python3.11-dev)." >&2
  exit 1
fi
