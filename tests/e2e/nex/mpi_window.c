// One-sided: each rank writes its number into every other one's memory and counts at rank 0.
#include <mpi.h>
#include <stdio.h>

enum { kCounts = 100, kFirst = 1000 };

static void Access(MPI_Win window, int rank, int ranks) {
  const long one = 1;
  MPI_Win_lock_all(0, window);
  for (int i = 0; i < kCounts; ++i) {
    long before;
    MPI_Fetch_and_op(&one, &before, MPI_LONG, 0, ranks, MPI_SUM, window);
    MPI_Win_flush(0, window);
  }
  const long number = kFirst + rank;
  for (int target = 0; target < ranks; ++target) {
    MPI_Put(&number, 1, MPI_LONG, target, rank, 1, MPI_LONG, window);
  }
  MPI_Win_flush_all(window);
  MPI_Win_unlock_all(window);
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  long* memory;  // a number of each rank, and the count behind them
  MPI_Win window;
  MPI_Win_allocate(sizeof(long) * (ranks + 1), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &memory,
                   &window);
  for (int i = 0; i <= ranks; ++i) memory[i] = 0;
  MPI_Barrier(MPI_COMM_WORLD);
  Access(window, rank, ranks);
  MPI_Barrier(MPI_COMM_WORLD);
  int wrong = rank == 0 && memory[ranks] != (long)kCounts * ranks;
  for (int i = 0; i < ranks; ++i) wrong += memory[i] != kFirst + i;
  int all = 0;
  MPI_Allreduce(&wrong, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0 && all == 0) puts("every number was right");
  MPI_Win_free(&window);
  MPI_Finalize();
  return all != 0;
}
