"""Jobs: how they are described, checked, stored and shown."""
