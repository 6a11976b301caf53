#!/usr/bin/env bash
# A Slurm of one node on this machine, with ports, keys and state of its own: `slurm.sh start DIR`,
# `slurm.sh stop DIR`. Afterwards `SLURM_CONF=DIR/slurm.conf sbatch …` submits to it. Needs root and
# Debian's slurm-wlm (which brings munge); exit code 77 where they are missing.
set -eu

action="$1"
dir="$(mkdir -p "$2" && cd "$2" && pwd)"

stop() {
    # By the numbers that they wrote themselves.
    for daemon in slurmd slurmctld munged; do
        if [ -s "$dir/$daemon.pid" ]; then
            kill "$(cat "$dir/$daemon.pid")" 2>/dev/null || true
        fi
    done
}

if [ "$action" = stop ]; then
    stop
    exit 0
fi

if [ "$(id -u)" != 0 ]; then
    echo "Slurm is started by root only" >&2
    exit 77
fi
for program in munged slurmctld slurmd sbatch; do
    if ! command -v "$program" >/dev/null; then
        echo "no $program; on Debian: apt-get install slurm-wlm" >&2
        exit 77
    fi
done

# Every user must be able to pass through to the sockets.
chmod 755 "$dir"
mkdir -p "$dir/munge" "$dir/ctld" "$dir/slurmd"
dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 2>/dev/null
chmod 400 "$dir/munge/key"
chmod 755 "$dir/munge"
chown -R munge "$dir/munge"

free_port() {
    for try in $(seq 50); do
        port=$((20000 + (RANDOM + try) % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# The name must be one that resolves to this machine.
host="$(hostname -s)"
cat >"$dir/slurm.conf" <<CONF
ClusterName=meta
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
StateSaveLocation=$dir/ctld
SlurmdSpoolDir=$dir/slurmd
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MailProg=/bin/true
KillWait=10
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

trap 'status=$?; [ "$status" = 0 ] || { stop; tail -n 20 "$dir"/*.log >&2 || true; }' EXIT

# --force: the folders above may belong to somebody else than munge.
runuser -u munge -- munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" \
    --pid-file="$dir/munge/pid" --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
cp "$dir/munge/pid" "$dir/munged.pid"
slurmctld -f "$dir/slurm.conf"
slurmd -f "$dir/slurm.conf" -N "$host"

export SLURM_CONF="$dir/slurm.conf"
for _ in $(seq 100); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -q '^idle'; then
        exit 0
    fi
    sleep 0.2
done
echo "Slurm did not come up" >&2
exit 1
