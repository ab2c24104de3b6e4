"""One adapter for each queue that is measured. Each runs in that queue's own virtual environment, as a program:

    python NAME.py produce bulk COUNT            jobs that are due now, in the fastest way that its documentation has
    python NAME.py produce single COUNT          the same, one by one, each awaited
    python NAME.py produce at COUNT FIRST STEP   job n is due at FIRST + n * STEP (us since the epoch)
    python NAME.py work                          one worker process, until it is killed

BENCH_URL is the Redis, BENCH_LEDGER the file to which each job appends its number and the time.
"""
