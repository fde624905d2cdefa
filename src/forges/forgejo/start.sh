#!/bin/sh
# Runs Forgejo's runner, `forgejo-runner`, for one certain job in this machine. Takes its arguments
# (the server, the runner's uuid, the job's handle, the labels) as they are, its limits from the
# environment, and its token from the file beside it, which is gone before the program asks for the
# job.
set -eu
umask 077
: "${MAYFLY_FILES:?}" "${MAYFLY_WORK:?}" "${MAYFLY_JOB_SECONDS:?}" "${MAYFLY_LIFE_SECONDS:?}"

fail() {
  echo "mayfly: $*" >&2
  exit 1
}

# What the image holds comes first: it was made on purpose.
find_program() {
  for folder in "${MAYFLY_RUNNER_DIR:-}" /opt/mayfly/runners/forgejo; do
    if [ -n "$folder" ] && [ -x "$folder/forgejo-runner" ]; then
      echo "$folder/forgejo-runner"
      return
    fi
  done
  command -v forgejo-runner || fetch_program
}

fetch_program() {
  fetch_verified program "forgejo-runner in the image" "$MAYFLY_FILES/forgejo-runner"
  chmod 700 "$MAYFLY_FILES/forgejo-runner"
  echo "$MAYFLY_FILES/forgejo-runner"
}

program=$(find_program)
place=$MAYFLY_FILES/registered
mkdir "$place"
mkfifo "$place/token"

# No cache server: its port would be open to whoever reaches the machine. No Docker is asked for.
cat >"$place/config.yaml" <<END
log:
  level: info
runner:
  file: "$place/.runner"
  env_file: ""
  capacity: 1
  timeout: ${MAYFLY_JOB_SECONDS}s
  shutdown_timeout: 20s
cache:
  enabled: false
container:
  docker_host: "-"
host:
  workdir_parent: "$MAYFLY_WORK"
END

# The program reads its token once, at its start, out of a pipe: there is no file of it.
token=$(cat "$MAYFLY_FILES/token")
rm -f "$MAYFLY_FILES/token"
(
  printf %s "$token" >"$place/token"
  rm -rf "$place"
) &
unset token MAYFLY_RUNNER_PROGRAMS

cd "$MAYFLY_WORK"
set -- one-job -c "$place/config.yaml" --token-url "file:$place/token" --fetch-interval 1s --wait "$@"
# It waits for its job without a limit, also when another has taken that.
set -- "$program" "$@"
if command -v timeout >/dev/null; then set -- timeout --kill-after=60 "$MAYFLY_LIFE_SECONDS" "$@"; fi
# The job has none of this in its surroundings, and makes files that others may read, as elsewhere.
unset MAYFLY_FILES MAYFLY_WORK MAYFLY_JOB_SECONDS MAYFLY_LIFE_SECONDS
umask 022
exec "$@"
