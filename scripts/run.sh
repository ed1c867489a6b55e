#!/bin/bash
# `make run`: builds, starts the daemon, launches debian/12 as guest `web`, says what to type next. Run again: says
# what is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$("${CARGO:-cargo}" xtask build --release)
posada=$bin/posada
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

if $sudo "$posada" ls --quiet 2>/dev/null | grep -qx web; then
    $sudo "$posada" start web 2>/dev/null || true
    echo "guest web is there already:"
else
    $sudo "$posada" launch debian/12 web --publish 8000:80
fi
$sudo "$posada" ls
# shellcheck disable=SC2016
printf '\naddress: %s\ntry:\n' "$($sudo "$posada" ip web | head -n 1)"
cat <<EOF
  ${sudo:+$sudo }$posada shell web
  ${sudo:+$sudo }$posada exec web -- apt-get install -y nginx    # then: curl localhost:8000
  ${sudo:+$sudo }$posada explain web
EOF
