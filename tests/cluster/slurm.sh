#!/usr/bin/env bash
# A SLURM cluster of one node on this machine, for tests: `slurm.sh start FOLDER`, `slurm.sh stop FOLDER`. Needs root, and Debian's
# packages slurm-wlm and munge. Its configuration, state and logs are in FOLDER; `export SLURM_CONF=FOLDER/slurm.conf` to use it.
set -euo pipefail
action=$1 folder=$(realpath -m "$2")
cpus=${CPUS:-2}

start() {
  mkdir -p "$folder"/state "$folder"/spool /run/munge
  host=$(hostname -s)
  [ -f /etc/munge/munge.key ] || { dd if=/dev/urandom bs=1 count=1024 of=/etc/munge/munge.key status=none; }
  chown munge:munge /etc/munge/munge.key /run/munge
  chmod 400 /etc/munge/munge.key
  runuser -u munge -- munged --force --pid-file=/run/munge/munged.pid
  cat > "$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${PORT:-16817}
SlurmdPort=$((${PORT:-16817} + 1))
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=60
MinJobAge=600
SchedulerParameters=requeue_delay=1
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  echo "CgroupPlugin=disabled" > "$folder/cgroup.conf"
  export SLURM_CONF="$folder/slurm.conf"
  slurmctld -f "$SLURM_CONF" -c
  slurmd -f "$SLURM_CONF" -c
  for _ in $(seq 100); do
    if sinfo -h -o %T 2> /dev/null | grep -q idle; then
      exit 0
    fi
    sleep 0.2
  done
  echo "the node did not become idle; see $folder/*.log" >&2
  exit 1
}

stop() {
  for daemon in slurmd slurmctld; do
    [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" || true
  done
  [ -f /run/munge/munged.pid ] && kill "$(cat /run/munge/munged.pid)" || true
}

"$action"
