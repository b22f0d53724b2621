// Two ranks exchange messages of 1 byte to 4 MiB; each checks every byte it gets.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { kLargest = 1 << 22, kRounds = 5 };

static char Expected(int at, int round, int rank) { return (char)(at * 7 + round + 3 * rank); }

static void Send(char* buffer, int bytes, int round, int rank) {
  for (int i = 0; i < bytes; ++i) buffer[i] = Expected(i, round, rank);
  MPI_Send(buffer, bytes, MPI_CHAR, 1 - rank, bytes, MPI_COMM_WORLD);
}

static void Receive(char* buffer, int bytes, int round, int rank) {
  for (int i = 0; i < bytes; ++i) buffer[i] = 0;
  MPI_Recv(buffer, bytes, MPI_CHAR, 1 - rank, bytes, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  for (int i = 0; i < bytes; ++i) {
    if (buffer[i] == Expected(i, round, 1 - rank)) continue;
    fprintf(stderr, "byte %d of %d is wrong\n", i, bytes);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  char* buffer = malloc(kLargest);
  for (int bytes = 1; bytes <= kLargest; bytes *= 8) {
    for (int round = 0; round < kRounds; ++round) {
      if (rank == 0) Send(buffer, bytes, round, rank);
      Receive(buffer, bytes, round, rank);
      if (rank == 1) Send(buffer, bytes, round, rank);
    }
  }
  free(buffer);
  if (rank == 0) puts("every byte was right");
  MPI_Finalize();
  return 0;
}
