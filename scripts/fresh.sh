#!/bin/bash
# usage: fresh.sh TREE.tar REPOSITORY.bundle TARGET   (inside a test host, as root; called by `cargo xtask fresh`)
# Unpacks a fresh Debian, clones the repository into the home of an ordinary user there, runs `make TARGET` as that user.
set -euo pipefail
tree=$1 bundle=$2 target=$3
fresh=$(mktemp -d /var/tmp/posada-fresh-XXXXXX)
trap 'umount -lR "$fresh"/{dev,proc,sys,run} 2>/dev/null; rm -rf --one-file-system "$fresh"' EXIT
tar -xpf "$tree" -C "$fresh"
for folder in dev proc sys run; do mount --rbind "/$folder" "$fresh/$folder"; done
cp /etc/resolv.conf /etc/hosts "$fresh/etc/"
chroot "$fresh" useradd --create-home --shell /bin/bash ana
echo 'ana ALL=(ALL) NOPASSWD: ALL' >"$fresh/etc/sudoers.d/ana"
cp "$bundle" "$fresh/srv/posada.bundle"
# What a developer's machine has in its environment must not help.
in_there() { env -i TERM="${TERM:-dumb}" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin chroot "$fresh" su - ana -c "$1"; }
in_there 'git clone --quiet /srv/posada.bundle posada'
in_there "cd posada && make $target"
if [ "$target" = run ]; then
    echo "== once more: it says what is there already"
    in_there 'cd posada && make run'
    in_there 'sudo posada/target/release/posada exec web -- systemctl is-system-running --wait'
fi
