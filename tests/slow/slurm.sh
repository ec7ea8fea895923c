#!/bin/sh
# A SLURM cluster of one node on this machine's loopback, in a folder: slurm.sh start DIR | stop DIR. Needs root, and munged,
# slurmctld and slurmd (Debian: slurmctld slurmd slurm-client munge). Clients find it by SLURM_CONF=DIR/slurm.conf.
set -eu
dir=$2
case $1 in
start)
    mkdir -p "$dir/state" "$dir/spool" "$dir/munge"
    host=$(hostname -s)
    memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.8) }' /proc/meminfo)
    cat > "$dir/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
MaxArraySize=1001
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    head -c 1024 /dev/urandom > "$dir/munge/key"
    chmod 700 "$dir/munge"
    chmod 400 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    slurmctld -f "$dir/slurm.conf" -c
    slurmd -f "$dir/slurm.conf" -c
    ;;
stop)
    SLURM_CONF=$dir/slurm.conf timeout 10 scancel --user=root || true
    sleep 2
    for pid in slurmd.pid slurmctld.pid munge/pid; do
        [ ! -f "$dir/$pid" ] || kill "$(cat "$dir/$pid")" || true
    done
    ;;
esac
