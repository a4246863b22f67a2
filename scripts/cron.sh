#!/bin/sh
# What crontab calls: cron.py with the interpreter, the PATH and the single thread that it needs, in the repository.
#
#   scripts/cron.sh check --study studies/tiny.yaml
#   scripts/cron.sh sample 3 --profile slurm
#
# Relative paths are relative to the repository. Cron's own environment is nearly empty; what a site needs besides
# (modules, a proxy) can stand in a file named by HARDSCALE_PROFILE, which is read first. The exit status is cron.py's:
# docs/cron.md. Two at a time do no harm: a directory has one controller, and the later one leaves with status 75.
set -eu
repository=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$repository"
if [ -n "${HARDSCALE_PROFILE:-}" ]; then
  # shellcheck disable=SC1090
  . "$HARDSCALE_PROFILE"
fi
venv=${VENV:-$repository/.venv}
if [ -x "$venv/bin/python" ]; then
  PATH="$venv/bin:${PATH:-/usr/bin:/bin}"
elif ! command -v python >/dev/null 2>&1; then
  echo "error: $venv: no such environment; run make study, or name one by VENV=" >&2
  exit 2
fi
export PATH OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONUNBUFFERED=1
exec python scripts/cron.py "$@"
