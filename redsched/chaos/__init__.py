"""`redsched chaos`: real servers, real worker processes, one fault after the other, and an independent account.

Reading order: `wishes` (what is asked for), `ledger` and `tasks` (what is done, noted outside of Redis), `place`
(servers, workers, proxy), `given` (a server that the run does not start), `faults` (what is broken), `producer` (how
jobs come in meanwhile), `verdict` (was anything lost, doubled, early…), `cell` (one fault from its beginning to its
verdict), `report` and `cli`.
"""
