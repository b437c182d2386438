#!/bin/sh
# Replaces the programs of images when the tests run manifests/examples: prints its name and its
# arguments, and where restic would store a backup. It stores and connects to nothing.
program=${0##*/}
case "$program $*" in
  psql*) printf 'orders\naccounts\n' ;;
  wget*does-not-exist*) echo "wget: bad address" >&2; exit 1 ;;
  *)
    echo "$program $*"
    if [ "$program" = restic ]; then echo "to ${RESTIC_REPOSITORY%%:*}"; fi
    ;;
esac
