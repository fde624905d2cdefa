#!/bin/sh
# The runner runs this before a job's first step, with the event that the job is of in the file
# GITHUB_EVENT_PATH. A status other than 0 fails the job. A machine for trusted code refuses what a
# fork sent: whoever writes a workflow chooses its labels, so labels keep nobody out.
case ",${MAYFLY_ACCEPT:-}," in
*,fork,*) ;;
*)
  perl "${0%.sh}.pl" "${GITHUB_EVENT_PATH:-}" "${GITHUB_REPOSITORY:-}" || {
    echo "Mayfly does not run this job: its pool only takes code of people with write access." >&2
    exit 1
  }
  ;;
esac

# The job's own deadman: a minute after its limit, its runner is told to end. The manager, the guest
# and the machine have later ones; this one lets the runner still say at GitHub that it gave up.
if [ -n "${MAYFLY_RUNNER_PID:-}" ] && [ -n "${MAYFLY_JOB_SECONDS:-}" ]; then
  (
    sleep "$((MAYFLY_JOB_SECONDS + 60))"
    kill -TERM "$MAYFLY_RUNNER_PID"
  ) </dev/null >/dev/null 2>&1 &
fi
exit 0
