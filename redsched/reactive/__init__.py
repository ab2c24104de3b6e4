"""Events become jobs: observables, async iterators and Redis Streams as sources."""
