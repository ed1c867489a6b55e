#!/bin/bash
# usage: fresh.sh TREE.tar REPOSITORY.bundle TARGET   (inside a test host, as root; called by `cargo xtask fresh`)
# Unpacks a fresh Debian, clones the repository into the home of an ordinary user there, runs `make TARGET` as that user.
set -euo pipefail
if [ "$1" = --inside ]; then
    # In mounts of our own: the fresh Debian becomes the root. A chroot would not do, it may make no user namespaces.
    fresh=$2 target=$3
    mount --rbind "$fresh" "$fresh"
    cd "$fresh"
    pivot_root . mnt
    umount -l /mnt
    # What a developer's machine has in its environment must not help.
    as_ana() { env -i TERM="${TERM:-dumb}" PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin su - ana -c "$1"; }
    as_ana 'git clone --quiet /srv/posada.bundle posada'
    as_ana "cd posada && make $target"
    if [ "$target" = run ]; then
        echo "== once more: it says what is there already"
        as_ana 'cd posada && make run'
        as_ana 'sudo posada/target/release/posada exec web -- systemctl is-system-running --wait'
    fi
    exit
fi
tree=$1 bundle=$2 target=$3
fresh=$(mktemp -d /var/tmp/posada-fresh-XXXXXX)
trap 'umount -lR "$fresh"/{dev,proc,sys,run} 2>/dev/null; rm -rf --one-file-system "$fresh"' EXIT
chmod 755 "$fresh"
tar -xpf "$tree" -C "$fresh"
for folder in dev proc sys run; do mount --rbind "/$folder" "$fresh/$folder"; done
cp /etc/resolv.conf /etc/hosts "$fresh/etc/"
# A network that inspects TLS has authorities of its own; whoever works there has installed them.
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
    cp /usr/local/share/ca-certificates/*.crt "$fresh/usr/local/share/ca-certificates/"
    chroot "$fresh" update-ca-certificates >/dev/null 2>&1
fi
chroot "$fresh" useradd --create-home --shell /bin/bash ana
echo 'ana ALL=(ALL) NOPASSWD: ALL' >"$fresh/etc/sudoers.d/ana"
cp "$bundle" "$fresh/srv/posada.bundle"
unshare --mount --propagation private "$0" --inside "$fresh" "$target"
