/* The baseline of shared memory: allreduce ELEMENTS REDUCTIONS TURNS prints milliseconds a reduction of doubles, and
 * microseconds of eight bytes one way, between ranks 0 and 1. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, count = atoi(argv[1]), reductions = atoi(argv[2]), turns = atoi(argv[3]);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  double *data = malloc(count * sizeof(double)), *into = malloc(count * sizeof(double)), one = 0;
  for (int i = 0; i < count; i++) data[i] = rank + 1;
  for (int turn = 0; turn < 3; turn++) MPI_Allreduce(data, into, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  MPI_Barrier(MPI_COMM_WORLD);
  double start = MPI_Wtime();
  for (int turn = 0; turn < reductions; turn++) MPI_Allreduce(data, into, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  double reduced = (MPI_Wtime() - start) / reductions;
  for (int turn = -turns / 10; turn < turns && rank < 2; turn++) {
    if (turn == 0) start = MPI_Wtime();
    if (rank == 0) MPI_Send(&one, 1, MPI_DOUBLE, 1, 0, MPI_COMM_WORLD);
    MPI_Recv(&one, 1, MPI_DOUBLE, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank == 1) MPI_Send(&one, 1, MPI_DOUBLE, 0, 0, MPI_COMM_WORLD);
  }
  double latency = (MPI_Wtime() - start) / turns / 2;
  if (rank == 0) printf("{\"allreduceMs\":%f,\"latencyUs\":%f}\n", reduced * 1e3, latency * 1e6);
  MPI_Finalize();
  return 0;
}
