/*
 * ring [SECONDS [FILE]]: a token goes once around all ranks, each adding one to it, and all agree on the sum of their
 * numbers. With SECONDS it goes on around until then, and each rank appends its process to FILE first.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int round_trip(int rank, int size)
{
	int token = 0, from = (rank + size - 1) % size, to = (rank + 1) % size;

	if (rank > 0)
		MPI_Recv(&token, 1, MPI_INT, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	token += 1;
	if (size > 1)
		MPI_Send(&token, 1, MPI_INT, to, 0, MPI_COMM_WORLD);
	if (rank == 0 && size > 1)
		MPI_Recv(&token, 1, MPI_INT, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	return token;
}

int main(int count, char **words)
{
	int rank, size, token, sum, more;
	double end;

	MPI_Init(&count, &words);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	end = MPI_Wtime() + (count > 1 ? atof(words[1]) : 0);
	if (count > 2) {
		FILE *file = fopen(words[2], "a");
		if (file == NULL)
			MPI_Abort(MPI_COMM_WORLD, 3);
		fprintf(file, "%d\n", rank);
		fclose(file);
	}
	do {
		token = round_trip(rank, size);
		MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
		if (count > 1)
			usleep(10000);
		/* the first decides for all, whose clocks differ */
		more = MPI_Wtime() < end;
		MPI_Bcast(&more, 1, MPI_INT, 0, MPI_COMM_WORLD);
	} while (more);
	if (rank == 0)
		printf("token %d of %d ranks, sum %d\n", token, size, sum);
	MPI_Finalize();
	return 0;
}
