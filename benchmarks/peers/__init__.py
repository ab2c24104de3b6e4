"""One adapter for each queue that is measured. Each runs in that queue's own virtual environment, as a program:

    python NAME_peer.py produce bulk COUNT            jobs due now, in the fastest way that its documentation has
    python NAME_peer.py produce single COUNT          the same, one by one, each awaited; the first is not timed
    python NAME_peer.py produce at COUNT FIRST STEP   job n is due at FIRST + n * STEP (ms since 1970, cut to an int)
    python NAME_peer.py work                          one worker process, until it is killed

`produce` prints `{"seconds": …}`: what the adding took, without the start of the process. BENCH_URL is the Redis,
BENCH_LEDGER the file to which each job appends 24 bytes, BENCH_EPOCH what the times in it count from (us),
BENCH_CONCURRENCY how many jobs a worker may run at once, BENCH_FIRST the number of the first job.
"""
