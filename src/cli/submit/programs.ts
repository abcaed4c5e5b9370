/**
 * Two shell programs that go along with a script: one that becomes it, with what Slurm would have set; and an `srun` for it,
 * which starts the job's tasks through mpirun. Both are POSIX shell.
 */

/** Where they and the script lie, below the working directory. */
export const kitDirectory = '.batchmesh'

/** `sh .batchmesh/launch [-j] [-D DIR] SCRIPT ARGS…`: -j puts standard error into standard output, as Slurm does. */
export const launcher = `#!/bin/sh
# Becomes the script of a "batchmesh submit".
join= directory=
while getopts jD: option; do
  case $option in
    j) join=1 ;;
    D) directory=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
script=$PWD/${kitDirectory}/script/$1
shift
PATH=$PWD/${kitDirectory}/bin:$PATH
# What was beside the script when it was submitted and has been brought along is here.
SLURM_SUBMIT_DIR=$PWD
SLURMD_NODENAME=$(uname -n)
SLURM_JOB_NODELIST=\${AZ_BATCH_HOST_LIST:-$SLURMD_NODENAME}
# An mpirun that finds these variables would ask a Slurm that is not there.
: "\${OMPI_MCA_plm:=^slurm}" "\${OMPI_MCA_ras:=^slurm}" "\${PRTE_MCA_plm:=^slurm}" "\${PRTE_MCA_ras:=^slurm}"
export PATH SLURM_SUBMIT_DIR SLURMD_NODENAME SLURM_JOB_NODELIST OMPI_MCA_plm OMPI_MCA_ras PRTE_MCA_plm PRTE_MCA_ras
[ -z "$join" ] || exec 2>&1
case $directory in
  '') ;;
  /*) cd "$directory" || exit 1 ;;
  *) mkdir -p "$directory" && cd "$directory" || exit 1 ;;
esac
exec "$script" "$@"
`

/** What mpirun starts in the place of each task: sets its number, then becomes it. */
const asTask =
  'SLURM_PROCID=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}} SLURM_LOCALID=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-0}}; export SLURM_PROCID SLURM_LOCALID; exec "$@"'

export const srun = `#!/bin/sh
# srun for the script of a "batchmesh submit": starts tasks through mpirun.
fail() {
  echo "srun: $*" >&2
  exit 2
}
n= nodes= per= label=
while [ $# -gt 0 ]; do
  case $1 in
    --) shift; break ;;
    -n | --ntasks) n=$2; shift ;;
    --ntasks=*) n=\${1#*=} ;;
    -n[0-9]*) n=\${1#-n} ;;
    -N | --nodes) nodes=$2; shift ;;
    --nodes=*) nodes=\${1#*=} ;;
    -N[0-9]*) nodes=\${1#-N} ;;
    --ntasks-per-node) per=$2; shift ;;
    --ntasks-per-node=*) per=\${1#*=} ;;
    -l | --label) label=1 ;;
    # The script's own tasks have these already.
    -c | -t | -J | --cpus-per-task | --time | --job-name | --mpi | --cpu-bind | --mem | --mem-per-cpu) shift ;;
    -c[0-9]* | -t[0-9]* | --cpus-per-task=* | --time=* | --job-name=* | --mpi=* | --cpu-bind=* | --mem=* | --mem-per-cpu=*) ;;
    --export=ALL | --exclusive | --exact | --overlap | -u | --unbuffered | -K | --kill-on-bad-exit | -Q | --quiet) ;;
    -*) fail "$1 is not known to the srun of batchmesh submit; mpirun takes more" ;;
    *) break ;;
  esac
  shift
done
[ $# -gt 0 ] || fail 'name the program to start'
for number in "$n" "$nodes" "$per"; do
  case $number in *[!0-9]*) fail "$number is no whole number" ;; esac
done
[ -n "$n" ] || [ -z "$nodes$per" ] || n=$((\${nodes:-$SLURM_JOB_NUM_NODES} * \${per:-1}))
n=\${n:-\${SLURM_NTASKS:-1}}
if [ "$n" -eq 1 ]; then
  SLURM_PROCID=0 SLURM_LOCALID=0
  export SLURM_PROCID SLURM_LOCALID
  exec "$@"
fi
command -v mpirun >/dev/null || fail "$n tasks are started by mpirun, which this machine does not have"
home=
case $(mpirun --version 2>/dev/null) in
  *'Open MPI'* | *OpenRTE*)
    set -- sh -c '${asTask}' srun "$@"
    [ -z "$per" ] || set -- --npernode "$per" "$@"
    [ -z "$label" ] || set -- --tag-output "$@" ;;
  *)
    # MPICH starts tasks in the directory of the first node, which the others do not have.
    [ "$SLURM_JOB_NUM_NODES" -eq 1 ] || home='cd "$HOME" && '
    set -- sh -c "$home"'${asTask}' srun "$@"
    [ -z "$home" ] || set -- -wdir / -genvlist UCX_TLS "$@"
    [ -z "$per" ] || set -- -ppn "$per" "$@"
    [ -z "$label" ] || set -- -prepend-rank "$@" ;;
esac
# How many may run where was decided when the job got its nodes.
OMPI_MCA_rmaps_base_oversubscribe=1 exec mpirun -n "$n" "$@"
`
