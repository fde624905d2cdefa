#!/bin/sh
# The runner runs this before a job's first step, with the event that the job is of in the file
# GITHUB_EVENT_PATH. A status other than 0 fails the job. A machine for trusted code refuses what a
# fork sent: whoever writes a workflow chooses its labels, so labels keep nobody out.
case ",${MAYFLY_ACCEPT:-}," in
*,fork,*) exit 0 ;;
esac
perl "${0%.sh}.pl" "${GITHUB_EVENT_PATH:-}" "${GITHUB_REPOSITORY:-}" && exit 0
echo "Mayfly does not run this job: its pool only takes code of people with write access." >&2
exit 1
