#!/bin/sh
# Runs Gitea's runner, `gitea-runner` (until April 2026 `act_runner`), for one job in this machine.
# Takes its orders from the environment and from the files beside it; nothing secret is ever an
# argument, and the credential is in no file by the time the program asks for a job.
set -eu
umask 077
: "${MAYFLY_FILES:?}" "${MAYFLY_WORK:?}" "${MAYFLY_JOB_SECONDS:?}" "${MAYFLY_LIFE_SECONDS:?}"

fail() {
  echo "mayfly: $*" >&2
  exit 1
}

# What the image holds comes first: it was made on purpose.
find_program() {
  for folder in "${MAYFLY_RUNNER_DIR:-}" /opt/mayfly/runners/gitea; do
    for name in gitea-runner act_runner; do
      if [ -n "$folder" ] && [ -x "$folder/$name" ]; then
        echo "$folder/$name"
        return
      fi
    done
  done
  command -v gitea-runner || command -v act_runner || fetch_program
}

fetch_program() {
  fetch_verified program "gitea-runner in the image" "$MAYFLY_FILES/gitea-runner"
  chmod 700 "$MAYFLY_FILES/gitea-runner"
  echo "$MAYFLY_FILES/gitea-runner"
}

program=$(find_program)
place=$MAYFLY_FILES/registered
mkdir "$place"
mkfifo "$place/.runner"

hook=""
if [ -e "$MAYFLY_FILES/refuse-forks.pl" ]; then
  hook=$MAYFLY_FILES/refuse-forks.pl
  # Programs before 3.0 know no hooks: they would run whatever job of their labels the server gives.
  version=$("$program" --version 2>&1 | sed -n 's/.*version v*\([0-9][0-9]*\)\..*/\1/p')
  if [ "${version:-0}" -lt 3 ]; then
    said="$program is not known to be 3.0 or newer, and older ones cannot refuse jobs of forks"
    [ "${MAYFLY_OLD_RUNNERS:-}" = 1 ] ||
      fail "$said: use a newer one, or set oldRunners if no stranger can start a run"
    echo "mayfly: $said" >&2
  fi
fi

# No cache server: its port would be open to whoever reaches the machine. No Docker is asked for.
cat >"$place/config.yaml" <<END
log:
  level: info
runner:
  file: "$place/.runner"
  capacity: 1
  timeout: ${MAYFLY_JOB_SECONDS}s
  shutdown_timeout: 20s
  fetch_interval: 1s
  fetch_interval_max: 2s
  hooks:
    job_started: "$hook"
cache:
  enabled: false
container:
  docker_host: "-"
host:
  workdir_parent: "$MAYFLY_WORK"
END

# The program reads its registration once, at its start, out of a pipe: there is no file of it. If
# it ever wanted to write one, the folder would be gone, and it would end.
registration=$(cat "$MAYFLY_FILES/registration")
rm -f "$MAYFLY_FILES/registration"
(
  printf %s "$registration" >"$place/.runner"
  rm -rf "$place"
) &
unset registration MAYFLY_RUNNER_PROGRAMS

cd "$MAYFLY_WORK"
set -- "$program" daemon -c "$place/config.yaml"
# It has no limit of its own to how long it waits for a job.
if command -v timeout >/dev/null; then set -- timeout --kill-after=60 "$MAYFLY_LIFE_SECONDS" "$@"; fi
# The job has none of this in its surroundings, and makes files that others may read, as elsewhere.
unset MAYFLY_FILES MAYFLY_WORK MAYFLY_JOB_SECONDS MAYFLY_LIFE_SECONDS MAYFLY_OLD_RUNNERS
umask 022
exec "$@"
