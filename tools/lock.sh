#!/usr/bin/env bash
# Resolve requirements.lock anew from the direct dependencies in pyproject.toml. Run the tests before committing it.
set -euo pipefail
python=${PYTHON:-python3.11}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" - >"$work/direct.txt" <<'PY'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["dev"], sep="\n")
PY
"$work/venv/bin/pip" install --quiet -r "$work/direct.txt"
{
  echo "# Every package of the environment, as resolved by tools/lock.sh on Python 3.11. Install with: make setup"
  # A build tag such as +cpu belongs to one machine, not to the lock.
  "$work/venv/bin/pip" freeze --all | grep -v '^pip==' | sed 's/+[a-z0-9.]*$//'
} >requirements.lock
