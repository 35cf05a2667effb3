#!/bin/bash
# Makes this machine a worker. Needs Amazon Linux 2023 or Debian 12, and root. It is part of the
# worker's unpacked software; the settings are in /etc/taskfleet/worker.env. It may run again.
#
#   setup.sh            install and start the worker
#   setup.sh --install  install only, for an image
set -euo pipefail
exec 9>/dev/console
BASH_XTRACEFD=9 PS4="taskfleet-boot: " # the console shows each step, as that of the user data
set -x
software=$(cd "$(dirname "$0")/../.." && pwd)

install_packages() {
    if command -v dnf >/dev/null; then
        dnf install -qy "$@"
    else
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
    fi
}

command -v python3.11 >/dev/null || install_packages python3.11
if command -v dnf >/dev/null && ! [ -d /opt/aws/amazon-cloudwatch-agent ]; then
    install_packages amazon-cloudwatch-agent
fi
for user in taskfleet taskfleet-task; do # the worker's, and that of the processes of tasks
    id $user >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --shell /usr/sbin/nologin $user
done
ln -sfn "$software" /opt/taskfleet/current
mkdir -p /etc/taskfleet
if [ -f /etc/taskfleet/worker.env ]; then chmod 600 /etc/taskfleet/worker.env; fi # not for tasks
install -m 644 "$software"/infra/machine/aws-config /etc/taskfleet/aws-config
install -m 644 "$software"/infra/machine/*.service /etc/systemd/system/
systemctl daemon-reload
if [ "${1:-}" = --install ]; then
    truncate --size 0 /etc/machine-id # each machine that starts from the image makes its own
    exit
fi

# Debian has no package of CloudWatch's agent. Without the agent, logs stay in the journal.
agent=/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
if [ -x $agent ]; then
    stage=$(sed -n 's/^TASKFLEET_STAGE=//p' /etc/taskfleet/worker.env)
    sed "s/STAGE/$stage/" "$software"/infra/machine/logs.json >/etc/taskfleet/logs.json
    systemctl enable --now taskfleet-journal.service
    $agent -a fetch-config -m ec2 -s -c file:/etc/taskfleet/logs.json
fi
systemctl is-active --quiet taskfleet-lifetime.timer || # ends the machine if nobody else does
    systemd-run --unit=taskfleet-lifetime --on-active=8d systemctl poweroff
systemctl enable --now taskfleet-worker.service
shutdown -c # the timer of the user data; from now on the worker's unit ends the machine
