/*
 * ring FILE: what a program of MPI takes by its own clock, written to FILE as one line of seconds: a phase of computing, and
 * blocks of 1 MiB and of 8 B that go around all ranks.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { block = 1 << 20, large_rounds = 60, small_rounds = 2000, steps = 20000000 };

static void rounds(char *bytes, int length, int count, int rank, int size)
{
	int from = (rank + size - 1) % size, to = (rank + 1) % size;

	for (int n = 0; n < count; n++)
		MPI_Sendrecv_replace(bytes, length, MPI_CHAR, to, 0, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

int main(int count, char **words)
{
	int rank, size;
	char *bytes = calloc(1, block);
	double times[4];
	volatile double sum = 0;

	MPI_Init(&count, &words);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	/* the first messages pay for the connections */
	rounds(bytes, 8, 2, rank, size);
	MPI_Barrier(MPI_COMM_WORLD);
	times[0] = MPI_Wtime();
	for (int n = 1; n < steps; n++)
		sum += 1.0 / n;
	MPI_Barrier(MPI_COMM_WORLD);
	times[1] = MPI_Wtime();
	rounds(bytes, block, large_rounds, rank, size);
	MPI_Barrier(MPI_COMM_WORLD);
	times[2] = MPI_Wtime();
	rounds(bytes, 8, small_rounds, rank, size);
	MPI_Barrier(MPI_COMM_WORLD);
	times[3] = MPI_Wtime();
	if (rank == 0) {
		FILE *file = fopen(words[1], "w");
		if (file == NULL)
			MPI_Abort(MPI_COMM_WORLD, 3);
		fprintf(file, "%f %f %f\n", times[1] - times[0], times[2] - times[1], times[3] - times[2]);
		fclose(file);
	}
	MPI_Finalize();
	return 0;
}
