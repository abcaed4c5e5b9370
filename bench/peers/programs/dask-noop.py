"""dask-noop.py ADDRESS: for each number on standard input runs so many commands, then prints a line."""
import subprocess
import sys

from distributed import Client, as_completed


def noop(_):
    subprocess.run(["/bin/true"], check=True)


client = Client(sys.argv[1])
client.wait_for_workers(2)
print("ready", flush=True)
for line in sys.stdin:
    futures = client.map(noop, range(int(line)), pure=False)
    for future in as_completed(futures):
        future.result()
    del futures, future
    print("done", flush=True)
