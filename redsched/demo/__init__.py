"""`redsched demo`: a whole day with a DST change, in about a minute, on real worker processes, with an account.

Read `director.py` for what happens, `expected.py` for the list of fires that it is checked against (computed without
the scheduler), and `account.py` for what "it adds up" means.
"""
