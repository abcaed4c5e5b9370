#!/bin/sh
#SBATCH --job-name=pi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=00:05:00
mpirun -n "$SLURM_NTASKS" ./pi 1000000
srun ./pi 1000
