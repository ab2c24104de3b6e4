"""`redsched demo`: a whole day with a DST change, in about a minute, on real worker processes, with an account.

Read `director.py` for what happens, `expected.py` for the independent list of fires that the account is checked
against, and `account.py` for what "it adds up" means.
"""
