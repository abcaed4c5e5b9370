/* pi by the midpoint rule, the intervals dealt out over all ranks: mpicc -O2 -o pi pi.c */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, size, length;
  char name[MPI_MAX_PROCESSOR_NAME];
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_processor_name(name, &length);

  long intervals = argc > 1 ? atol(argv[1]) : 1000000;
  double mine = 0, all = 0;
  for (long i = rank; i < intervals; i += size) {
    double x = (i + 0.5) / intervals;
    mine += 4 / (1 + x * x);
  }
  mine /= intervals;
  printf("%s adds %.6f\n", name, mine);
  MPI_Reduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);

  if (rank == 0) {
    printf("pi is about %.6f\n", all);
    FILE *file = fopen("pi.txt", "w");
    if (file == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
    fprintf(file, "%.6f\n", all);
    fclose(file);
  }
  MPI_Finalize();
  return 0;
}
