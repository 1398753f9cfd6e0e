#!/bin/sh
# Installs the witness as a service on this machine, upgrades it, or takes it away. Safe to run again.
#
#   sh deploy/install-witness.sh [--python PYTHON]     install, or upgrade to this checkout's version
#   sh deploy/install-witness.sh --uninstall [--purge] take it away; --purge also its configuration and its data
#
#   --python PYTHON   an interpreter that has the packages of requirements.txt already (a machine without a network);
#                     without it, one is made in /opt/zfs-sync/.venv
#
# The program comes to /opt/zfs-sync, its configuration to /etc/zfs-sync/zfs_sync.yaml (left as it is where there is
# one), its data to /var/lib/zfs-sync-witness, and it runs as the user zfs-sync.
set -eu

program=/opt/zfs-sync
settings=/etc/zfs-sync/zfs_sync.yaml
data=/var/lib/zfs-sync-witness
unit=/etc/systemd/system/zfs-sync-witness.service
account=zfs-sync
here=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() {
    printf 'install-witness: %s\n' "$*" >&2
    exit 1
}

systemd_runs() { [ -d /run/systemd/system ]; }

uninstall() {
    if systemd_runs; then
        systemctl disable --quiet --now zfs-sync-witness.service 2>/dev/null || true
    fi
    rm -f "$unit"
    rm -rf "$program" "$program.new" "$program.old"
    if systemd_runs; then systemctl daemon-reload; fi
    if [ -n "$purge" ]; then
        rm -rf "$settings" "$data"
        rmdir /etc/zfs-sync 2>/dev/null || true
        if id "$account" >/dev/null 2>&1; then userdel "$account"; fi
        say "The witness, its configuration and its data are gone."
    else
        say "The witness is gone; $settings and $data are left (--purge takes them, too)."
    fi
}

copy_program() { # beside, then in one move: an interrupted copy is never what runs
    rm -rf "$program.new" "$program.old"
    mkdir -p "$program.new"
    (cd "$here" && tar -cf - zfs_sync.py config cli handlers planner store deploy zfs_sync.yaml requirements.txt \
        README.md CHANGELOG.md SECURITY.md LICENSE docs) | (cd "$program.new" && tar -xf - --no-same-owner)
    find "$program.new" -name __pycache__ -prune -exec rm -rf {} +
    chmod -R u=rwX,go=rX "$program.new"
    if [ -n "$python" ]; then
        mkdir -p "$program.new/.venv/bin"
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$program.new/.venv/bin/python"
        chmod 755 "$program.new/.venv/bin/python"
    else
        python3 -m venv "$program.new/.venv"
        "$program.new/.venv/bin/python" -m pip install -q --require-hashes \
            -r "$program.new/deploy/requirements.hashes.txt"
    fi
    (cd "$program.new" && .venv/bin/python zfs_sync.py --version) || die "the program does not start; nothing was changed"
    if [ -e "$program" ]; then mv "$program" "$program.old"; fi
    mv "$program.new" "$program"
    rm -rf "$program.old"
}

install_witness() {
    if [ -z "$python" ]; then
        python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' ||
            die "needs Python 3.11 or later with venv (Debian: apt install python3 python3-venv)"
    fi
    if ! id "$account" >/dev/null 2>&1; then
        useradd --system --user-group --home-dir "$data" --no-create-home --shell /usr/sbin/nologin "$account"
    fi
    copy_program
    mkdir -p "${settings%/*}" "${unit%/*}"
    if [ ! -e "$settings" ]; then
        sed "s|^#data_dir: null .*|data_dir: $data|" "$program/zfs_sync.yaml" >"$settings"
    fi
    chown "root:$account" "$settings"
    chmod 640 "$settings"
    mkdir -p "$data"
    chown "$account:$account" "$data"
    chmod 700 "$data"
    cp "$program/deploy/systemd/zfs-sync-witness.service" "$unit"
    chmod 644 "$unit"
    if systemd_runs; then
        systemctl daemon-reload
        systemctl enable --quiet zfs-sync-witness.service
        systemctl restart zfs-sync-witness.service
        say "The witness runs. Its first start printed an admin and an enroll key, once: journalctl -u zfs-sync-witness"
    else
        say "Installed. There is no systemd here; start it as the user $account:"
        say "  cd $program && .venv/bin/python zfs_sync.py serve --config $settings"
    fi
    say "Its settings: $settings. It listens on this machine only until 'host' says otherwise."
}

action=install_witness purge='' python=''
while [ $# -gt 0 ]; do
    case $1 in
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --python)
            [ $# -ge 2 ] || die "--python needs an interpreter"
            python=$2
            shift
            ;;
        *) die "unknown option $1; see the top of $0" ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || die "must be run as root"
"$action"
