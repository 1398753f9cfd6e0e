#!/bin/sh
# Installs the agent on this host, upgrades it, or takes it away. Safe to run again.
#
#   sh deploy/install-agent.sh [--witness URL]          install, or upgrade to this checkout's version
#   sh deploy/install-agent.sh --uninstall [--purge]    take it away; --purge also its configuration and its state
#
# An enroll key in the environment (ENROLL_KEY) goes into a new configuration file, and then the host is registered.
# The script comes to /usr/local/sbin, its configuration to /etc/zfs-sync/agent.conf (left as it is
# where there is one), and what
# starts it every ten minutes is systemd's timer, FreeBSD's rc.d, or else cron.
set -eu

program=/usr/local/sbin/zfs-sync-agent
config=/etc/zfs-sync/agent.conf
state=/var/lib/zfs-sync
units=/etc/systemd/system
rc_script=/usr/local/etc/rc.d/zfs_sync_agent
cron_line=/etc/cron.d/zfs-sync-agent
here=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*"; }
die() {
    printf 'install-agent: %s\n' "$*" >&2
    exit 1
}

put() { # put SOURCE TARGET MODE: beside, then in one move, since a run may be reading it
    mkdir -p "${2%/*}"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
}

starter() {
    if [ -d /run/systemd/system ]; then
        echo systemd
    elif [ "$(uname -s)" = FreeBSD ]; then
        echo rc
    else
        echo cron
    fi
}

uninstall() {
    if [ -d /run/systemd/system ]; then
        systemctl disable --quiet --now zfs-sync-agent.timer 2>/dev/null || true
    fi
    if [ -x "$rc_script" ]; then "$rc_script" onestop >/dev/null 2>&1 || true; fi
    rm -f "$units/zfs-sync-agent.timer" "$units/zfs-sync-agent.service" "$rc_script" "$cron_line" "$program"
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
    if [ -n "$purge" ]; then
        rm -rf "$config" "$state"
        rmdir "${config%/*}" 2>/dev/null || true
        say "The agent, its configuration and its state are gone. The witness still knows this host."
    else
        say "The agent is gone; $config is left (--purge takes it, too)."
    fi
}

write_config() {
    mkdir -p "${config%/*}"
    (
        umask 077
        sed -e "s|^witness = .*|witness = ${witness:-https://witness.example:8000}|" "$here/agent.conf.example" |
            while IFS= read -r line; do # by the shell, since sed's arguments are for every process to see
                case $line in
                    'enroll_key ='*) printf 'enroll_key = %s\n' "${ENROLL_KEY:-}" ;;
                    *) printf '%s\n' "$line" ;;
                esac
            done >"$config"
    )
}

start() {
    case $(starter) in
        systemd)
            put "$here/systemd/zfs-sync-agent.service" "$units/zfs-sync-agent.service" 644
            put "$here/systemd/zfs-sync-agent.timer" "$units/zfs-sync-agent.timer" 644
            systemctl daemon-reload
            systemctl enable --quiet --now zfs-sync-agent.timer
            say "It runs every ten minutes: systemctl list-timers zfs-sync-agent.timer"
            ;;
        rc)
            put "$here/freebsd/zfs_sync_agent" "$rc_script" 755
            say "To start it: sysrc zfs_sync_agent_enable=YES && service zfs_sync_agent start"
            ;;
        cron)
            put "$here/cron/zfs-sync-agent" "$cron_line" 644
            say "It runs every ten minutes: $cron_line"
            ;;
    esac
}

install_agent() {
    for needed in curl ssh; do
        command -v "$needed" >/dev/null || die "needs $needed"
    done
    put "$here/zfs-sync-agent" "$program" 755
    mkdir -p "$state"
    chmod 700 "$state"
    if [ ! -e "$config" ]; then
        write_config
        if [ -n "${ENROLL_KEY:-}" ]; then "$program" --config "$config" register; fi
    fi
    start
    say "Next: edit $config, then zfs-sync-agent register (once), and zfs-sync-agent doctor, which says what is missing."
}

action=install_agent purge='' witness=''
while [ $# -gt 0 ]; do
    case $1 in
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --witness)
            [ $# -ge 2 ] || die "--witness needs an address"
            case $2 in
                http*://*[!A-Za-z0-9._:/%~-]*) die "--witness: that is no address: $2" ;;
                http://?* | https://?*) witness=$2 ;;
                *) die "--witness: expected http://... or https://..., not $2" ;;
            esac
            shift
            ;;
        *) die "unknown option $1; see the top of $0" ;;
    esac
    shift
done
[ "$(id -u)" -eq 0 ] || die "must be run as root"
"$action"
