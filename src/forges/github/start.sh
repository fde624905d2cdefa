#!/bin/sh
# Runs GitHub's runner for one job. Its configuration is a file beside this one: read, removed, and
# handed on in the variable that the runner itself takes out of its environment at once.
set -eu
umask 077

fail() {
  echo "mayfly: $1" >&2
  exit 70
}

# The archive as GitHub releases it, unpacked only if it is the very one.
fetch_program() {
  archive=$MAYFLY_WORK/runner.tar.gz
  fetch_verified "runner program" "runner program in /opt/mayfly/runners/github" "$archive"
  tar -xzf "$archive" -C "$runner" || fail "the runner program's archive cannot be unpacked"
  rm -f "$archive"
}

config=$(cat "$MAYFLY_FILES/jitconfig") || fail "there is no configuration for the runner"
rm -f "$MAYFLY_FILES/jitconfig"
[ -n "$config" ] || fail "the configuration for the runner is empty"

# The runner writes beside its program, so it gets a copy of its own: where the image's is read-only
# and many jobs share a host, none sees what another left.
runner=$MAYFLY_WORK/runner
found=
for folder in "${MAYFLY_RUNNER_DIR:-}" /opt/mayfly/runners/github; do
  if [ -n "$folder" ] && [ -x "$folder/run.sh" ]; then
    found=$folder
    break
  fi
done
mkdir -p "$runner"
if [ -n "$found" ]; then
  cp -R "$found/." "$runner"
else
  fetch_program
fi
[ -x "$runner/run.sh" ] || fail "there is no run.sh in the runner program"
# What an earlier registration may have left would make the runner refuse to begin.
rm -f "$runner/.runner" "$runner/.credentials" "$runner/.credentials_rsaparams"

# A machine that is root to nobody else: the runner otherwise refuses root.
[ "$(id -u)" != 0 ] || export RUNNER_ALLOW_RUNASROOT=1
# .NET ends at its start where the system's loader finds no ICU, unless it is told to do without.
if [ "$(uname -s)" = Linux ] && ! PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -q libicuuc; then
  export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT="${DOTNET_SYSTEM_GLOBALIZATION_INVARIANT:-1}"
fi
# A program too old for the server is to end instead of going on for ever.
export ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1
# A whole day to wait for the job; from its start on, job-started.sh minds its time.
seconds=$((${MAYFLY_JOB_SECONDS:-21600} + 86400 + 60))
export MAYFLY_RUNNER_PID=$$
unset MAYFLY_WORK MAYFLY_FILES MAYFLY_RUNNER_PROGRAMS

cd "$runner"
export ACTIONS_RUNNER_INPUT_JITCONFIG="$config"
unset config
# What a job makes, others may read, as elsewhere.
umask 022
# The deadman, for when nobody else is left to end it: with all its children.
command -v timeout >/dev/null || exec ./run.sh
exec timeout -k 30 "$seconds" ./run.sh
