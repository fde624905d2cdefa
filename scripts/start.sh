# `npm start`: sets up everything, then starts Mayfly on embedded defaults. A first start with no
# configuration runs the example job. Arguments go to `mayfly up`.
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
. "$root/scripts/setup.sh"
. "$root/scripts/debian.sh"
# Without them Mayfly falls back to what this machine can do, and says so itself.
# Emulated machines are so slow that QEMU is left out where there is no KVM.
[ -w /dev/kvm ] || machine_packages=
debian_packages "machines" $container_packages $machine_packages ||
  say "going on without them"
exec "$root/mayfly" up "$@"
